//! The host name: what each source proposes, which proposal wins, and making it so.

use std::sync::Arc;

use engine::{Context, Controller, Inputs, Many, One, OneExt, Outputs, Wanted};
use model::cluster::Identity;
use model::config::machine::HostnameSource;
use model::host::{MachineConfig, MaintenanceServiceRequest};
use model::net::{ConfigLayer, HostnameSpec, HostnameStatus, NodeAddress, PlatformConfig};
use sha2::{Digest, Sha256};

use crate::hands::Hands;
use crate::layers::{CONFIG, in_order, prefix};

/// The id of the one host name.
const ID: &str = "hostname";
/// Longest host name and domain name the kernel takes (`__NEW_UTS_LEN`).
const MAX: usize = 64;

/// What each source proposes.
pub(crate) struct HostnameConfigController;

#[derive(Inputs)]
pub(crate) struct ConfigIn {
    #[input(id = "v1alpha1")]
    config: One<MachineConfig>,
    #[input(id = "local")]
    identity: One<Identity>,
    #[input(id = "default")]
    address: One<NodeAddress>,
    #[input(id = "active")]
    platform: One<PlatformConfig>,
    maintenance: Many<MaintenanceServiceRequest>,
}

impl Controller for HostnameConfigController {
    const NAME: &'static str = "network.HostnameConfigController";
    type In = ConfigIn;

    fn outputs() -> Outputs {
        Outputs::new().shared_in::<HostnameSpec>(CONFIG)
    }

    async fn reconcile(&self, _: &Context, input: ConfigIn) -> engine::Result<Wanted> {
        let mut wanted = Wanted::new();
        let mut add = |layer: ConfigLayer, name: &str| {
            if let Some(spec) = named(name, layer) {
                wanted.add_in(CONFIG, prefix(layer, ID), spec, engine::Marks::default());
            }
        };
        if let Some(platform) = input.platform.spec()
            && let Some(name) = platform.hostnames.first()
        {
            add(ConfigLayer::Platform, &fqdn(&name.hostname, &name.domainname));
        }
        let source = match input.config.spec().and_then(|config| config.machine()) {
            Some(machine) => machine.hostname(),
            // Before the configuration is there nothing is known of what it wants; in maintenance there is none.
            None if input.maintenance.is_empty() => HostnameSource::Off,
            None => HostnameSource::FromAddress,
        };
        match source {
            HostnameSource::Static(name) => add(ConfigLayer::Configuration, &name),
            HostnameSource::Stable => {
                if let Some(identity) = input.identity.spec() {
                    add(ConfigLayer::Default, &stable(&identity.node_id));
                }
            }
            HostnameSource::FromAddress => {
                if let [address] = input.address.spec().map(|list| list.addresses.as_slice()).unwrap_or_default() {
                    add(ConfigLayer::Default, &format!("talos-{}", address.addr().to_string().replace('.', "-").replace(':', "")));
                }
            }
            HostnameSource::Off => {}
        }
        Ok(wanted)
    }
}

/// A host name made from the node's identity, the same for as long as the identity lives: `talos-` and two groups of three characters
/// of the base-36 form of the first 8 bytes of the identity's SHA-256, leaving the first character out.
#[must_use]
pub fn stable(node_id: &str) -> String {
    let hash = Sha256::digest(node_id.as_bytes());
    let mut number = hash.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mut digits = Vec::new();
    while number > 0 || digits.len() < 7 {
        digits.push(char::from_digit(u32::try_from(number % 36).unwrap_or(0), 36).unwrap_or('0'));
        number /= 36;
    }
    digits.reverse();
    let part = |from: usize| digits[from..from + 3].iter().collect::<String>();
    format!("talos-{}-{}", part(1), part(4))
}

fn fqdn(hostname: &str, domainname: &str) -> String {
    if domainname.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domainname}") }
}

/// Splits a name at its first dot; `None` when it is no host name.
fn named(name: &str, layer: ConfigLayer) -> Option<HostnameSpec> {
    let name = name.trim().trim_end_matches('.');
    let (hostname, domainname) = name.split_once('.').unwrap_or((name, ""));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let ok = label(hostname) && domainname.len() <= MAX && (domainname.is_empty() || domainname.split('.').all(label));
    if !ok {
        tracing::warn!(name, %layer, "not a host name; left out");
        return None;
    }
    Some(HostnameSpec { hostname: hostname.to_owned(), domainname: domainname.to_owned(), layer })
}

/// The proposal of the last layer wins.
pub(crate) struct HostnameMergeController;

#[derive(Inputs)]
pub(crate) struct MergeIn {
    #[input(namespace = "network-config")]
    specs: Many<HostnameSpec>,
}

impl Controller for HostnameMergeController {
    const NAME: &'static str = "network.HostnameMergeController";
    type In = MergeIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<HostnameSpec>()
    }

    async fn reconcile(&self, _: &Context, input: MergeIn) -> engine::Result<Wanted> {
        Ok(Wanted::new().maybe(ID, in_order(&input.specs).last().map(|(_, spec)| (*spec).clone())))
    }
}

/// Tells the kernel.
pub(crate) struct HostnameApplyController {
    pub(crate) hands: Arc<dyn Hands>,
}

#[derive(Inputs)]
pub(crate) struct ApplyIn {
    #[input(id = "hostname")]
    spec: One<HostnameSpec>,
}

impl Controller for HostnameApplyController {
    const NAME: &'static str = "network.HostnameSpecController";
    type In = ApplyIn;

