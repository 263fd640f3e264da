//! Certificate authorities, certificates, requests, roles and the secrets bundle.
//!
//! Everything takes the time as an argument and does no IO; random numbers come from the system. The names, lifetimes and extensions of each
//! certificate of a node are in `profile.rs`; how certificates are made in `cert.rs`.

pub mod bundle;
mod cert;
mod csr;
mod der;
mod key;
pub mod pem;
pub mod profile;
mod role;

pub use cert::{Ca, Certificate, Extended, Identity, Issued, Name, Request, San, days, hours};
pub use csr::{Csr, SignOptions};
pub use key::{Algorithm, PrivateKey};
pub use role::{Role, Roles};

/// Why a key, certificate or request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Text that is no PEM.
    #[error("expected a PEM block, found {found}")]
    Pem {
        /// What was found.
        found: String,
    },
    /// A key that cannot be used.
    #[error("expected a private key (Ed25519, ECDSA P-256/P-384 or RSA), found {found}")]
    Key {
        /// What was found.
        found: String,
    },
    /// A certificate that cannot be used.
    #[error("expected {expected}, found {found}")]
    Certificate {
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A certificate whose time has not come or has passed.
    #[error("the certificate of {subject} is valid from {from} to {to}, and it is {now}: check the clock, or issue a new one")]
    Validity {
        /// Whose certificate.
        subject: String,
        /// Start.
        from: String,
        /// End.
        to: String,
        /// The time it was compared with.
        now: String,
    },
    /// A certificate that another authority signed.
    #[error("the certificate of {subject} was not signed by the authority {ca}")]
    Signature {
        /// Whose certificate.
        subject: String,
        /// The authority.
        ca: String,
    },
    /// A certificate request that is refused.
    #[error("certificate request refused: {reason}")]
    Request {
        /// Why.
        reason: String,
    },
    /// A secrets bundle that is not whole.
    #[error("secrets bundle: {0}")]
    Bundle(String),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

impl Error {
    pub(crate) fn pem(found: impl Into<String>) -> Self {
        Self::Pem { found: found.into() }
    }
    pub(crate) fn key(found: impl Into<String>) -> Self {
        Self::Key { found: found.into() }
    }
    pub(crate) fn certificate(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Certificate { found: found.into(), expected: expected.into() }
    }
    pub(crate) fn request(reason: impl Into<String>) -> Self {
        Self::Request { reason: reason.into() }
    }
}
