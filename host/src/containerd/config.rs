//! containerd's configuration for this node: the image's template with what only the node knows filled in.

use engine::{Context, Controller, Inputs, Outputs, Wanted};
use model::host::EtcFileSpec;

/// The template, which the image cache is proven with as well.
const TEMPLATE: &str = include_str!("../../../payload/containerd/config.toml");
/// Where images are looked for first.
const HOSTS: &str = include_str!("../../../payload/containerd/hosts/_default/hosts.toml");

/// The configuration for a node that may or may not lower scores for the out-of-memory killer.
#[must_use]
pub fn render(may_lower_oom_score: bool) -> String {
    if may_lower_oom_score {
        return TEMPLATE.to_owned();
    }
    TEMPLATE.replace("oom_score = -999", "oom_score = 0").replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
}

/// Wants containerd's files.
#[derive(Debug)]
pub struct ContainerdFiles {
    /// Whether this node may lower scores for the out-of-memory killer.
    pub may_lower_oom_score: bool,
}

/// Nothing: what is read is known from the start.
#[derive(Inputs)]
pub struct In {}

fn file(text: &str) -> EtcFileSpec {
    EtcFileSpec { contents: text.as_bytes().to_vec().into(), mode: 0o644, ..EtcFileSpec::default() }
}

impl Controller for ContainerdFiles {
    const NAME: &'static str = "cri.ContainerdFilesController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new().shared::<EtcFileSpec>()
    }

    async fn reconcile(&self, _: &Context, _: In) -> engine::Result<Wanted> {
        let wanted = Wanted::new().with("cri/containerd.toml", file(&render(self.may_lower_oom_score)));
        Ok(wanted.with("cri/conf.d/hosts/_default/hosts.toml", file(HOSTS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_right_to_lower_scores_none_is_asked_for() {
        let text = render(false);
        assert!(text.contains("\noom_score = 0\n") && text.contains("\nrestrict_oom_score_adj = true\n"), "{text}");
        assert_ne!(render(true), text);
    }
}
