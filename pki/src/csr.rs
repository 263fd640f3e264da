//! Certificate requests: how a machine asks for its certificate, and what an authority grants of it.

use jiff::Timestamp;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, ParsedExtension};

use crate::cert::{name_of, san_extension, sans_of};
use crate::der::{bits, oid, seq, set, tlv, uint};
use crate::{Ca, Certificate, Error, Extended, Name, PrivateKey, Request, San, pem};

const AT_EXTENSION_REQUEST: [u64; 7] = [1, 2, 840, 113549, 1, 9, 14];

/// A request whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// Who asks.
    pub name: Name,
    /// Addresses and names asked for.
    pub sans: Vec<San>,
    public_key: Vec<u8>,
}

/// What an authority grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOptions {
    /// Uses.
    pub extended: Vec<Extended>,
    /// How long.
    pub lifetime: std::time::Duration,
    /// Keep the organisations asked for. Organisations are roles: an authority that does not know the asker drops them.
    pub keep_organizations: bool,
    /// Whether the key may encipher keys.
    pub key_encipherment: bool,
}

impl Csr {
    /// Writes a request, signed with the key it is about. PEM.
    ///
    /// # Errors
    /// When the key is broken or the system gives no random numbers.
    pub fn create(name: &Name, sans: &[San], key: &PrivateKey) -> Result<String, Error> {
        let attributes =
            if sans.is_empty() { Vec::new() } else { seq(&[oid(&AT_EXTENSION_REQUEST), set(vec![seq(&[san_extension(sans)])])]) };
        let body = seq(&[uint(&[0]), name.der(), key.public_key_info()?, tlv(0xa0, &attributes)]);
        let signature = key.sign(&body)?;
        Ok(pem::encode("CERTIFICATE REQUEST", &seq(&[body, key.signature_id(), bits(&signature)])))
    }

    /// Reads a request and checks that who asks holds the key.
    ///
    /// # Errors
    /// When it is broken or signed by another key.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let block = pem::first(text)?;
        if block.label != "CERTIFICATE REQUEST" && block.label != "NEW CERTIFICATE REQUEST" {
            return Err(Error::request(format!("found a {} block, expected a CERTIFICATE REQUEST", block.label)));
        }
        let (_, csr) = X509CertificationRequest::from_der(&block.der).map_err(|e| Error::request(format!("it is broken ({e})")))?;
        csr.verify_signature().map_err(|_| Error::request("it is not signed by the key it is about"))?;
        let mut sans = Vec::new();
        for extension in csr.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                sans = sans_of(&names.general_names);
            }
        }
        let info = &csr.certification_request_info;
        Ok(Self { name: name_of(&info.subject), sans, public_key: info.subject_pki.raw.to_vec() })
    }

    /// Grants a request: the name without organisations (unless kept), and those addresses and names that `allowed` lets through.
    ///
    /// # Errors
    /// When nothing of what was asked for is allowed, or the system gives no random numbers.
    pub fn sign(&self, ca: &Ca, options: &SignOptions, allowed: impl Fn(&San) -> bool, now: Timestamp) -> Result<Certificate, Error> {
        let sans: Vec<San> = self.sans.iter().filter(|s| allowed(s)).cloned().collect();
        if sans.is_empty() && !self.sans.is_empty() {
            return Err(Error::request(format!("none of the {} addresses and names asked for belongs to the asker", self.sans.len())));
        }
        let mut name = self.name.clone();
        if !options.keep_organizations {
            name.organizations.clear();
        }
        let request = Request {
            name,
            sans,
            extended: options.extended.clone(),
            key_encipherment: options.key_encipherment,
            lifetime: options.lifetime,
        };
        ca.sign(&request, &self.public_key, now)
    }
}
