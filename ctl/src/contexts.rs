//! The client configuration file: where it is, reading and writing it, and the context that a command uses.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use api::client::Context;
use model::config::client::ClientConfig;
use pki::Certificate;

use crate::files;
use crate::session::Global;

/// Where pods with access to the API find theirs.
const IN_POD: &str = "/var/run/secrets/talos.dev/config";

/// The file: the one named, `$TALOSCONFIG`, the user's own, or the one of a pod; the first that is there, else where a new one goes.
pub fn path(global: &Global) -> anyhow::Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(named) = global.talosconfig.clone().or_else(|| variable("TALOSCONFIG")) {
        return Ok(named);
    }
    let home = variable("TALOS_HOME").or_else(|| variable("HOME").map(|h| h.join(".talos")));
    let own = home.map(|h| h.join("config"));
    let pod = PathBuf::from(IN_POD);
    match own {
        Some(own) if own.exists() || !pod.exists() => Ok(own),
        _ if pod.exists() => Ok(pod),
        _ => bail!("neither TALOSCONFIG nor HOME is set: give the client configuration with --talosconfig"),
    }
}

/// The file's contents; a missing file is an empty one.
pub fn read(global: &Global) -> anyhow::Result<ClientConfig> {
    let path = path(global)?;
    match std::fs::read(&path) {
        Ok(bytes) => ClientConfig::parse(&bytes).map_err(|problems| anyhow::anyhow!("{}: {problems}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ClientConfig::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Replaces the file.
pub fn write(global: &Global, config: &ClientConfig) -> anyhow::Result<()> {
    files::write_private(&path(global)?, config.encode().as_bytes())
}

/// The context that commands use.
pub fn load(global: &Global) -> anyhow::Result<Context> {
    let config = read(global)?;
    let name = global.context.as_deref();
    let Some(found) = config.get(name) else {
        let names: Vec<_> = config.contexts.keys().map(String::as_str).collect();
        let wanted = name.unwrap_or(&config.context);
        if names.is_empty() {
            bail!("{} has no contexts: `orlopctl gen config` makes one, `orlopctl config merge FILE` adds one", path(global)?.display());
        }
        bail!("context {wanted:?} is not in {}; it has: {}", path(global)?.display(), names.join(", "));
    };
    Ok(Context {
        endpoints: found.endpoints.clone(),
        nodes: found.nodes.clone(),
        ca: found.ca_pem().into_bytes(),
        crt: found.cert_pem().into_bytes(),
        key: found.key_pem().expose().as_bytes().to_vec(),
        cluster: Some(found.cluster.clone()).filter(|c| !c.is_empty()),
    })
}

/// A node that refuses an expired certificate may close the connection before its reason is heard, so it is told here. One that cannot be
/// read is told where it is used. `health` does without: it has its own verdict.
pub fn not_expired(context: &Context, now: jiff::Timestamp) -> anyhow::Result<()> {
    match Certificate::from_pem(&String::from_utf8_lossy(&context.crt)).and_then(|c| c.identity()) {
        Ok(identity) if identity.not_after < now => bail!(
            "the client certificate expired at {}, and it is {now}: set the clock, or get a new one with `orlopctl gen config --with-secrets FILE \
             --output-types talosconfig`",
            identity.not_after
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use pki::{Ca, Role, Roles, profile};

    use super::*;

    #[test]
    fn an_expired_certificate_is_told_with_its_time() {
        let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let made = time("2026-01-01T00:00:00Z");
        let roles = Roles([Role::Admin].into_iter().collect());
        let ca: Ca = profile::os_ca(made).unwrap();
        let certificate = ca.issue(&profile::api_client(&roles, profile::DAY), made).unwrap().cert;
        let context = |crt: &str| Context { crt: crt.into(), ..Context::default() };
        assert!(not_expired(&context(&certificate), time("2026-01-01T12:00:00Z")).is_ok());
        let told = not_expired(&context(&certificate), time("2026-01-03T00:00:00Z")).unwrap_err().to_string();
        assert!(told.contains("expired at 2026-01-02T00:00:00Z") && told.contains("gen config"), "{told}");
        assert!(not_expired(&context("none"), made).is_ok());
    }
}
