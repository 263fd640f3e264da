//! Where the node's configuration comes from, in order: what was applied before (STATE), then the platform. Without one the node stays in
//! maintenance mode and says why.
//!
//! The active configuration is the resource `MachineConfigs/v1alpha1`, the one to start with next time `MachineConfigs/persistent`.
//! Who applies a new one writes a [`ConfigRequest`]; this controller alone validates, persists and activates.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engine::{Context, Controller, Inputs, Many, Marks, Outputs, Wanted};
use model::config::machine::CaPem;
use model::config::{Config, Loaded, Mode, Options, Problems};
use model::host::{AcquireConfigStatus, Diagnostic, MachineConfig, MachineRole, MachineType, MaintenanceServiceRequest};
use model::services::ConfigRequest;
use pki::Ca;

/// The id of the active configuration.
pub const ACTIVE: &str = "v1alpha1";
/// The id of the configuration to start with next time.
pub const PERSISTENT: &str = "persistent";
/// The id of the diagnostic that tells why there is no configuration.
pub const DIAGNOSTIC: &str = "machine-config";

/// Finds and keeps the configuration.
#[derive(Debug)]
pub struct ConfigController {
    /// The file of the configuration to start with: `/system/state/config.yaml`.
    pub file: PathBuf,
    /// What the platform gave, when it gave something: the bytes, or why they could not be read.
    pub platform: Option<Result<Vec<u8>, String>>,
    /// How configurations are checked.
    pub mode: Mode,
}

/// What was asked for since.
#[derive(Inputs)]
pub struct In {
    requests: Many<ConfigRequest>,
}

/// Why a configuration is not taken.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

/// Loads and validates; the warnings come with it.
///
/// # Errors
/// All problems at once.
pub fn check(bytes: &[u8], mode: Mode) -> Result<(Loaded, Vec<String>), Refused> {
    let lines = |problems: &Problems| problems.to_string().lines().map(str::to_owned).collect::<Vec<_>>();
    let loaded = Config::load(bytes).map_err(|p| Refused { problems: lines(&p) })?;
    let found = loaded.text.validate(mode, Options { strict: false, local: false });
    if found.refuses() {
        return Err(Refused { problems: lines(&found) });
    }
    let unusable = authorities(&loaded.machine);
    if !unusable.is_empty() {
        return Err(Refused { problems: unusable });
    }
    Ok((loaded, lines(&found)))
}

/// Keys that are not those of their certificates, and certificates that may not sign others: with them the node would have no API.
fn authorities(machine: &model::config::MachineConfig) -> Vec<String> {
    let pairs = [
        ("machine.ca", machine.base.ca.clone()),
        ("cluster.ca", machine.kubernetes_ca()),
        ("cluster.aggregatorCA", machine.aggregator_ca()),
        ("cluster.etcd.ca", machine.base.etcd.ca.clone()),
    ];
    let unusable = |(path, pair): (&str, Option<CaPem>)| {
        let pair = pair.filter(|p| !p.key.is_empty())?;
        let error = Ca::from_pem(&pair.cert, pair.key.expose()).err()?;
        Some(format!("{path}: {error}"))
    };
    pairs.into_iter().filter_map(unusable).collect()
}