    fn outputs() -> Outputs {
        Outputs::new().exclusive::<HostnameStatus>()
    }

    async fn reconcile(&self, _: &Context, input: ApplyIn) -> engine::Result<Wanted> {
        let Some(spec) = input.spec.spec() else { return Ok(Wanted::unchanged().waiting_for("a host name")) };
        self.hands.set_hostname(&spec.hostname, &spec.domainname)?;
        let status = HostnameStatus { hostname: spec.hostname.clone(), domainname: spec.domainname.clone() };
        Ok(Wanted::new().with(ID, status))
    }
}

#[cfg(test)]
mod tests {
    use engine::one;

    use super::*;
    use crate::hands::fake::FakeHands;

    fn config(text: &str) -> One<MachineConfig> {
        one("v1alpha1", MachineConfig::new(text.as_bytes()))
    }

    fn input(config: One<MachineConfig>) -> ConfigIn {
        ConfigIn { config, identity: None, address: None, platform: None, maintenance: Many::of(Vec::<(&str, _)>::new()) }
    }

    async fn proposals(input: ConfigIn) -> Vec<(String, String)> {
        let wanted = HostnameConfigController.reconcile(&Context::detached(), input).await.unwrap();
        let mut all: Vec<_> =
            wanted.specs::<HostnameSpec>().map(|(id, spec)| (id.to_owned(), fqdn(&spec.hostname, &spec.domainname))).collect();
        all.sort();
        all
    }

    #[tokio::test]
    async fn each_source_proposes() {
        let platform = PlatformConfig {
            hostnames: vec![HostnameSpec { hostname: "from-platform".into(), ..HostnameSpec::default() }],
            ..PlatformConfig::default()
        };
        let set = "apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: node-1.example.org\n";
        let with = ConfigIn { platform: one("active", platform), ..input(config(set)) };
        assert_eq!(
            proposals(with).await,
            [
                ("configuration/hostname".to_owned(), "node-1.example.org".to_owned()),
                ("platform/hostname".to_owned(), "from-platform".to_owned())
            ]
        );
        let stable = "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: stable\n";
        let with = ConfigIn { identity: one("local", Identity { node_id: "x".into() }), ..input(config(stable)) };
        assert_eq!(proposals(with).await[0].0, "default/hostname");
        assert_eq!(proposals(input(None)).await, [], "without a configuration nothing is known");
    }

    #[tokio::test]
    async fn a_name_from_the_only_address() {
        let address = |list: &[&str]| {
            let addresses = list.iter().map(|text| text.parse().unwrap()).collect();
            one("default", NodeAddress { addresses, ..NodeAddress::default() })
        };
        let maintenance = || Many::of([("maintenance", MaintenanceServiceRequest::default())]);
        let with = |list: &[&str]| ConfigIn { address: address(list), maintenance: maintenance(), ..input(None) };
        assert_eq!(proposals(with(&["10.5.0.2/24"])).await, [("default/hostname".to_owned(), "talos-10-5-0-2".to_owned())]);
        assert_eq!(proposals(with(&["fd00::1/64"])).await[0].1, "talos-fd001");
        assert_eq!(proposals(with(&["10.5.0.2/24", "10.6.0.2/24"])).await, []);
    }

    /// By hand: sha256("abc") begins ba7816bf8f01cfea, in base 36 2u2yoltrmwqju → without the 2: `u2y`, `olt`.
    #[test]
    fn the_stable_name_is_as_documented() {
        let mut number = 0xba78_16bf_8f01_cfea_u64;
        let mut text = String::new();
        while number > 0 {
            text.insert(0, char::from_digit(u32::try_from(number % 36).unwrap(), 36).unwrap());
            number /= 36;
        }
        assert_eq!(stable("abc"), format!("talos-{}-{}", &text[1..4], &text[4..7]));
        assert_eq!(stable("abc").len(), "talos-xxx-xxx".len());
    }

    #[test]
    fn what_is_no_host_name_is_left_out() {
        for bad in ["", ".", "a b", "-a", &"a".repeat(64), "a..b", "a.b c"] {
            assert!(named(bad, ConfigLayer::Platform).is_none(), "{bad:?}");
        }
        let split = named("a.b.c.", ConfigLayer::Platform).unwrap();
        assert_eq!((split.hostname.as_str(), split.domainname.as_str()), ("a", "b.c"));
    }

    #[tokio::test]
    async fn the_last_layer_wins_and_is_applied() {
        let spec = |name: &str, layer| HostnameSpec { hostname: name.into(), layer, ..HostnameSpec::default() };
        let specs = Many::of([
            ("configuration/hostname", spec("c", ConfigLayer::Configuration)),
            ("default/hostname", spec("d", ConfigLayer::Default)),
            ("platform/hostname", spec("p", ConfigLayer::Platform)),
        ]);
        let merged = HostnameMergeController.reconcile(&Context::detached(), MergeIn { specs }).await.unwrap();
        let winner = merged.get::<HostnameSpec>("hostname").unwrap().clone();
        assert_eq!(winner.hostname, "c");
        let hands = Arc::new(FakeHands::default());
        let controller = HostnameApplyController { hands: hands.clone() };
        let wanted = controller.reconcile(&Context::detached(), ApplyIn { spec: one("hostname", winner) }).await.unwrap();
        assert_eq!(wanted.get::<HostnameStatus>("hostname").unwrap().hostname, "c");
        assert_eq!(*hands.hostname.lock().unwrap(), Some(("c".into(), String::new())));
    }
}
