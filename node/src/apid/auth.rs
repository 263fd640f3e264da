//! Who calls: from a client certificate, or from where the connection came, to roles.
//!
//! apid only says who somebody is; machined decides what they may do. Everything here is a pure function.

use std::net::IpAddr;

use api::{
    roles::{Role, Roles},
    server::claimed_roles,
};
use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How callers get their roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RoleMode {
    /// From the Organization values of their certificate.
    #[default]
    Certificate,
    /// Everybody reads; a peer inside the management tunnel is an admin. No certificates: maintenance mode.
    ReadOnly,
}

/// Demands that a client's certificate is for clients alone: its extended key usage is exactly `[clientAuth]`. A node's
/// server certificate, which its holder got for something else, must not open the API.
///
/// # Errors
/// What was found instead.
pub(crate) fn check_leaf(leaf: &CertificateDer<'_>) -> Result<(), String> {
    let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| format!("client certificate cannot be parsed: {e}"))?;
    let usage = cert.extended_key_usage().map_err(|e| format!("client certificate's key usage: {e}"))?;
    let found = match usage.map(|u| u.value) {
        None => "no extended key usage".to_owned(),
        Some(u) => {
            let more = u.any || u.code_signing || u.email_protection || u.time_stamping || u.ocsp_signing || !u.other.is_empty();
            match (u.client_auth, u.server_auth, more) {
                (true, false, false) => return Ok(()),
                (true, true, _) => "client and server authentication".to_owned(),
                (true, false, true) => "client authentication and more".to_owned(),
                (false, ..) => "no client authentication".to_owned(),
            }
        }
    };
    Err(format!("client certificate: expected the extended key usage to be client authentication alone, found {found}"))
}

/// The roles a certificate carries: its Organization values.
///
/// # Errors
/// When it cannot be parsed.
pub(crate) fn certificate_roles(leaf: &CertificateDer<'_>) -> Result<Roles, String> {
    let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| format!("client certificate cannot be parsed: {e}"))?;
    Ok(cert.subject().iter_organization().filter_map(|o| o.as_str().ok()).collect())
}

/// The roles of one call. `peer` and `local` are the two ends of its connection.
pub(crate) fn resolve(mode: RoleMode, certificate: &Roles, headers: &HeaderMap, peer: IpAddr, local: IpAddr) -> Roles {
    match mode {
        RoleMode::Certificate if certificate.has(Role::Impersonator) && headers.contains_key(api::server::ROLE_KEY) => {
            claimed_roles(headers)
        }
        RoleMode::Certificate => certificate.clone(),
        RoleMode::ReadOnly if in_tunnel(peer, local) => Roles::from(&[Role::Admin][..]),
        RoleMode::ReadOnly => Roles::from(&[Role::Reader][..]),
    }
}

/// Whether both ends lie in one management tunnel: a unique local /64 whose eighth byte says so. The peer's address alone
/// would prove little, since anybody may give themselves such an address on a link; to be reached at ours takes the tunnel.
fn in_tunnel(peer: IpAddr, local: IpAddr) -> bool {
    const PURPOSE: u8 = 3;
    match (peer.to_canonical(), local.to_canonical()) {
        (IpAddr::V6(peer), IpAddr::V6(local)) => {
            let (p, l) = (peer.octets(), local.octets());
            p[0] == 0xfd && p[7] == PURPOSE && p[..8] == l[..8]
        }
        _ => false,
    }
}
