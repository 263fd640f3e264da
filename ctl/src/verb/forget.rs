//! `forget`: takes a machine out of the cluster that vanished without goodbye.

use anyhow::bail;
use api::client::{Client, Context, Options};
use api::orlop::cluster::v1::{ForgetRequest, ForgetResponse};
use clap::Args;
use tonic::{Code, Status};

use crate::session::Session;

/// Take a node out of the cluster that is gone for good: out of etcd, Kubernetes and discovery, at once.
#[derive(Debug, Args)]
pub struct Forget {
    /// Its name, address or node id.
    node: String,
    /// Also when it is alive.
    #[arg(long)]
    force: bool,
}

impl Forget {
    /// Asks a control plane for it, and says what was done.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        let response = forget(&session.usable()?, &self.node, self.force).await?;
        report(&response, |line| println!("{line}"))
    }
}

/// Tells the steps; an error when one failed.
pub fn report(response: &ForgetResponse, tell: impl Fn(&str)) -> anyhow::Result<()> {
    for step in &response.steps {
        let outcome = if step.error.is_empty() { step.done.clone() } else { format!("FAILED: {}", step.error) };
        tell(&format!("{}: {}: {outcome}", response.node, step.place));
    }
    let failed: Vec<_> = response.steps.iter().filter(|s| !s.error.is_empty()).map(|s| s.place.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} is not wholly forgotten: {} failed; the same command again does what is left", response.node, failed.join(", "))
}

/// Whether it was refused because the node lives: the other control planes would refuse it too.
fn lives(status: &Status) -> bool {
    status.code() == Code::Aborted
}

/// Asks the control planes in turn: one may be what is to be forgotten.
pub async fn forget(context: &Context, node: &str, force: bool) -> anyhow::Result<ForgetResponse> {
    let mut failures = Vec::new();
    for endpoint in &context.endpoints {
        let one = Context { endpoints: vec![endpoint.clone()], ..context.clone() };
        let client = Client::new(&one, Options::default())?;
        match client.membership().forget(ForgetRequest { node: node.to_owned(), force }).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument) => {
                bail!("{} ({:?})", status.message(), status.code())
            }
            Err(status) => {
                failures.push(format!("{endpoint}: {}", status.message()));
                if lives(&status) {
                    break;
                }
            }
        }
    }
    match failures.is_empty() {
        true => bail!("no endpoints: set them in the context with `orlopctl config endpoint ADDRESS…`, or give --endpoints"),
        false => bail!("{}", failures.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use api::orlop::cluster::v1::ForgetStep;

    use super::*;

    #[test]
    fn only_a_node_that_lives_ends_the_round() {
        assert!(lives(&Status::aborted("cp-2 is alive")));
        assert!(!lives(&Status::failed_precondition("cp-2 is not known to discovery; to do it nevertheless, --force")));
    }

    #[test]
    fn each_step_is_told_and_a_failed_one_fails_the_verb() {
        let step = |place: &str, error: &str| ForgetStep { place: place.into(), done: "done".into(), error: error.into() };
        let response = ForgetResponse { node: "cp-2".into(), steps: vec![step("etcd", "no leader"), step("discovery", "")] };
        let lines = std::cell::RefCell::new(Vec::new());
        let error = report(&response, |line| lines.borrow_mut().push(line.to_owned())).unwrap_err();
        assert_eq!(*lines.borrow(), ["cp-2: etcd: FAILED: no leader", "cp-2: discovery: done"]);
        assert!(error.to_string().contains("etcd failed"), "{error}");
    }
}