/// What was persisted, if anything was.
fn kept(file: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the node starts with: the bytes, and where they are from.
fn first(file: &Path, platform: Option<&Result<Vec<u8>, String>>) -> Result<Option<(Vec<u8>, &'static str)>, String> {
    if let Some(bytes) = kept(file).map_err(|error| format!("{}: {error}", file.display()))? {
        return Ok(Some((bytes, "the configuration applied before")));
    }
    match platform {
        Some(Ok(bytes)) => Ok(Some((bytes.clone(), "the platform's user data"))),
        Some(Err(reason)) => Err(format!("the platform's user data: {reason}")),
        None => Ok(None),
    }
}

/// Writes the configuration whole or not at all, for root only.
fn persist(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::read(file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let partial = file.with_extension("part");
    let mut open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    std::fs::rename(&partial, file)?;
    if let Some(parent) = file.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn role(loaded: &Loaded) -> MachineRole {
    use model::config::MachineType as Configured;
    match loaded.machine.machine_type() {
        Configured::Init => MachineRole::Init,
        Configured::ControlPlane => MachineRole::ControlPlane,
        Configured::Worker => MachineRole::Worker,
        Configured::Unknown => MachineRole::Unknown,
    }
}

/// No usable configuration: the maintenance API is asked for, and the reason told.
fn maintenance(wanted: Wanted, reason: Option<Vec<String>>) -> Wanted {
    let details = reason.unwrap_or_else(|| vec!["no configuration was found: the platform gives none, and none was applied yet".into()]);
    let diagnostic = Diagnostic { message: "the machine has no valid configuration; it stays in maintenance mode".into(), details };
    wanted.with("maintenance", MaintenanceServiceRequest::default()).with(DIAGNOSTIC, diagnostic)
}

impl ConfigController {
    fn active(&self, request: Option<&ConfigRequest>) -> Result<Option<Vec<u8>>, Vec<String>> {
        if let Some(request) = request {
            return Ok(Some(request.config.0.clone()));
        }
        let found = first(&self.file, self.platform.as_ref()).map_err(|reason| vec![reason])?;
        let Some((bytes, from)) = found else { return Ok(None) };
        let prefix = |refused: Refused| {
            let mut lines = vec![format!("{from} is not valid:")];
            lines.extend(refused.problems);
            lines
        };
        check(&bytes, self.mode).map_err(prefix)?;
        Ok(Some(bytes))
    }
}

impl Controller for ConfigController {
    const NAME: &'static str = "config.AcquireController";
    type In = In;

    fn outputs() -> Outputs {
        Outputs::new()
            .exclusive::<MachineConfig>()
            .exclusive::<MachineType>()
            .exclusive::<AcquireConfigStatus>()
            .exclusive::<MaintenanceServiceRequest>()
            .shared::<Diagnostic>()
    }

    async fn reconcile(&self, _: &Context, input: In) -> engine::Result<Wanted> {
        let request = |id: &str| input.requests.get(id).map(|r| &r.spec);
        let wanted = Wanted::new();
        let bytes = match self.active(request(ACTIVE)) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(maintenance(wanted, None)),
            Err(problems) => return Ok(maintenance(wanted, Some(problems))),
        };
        let persistent = match (request(PERSISTENT), request(ACTIVE)) {
            (Some(asked), _) => Some(asked.config.0.clone()),
            // One that is only tried must not be what the node starts with next time.
            (None, Some(_)) => kept(&self.file)?,
            (None, None) => Some(bytes.clone()),
        };
        if let Some(persistent) = &persistent {
            persist(&self.file, persistent)?;
        }
        let loaded = check(&bytes, self.mode).map_err(|r| engine::Error::msg(r.problems.join("; ")))?.0;
        let marks = || Marks::default().annotation(MachineConfig::YAML_SPEC_ANNOTATION, "1");
        let mut wanted = wanted.with_meta(ACTIVE, MachineConfig::new(bytes), marks());
        if let Some(persistent) = persistent {
            wanted = wanted.with_meta(PERSISTENT, MachineConfig::new(persistent), marks());
        }
        if !loaded.machine.is_complete() {
            return Ok(maintenance(wanted, Some(vec!["the configuration has no machine section: it is not complete".into()])));
        }
        wanted = wanted.with("machine-type", MachineType { role: role(&loaded) });
        Ok(wanted.with("config", AcquireConfigStatus::default()))
    }
}

#[cfg(test)]
mod tests {
    use model::config::MachineType;
    use model::config::generate::{Options as Generate, generate_patched};
    use model::config::types::Url;
    use pki::bundle::{ServiceAccountKey, generate};

    use super::*;

    #[tokio::test]
    async fn what_is_only_tried_is_not_kept() {
        let secrets = generate(ServiceAccountKey::Ecdsa, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let options = Generate::new("demo", Url::new("https://10.5.0.1:6443").unwrap());
        let config = generate_patched(&secrets, &options, MachineType::ControlPlane, &[]).unwrap().encode();
        let request = || ConfigRequest { config: config.as_bytes().to_vec().into(), generation: 1 };
        let dir = tempfile::tempdir().unwrap();
        let controller = ConfigController { file: dir.path().join("config.yaml"), platform: None, mode: Mode::Container };
        let asked = async |requests| controller.reconcile(&Context::detached(), In { requests }).await.unwrap();
        let tried = asked(Many::of([(ACTIVE, request())])).await;
        assert!(tried.get::<MachineConfig>(ACTIVE).is_some() && tried.get::<MachineConfig>(PERSISTENT).is_none());
        assert!(!controller.file.exists());
        let confirmed = asked(Many::of([(ACTIVE, request()), (PERSISTENT, request())])).await;
        assert!(confirmed.get::<MachineConfig>(PERSISTENT).is_some());
        assert_eq!(std::fs::read_to_string(&controller.file).unwrap(), config);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_by_the_name_of_its_field() {
        let secrets = || generate(ServiceAccountKey::Ecdsa, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        let (own, other) = (secrets(), secrets());
        let options = Generate::new("demo", Url::new("https://10.5.0.1:6443").unwrap());
        let config = |bundle| generate_patched(bundle, &options, MachineType::ControlPlane, &[]).unwrap().encode();
        let good = config(&own);
        assert!(check(good.as_bytes(), Mode::Container).is_ok());
        let key = |bundle: &model::config::secrets::Bundle| bundle.certs.os.as_ref().unwrap().key.expose().to_owned();
        let mixed = good.replacen(&key(&own), &key(&other), 1);
        assert_ne!(good, mixed);
        let refused = check(mixed.as_bytes(), Mode::Container).unwrap_err().problems;
        assert!(refused.len() == 1 && refused[0].starts_with("machine.ca: "), "{refused:?}");
        assert!(!refused[0].contains(&key(&other)));
    }
}
