//! How a worker gets its certificate: it asks the control planes' trust service, one after the other.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status, metadata::MetadataValue};

use crate::{
    TRUST_PORT,
    client::{Client, ClientError, Options},
    securityapi::{CertificateRequest, security_service_client::SecurityServiceClient},
    tls::{self, TlsError},
    transport::Dial,
};

/// Time for one control plane.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Time for all of it.
const TOTAL: Duration = Duration::from_secs(60);

/// What a control plane signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The accepted CAs, PEM.
    pub ca: Vec<u8>,
    /// The certificate, PEM.
    pub crt: Vec<u8>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nobody to ask.
    #[error("no control plane is known to ask for a certificate: discovery or the cluster's endpoint must name one")]
    NoEndpoints,
    /// The accepted CAs cannot be used.
    #[error("the accepted CAs of the configuration cannot be used: {0}")]
    Tls(#[from] TlsError),
    /// An endpoint that is none.
    #[error(transparent)]
    Endpoint(#[from] ClientError),
    /// The token holds characters that cannot be sent.
    #[error("the join token holds characters that no token has: expected six, a dot and sixteen of a-z and 0-9")]
    Token,
    /// Every control plane refused, for good: asking again would not help.
    #[error("every control plane refused: {0}")]
    Refused(String),
    /// Not every control plane refused, but none signed: ask again.
    #[error("no control plane signed a certificate: {0}")]
    Unreachable(String),
}

/// Asks the control planes at `endpoints` (hosts, with a port if it is not the usual one) to sign `csr` (PEM). Servers must be
/// signed by one of `accepted_cas` (PEM). Each is asked once, for 10 s at most, all together for a minute at most; the first is
/// chosen at random. Asking again is the caller's, who may know other endpoints by then.
///
/// # Errors
/// When nobody can be asked, all refuse, or nobody answers in time.
pub async fn request_certificate(endpoints: &[String], accepted_cas: &[u8], token: &str, csr: &[u8]) -> Result<Signed, TrustError> {
    if endpoints.is_empty() {
        return Err(TrustError::NoEndpoints);
    }
    let config = tls::client(tls::roots(accepted_cas)?, None)?;
    let options = || Options { dial: Dial { timeout: Duration::from_secs(5) }, call: ATTEMPT };
    let mut clients = endpoints
        .iter()
        .map(|e| Ok((e.as_str(), Client::with_tls_and_port(std::slice::from_ref(e), TRUST_PORT, config.clone(), options())?)))
        .collect::<Result<Vec<_>, ClientError>>()?;
    clients.shuffle(&mut rand::rng());
    let token: MetadataValue<_> = token.parse().map_err(|_| TrustError::Token)?;
    let end = Instant::now() + TOTAL;
    let (mut failures, mut refused) = (Vec::new(), 0);
    for (endpoint, client) in &clients {
        let mut request = Request::new(CertificateRequest { csr: csr.to_vec() });
        request.metadata_mut().insert("token", token.clone());
        let left = end.saturating_duration_since(Instant::now()).min(ATTEMPT);
        let mut service = SecurityServiceClient::new(client.clone());
        let answer = timeout(left, service.certificate(request)).await;
        match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {left:?}")))) {
            Ok(reply) => {
                let reply = reply.into_inner();
                return Ok(Signed { ca: reply.ca, crt: reply.crt });
            }
            Err(status) => {
                refused += usize::from(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument));
                failures.push(format!("{endpoint}: {}", status.message()));
            }
        }
    }
    let failures = failures.join("; ");
    Err(if refused == clients.len() { TrustError::Refused(failures) } else { TrustError::Unreachable(failures) })
}
