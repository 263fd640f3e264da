//! Certificates: authorities, what they issue, and checking both.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use crate::der::{Reader, bits, octets, oid, seq, set, text, time, tlv, uint};
use crate::{Algorithm, Error, PrivateKey, pem};

const AT_ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
const AT_COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
const EXT_SKI: [u64; 4] = [2, 5, 29, 14];
const EXT_KEY_USAGE: [u64; 4] = [2, 5, 29, 15];
const EXT_SAN: [u64; 4] = [2, 5, 29, 17];
const EXT_BASIC: [u64; 4] = [2, 5, 29, 19];
const EXT_AKI: [u64; 4] = [2, 5, 29, 35];
const EXT_EKU: [u64; 4] = [2, 5, 29, 37];
const SERVER_AUTH: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];

/// Hours as a duration.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// Days as a duration.
#[must_use]
pub const fn days(n: u64) -> Duration {
    hours(n * 24)
}

/// The name of a certificate's holder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    /// Common name; empty for none.
    pub common_name: String,
    /// Organisations, which carry roles and groups.
    pub organizations: Vec<String>,
}

impl Name {
    /// A common name with organisations.
    pub fn new(common_name: impl Into<String>, organizations: &[&str]) -> Self {
        Self { common_name: common_name.into(), organizations: organizations.iter().map(|o| (*o).to_owned()).collect() }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let attribute = |id: &[u64], value: &str| seq(&[oid(id), text(value)]);
        let mut parts = Vec::new();
        if !self.organizations.is_empty() {
            parts.push(set(self.organizations.iter().map(|o| attribute(&AT_ORGANIZATION, o)).collect()));
        }
        if !self.common_name.is_empty() {
            parts.push(set(vec![attribute(&AT_COMMON_NAME, &self.common_name)]));
        }
        seq(&parts)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.organizations.iter().map(|o| format!("O={o}"));
        let name = (!self.common_name.is_empty()).then(|| format!("CN={}", self.common_name));
        let all: Vec<_> = parts.chain(name).collect();
        f.write_str(&if all.is_empty() { "(no name)".to_owned() } else { all.join(", ") })
    }
}

/// An address or name that a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// An address.
    Ip(IpAddr),
    /// A DNS name.
    Dns(String),
}

impl San {
    /// An address if it reads as one, else a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Ip)
    }
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extended {
    /// Proving a server.
    Server,
    /// Proving a client.
    Client,
}

/// What to put into a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its holder.
    pub name: Name,
    /// Addresses and names it is for.
    pub sans: Vec<San>,
    /// Uses.
    pub extended: Vec<Extended>,
    /// Whether the key may also encipher keys.
    pub key_encipherment: bool,
    /// How long it is valid, from now.
    pub lifetime: Duration,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
}

/// What a certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The holder.
    pub name: Name,
    /// Addresses and names.
    pub sans: Vec<San>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// Uses.
    pub extended: Vec<Extended>,
    /// Whether it may sign certificates.
    pub is_ca: bool,
}

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub cert: String,
    /// The private key, PEM.
    pub key: Zeroizing<String>,
    /// End of validity.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("cert", &self.cert).field("key", &"REDACTED").field("not_after", &self.not_after).finish()
    }
}

impl Certificate {
    /// Takes DER.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn from_der(der: Vec<u8>) -> Result<Self, Error> {
        let cert = Self { der };
        cert.parse().map(|_| ()).map(|()| cert.clone())
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        Self::all_from_pem(text).map(|mut all| all.swap_remove(0))
    }

    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// When there is none, or one is broken.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, Error> {
        let blocks = pem::decode(text)?;
        let labels = blocks.iter().map(|b| b.label.clone()).collect::<Vec<_>>().join(", ");
        let certs: Vec<_> = blocks.into_iter().filter(|b| b.label == "CERTIFICATE").collect();
        if certs.is_empty() {
            return Err(Error::certificate(format!("PEM blocks {labels}"), "a CERTIFICATE block"));
        }
        certs.into_iter().map(|b| Self::from_der(b.der)).collect()
    }

    /// The DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// As PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    fn parse(&self) -> Result<X509Certificate<'_>, Error> {
        let broken = |e: String| Error::certificate(format!("{} bytes that are none ({e})", self.der.len()), "an X.509 certificate");
        X509Certificate::from_der(&self.der).map(|(_, cert)| cert).map_err(|e| broken(e.to_string()))
    }

    /// What it says.
    ///
    /// # Errors
    /// When it is broken.
    pub fn identity(&self) -> Result<Identity, Error> {
        let cert = self.parse()?;
        let mut identity = Identity {
            name: name_of(cert.subject()),
            sans: Vec::new(),
            not_before: timestamp(cert.validity().not_before.timestamp()),
            not_after: timestamp(cert.validity().not_after.timestamp()),
            serial: cert.raw_serial_as_string(),
            extended: Vec::new(),
            is_ca: cert.is_ca(),
        };
        for extension in cert.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => identity.sans = sans_of(&names.general_names),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    identity.extended.extend(usage.server_auth.then_some(Extended::Server));
                    identity.extended.extend(usage.client_auth.then_some(Extended::Client));
                }
                _ => {}
            }
        }
        Ok(identity)
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo), in base64: what clients pin.
    ///
    /// # Errors
    /// When the certificate is broken.
    pub fn fingerprint(&self) -> Result<String, Error> {
        use base64::Engine as _;
        let cert = self.parse()?;
        Ok(base64::engine::general_purpose::STANDARD.encode(digest(&SHA256, cert.public_key().raw)))
    }

    /// Whether a private key belongs to it.
    ///
    /// # Errors
    /// When either is broken.
    pub fn matches(&self, key: &PrivateKey) -> Result<bool, Error> {
        Ok(self.parse()?.public_key().raw == key.public_key_info()?)
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn name_of(name: &x509_parser::x509::X509Name<'_>) -> Name {
    let texts = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
        attributes.iter().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect()
    };
    Name {
        common_name: texts(name.iter_common_name().collect()).into_iter().next().unwrap_or_default(),
        organizations: texts(name.iter_organization().collect()),
    }
}

pub(crate) fn sans_of(names: &[GeneralName<'_>]) -> Vec<San> {
    let one = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => Some(San::Dns((*dns).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from);
            v4.or_else(|| <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from)).map(San::Ip)
        }
        _ => None,
    };
    names.iter().filter_map(one).collect()
}

/// A certificate authority with its key.
#[derive(Debug, Clone)]
pub struct Ca {
    cert: Certificate,
    key: PrivateKey,
    subject: Vec<u8>,
    key_id: Vec<u8>,
}

impl Ca {
    /// Makes a self-signed authority.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate(name: &Name, algorithm: Algorithm, lifetime: Duration, now: Timestamp) -> Result<Self, Error> {
        let key = PrivateKey::generate(algorithm)?;
        let key_id = digest(&SHA1_FOR_LEGACY_USE_ONLY, &key.public_bits()?).as_ref().to_vec();
        let extensions = [
            extension(&EXT_KEY_USAGE, true, &tlv(0x03, &[2, 0b1000_0100])),
            extension(&EXT_EKU, false, &extended_usage(&[Extended::Server, Extended::Client])),
            extension(&EXT_BASIC, true, &seq(&[tlv(0x01, &[0xff])])),
            extension(&EXT_SKI, false, &octets(&key_id)),
        ];
        let body =
            Body { issuer: &name.der(), subject: &name.der(), public_key: &key.public_key_info()?, extensions: &extensions, lifetime, now };
        let cert = body.sign(&key)?;
        Ok(Self { cert, key, subject: name.der(), key_id })
    }

    /// Reads an authority.
    ///
    /// # Errors
    /// When either part is broken, the certificate may not sign, or the key belongs to another.
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, Error> {
        let cert = Certificate::from_pem(cert)?;
        let key = PrivateKey::from_pem(key)?;
        let (subject, key_id) = {
            let parsed = cert.parse()?;
            if !parsed.is_ca() {
                return Err(Error::certificate(
                    format!("the certificate of {}, which may not sign others", name_of(parsed.subject())),
                    "an authority (CA:TRUE)",
                ));
            }
            if parsed.public_key().raw != key.public_key_info()? {
                return Err(Error::certificate(
                    "a private key of another certificate",
                    format!("the key of {}", name_of(parsed.subject())),
                ));
            }
            let key_id = parsed.extensions().iter().find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
            (parsed.subject().as_raw().to_vec(), key_id)
        };
        let fallback = digest(&SHA1_FOR_LEGACY_USE_ONLY, &key.public_bits()?).as_ref().to_vec();
        Ok(Self { cert, key, subject, key_id: key_id.unwrap_or(fallback) })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.cert
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Issues a certificate for a public key (SubjectPublicKeyInfo). It ends no later than the authority itself.
    ///
    /// # Errors
    /// When the authority has expired, or the system gives no random numbers.
    pub fn sign(&self, request: &Request, public_key: &[u8], now: Timestamp) -> Result<Certificate, Error> {
        let usage: u8 = if request.key_encipherment { 0b1010_0000 } else { 0b1000_0000 };
        let unused: u8 = if request.key_encipherment { 5 } else { 7 };
        let mut extensions = vec![
            extension(&EXT_KEY_USAGE, true, &tlv(0x03, &[unused, usage])),
            extension(&EXT_EKU, false, &extended_usage(&request.extended)),
            extension(&EXT_AKI, false, &seq(&[tlv(0x80, &self.key_id)])),
        ];
        if !request.sans.is_empty() {
            let critical = request.name == Name::default();
            extensions.push(extension(&EXT_SAN, critical, &seq(&request.sans.iter().map(general_name).collect::<Vec<_>>())));
        }
        let own = self.cert.identity()?;
        let left = Duration::try_from(own.not_after.duration_since(now)).unwrap_or_default();
        if left.is_zero() {
            let (from, to) = (own.not_before.to_string(), own.not_after.to_string());
            return Err(Error::Validity { subject: format!("the authority {}", own.name), from, to, now: now.to_string() });
        }
        let body = Body {
            issuer: &self.subject,
            subject: &request.name.der(),
            public_key,
            extensions: &extensions,
            lifetime: request.lifetime.min(left),
            now,
        };
        body.sign(&self.key)
    }

    /// Makes a key of the authority's kind (ECDSA P-256 for RSA authorities) and issues a certificate for it.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn issue(&self, request: &Request, now: Timestamp) -> Result<Issued, Error> {
        let algorithm = match self.key.algorithm() {
            Algorithm::Rsa => Algorithm::P256,
            other => other,
        };
        let key = PrivateKey::generate(algorithm)?;
        let cert = self.sign(request, &key.public_key_info()?, now)?;
        Ok(Issued { cert: cert.to_pem(), key: key.to_pem(), not_after: cert.identity()?.not_after })
    }

    /// Checks that this authority signed a certificate and that it is valid now for a use.
    ///
    /// # Errors
    /// Says which of these does not hold.
    pub fn verify(&self, cert: &Certificate, usage: Extended, now: Timestamp) -> Result<Identity, Error> {
        verify_with(&self.cert, cert, usage, now)
    }
}

impl Certificate {
    /// Checks a certificate against an authority of which only the certificate is known.
    ///
    /// # Errors
    /// As [`Ca::verify`].
    pub fn verify(&self, cert: &Certificate, usage: Extended, now: Timestamp) -> Result<Identity, Error> {
        verify_with(self, cert, usage, now)
    }
}

fn verify_with(ca: &Certificate, cert: &Certificate, usage: Extended, now: Timestamp) -> Result<Identity, Error> {
    let (issuer, leaf) = (ca.parse()?, cert.parse()?);
    let identity = cert.identity()?;
    let subject = identity.name.to_string();
    let other = || Error::Signature { subject: subject.clone(), ca: name_of(issuer.subject()).to_string() };
    if issuer.subject().as_raw() != leaf.issuer().as_raw() || !issuer.is_ca() {
        return Err(other());
    }
    leaf.verify_signature(Some(issuer.public_key())).map_err(|_| other())?;
    for (from, to, whose) in [(identity.not_before, identity.not_after, subject.clone()), {
        let own = ca.identity()?;
        (own.not_before, own.not_after, own.name.to_string())
    }] {
        if now < from || now > to {
            return Err(Error::Validity { subject: whose, from: from.to_string(), to: to.to_string(), now: now.to_string() });
        }
    }
    if !identity.extended.contains(&usage) {
        let word = if usage == Extended::Server { "server" } else { "client" };
        return Err(Error::certificate(format!("the certificate of {subject} for other uses"), format!("one for use as a {word}")));
    }
    Ok(identity)
}

fn extension(id: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(id)];
    if critical {
        parts.push(tlv(0x01, &[0xff]));
    }
    parts.push(octets(value));
    seq(&parts)
}

pub(crate) fn san_extension(sans: &[San]) -> Vec<u8> {
    extension(&EXT_SAN, false, &seq(&sans.iter().map(general_name).collect::<Vec<_>>()))
}

fn extended_usage(usages: &[Extended]) -> Vec<u8> {
    let id = |usage: &Extended| oid(if *usage == Extended::Server { &SERVER_AUTH } else { &CLIENT_AUTH });
    seq(&usages.iter().map(id).collect::<Vec<_>>())
}

fn general_name(san: &San) -> Vec<u8> {
    match san {
        San::Dns(name) => tlv(0x82, name.as_bytes()),
        San::Ip(IpAddr::V4(ip)) => tlv(0x87, &ip.octets()),
        San::Ip(IpAddr::V6(ip)) => tlv(0x87, &ip.octets()),
    }
}

/// A certificate before it is signed.
struct Body<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    public_key: &'a [u8],
    extensions: &'a [Vec<u8>],
    lifetime: Duration,
    now: Timestamp,
}

impl Body<'_> {
    fn sign(&self, key: &PrivateKey) -> Result<Certificate, Error> {
        let mut serial = [0u8; 16];
        SystemRandom::new().fill(&mut serial).map_err(|_| Error::Random)?;
        serial[15] |= 1;
        let end = self.now.checked_add(self.lifetime).unwrap_or(Timestamp::MAX);
        let body = seq(&[
            tlv(0xa0, &uint(&[2])),
            uint(&serial),
            key.signature_id(),
            self.issuer.to_vec(),
            seq(&[time(self.now), time(end)]),
            self.subject.to_vec(),
            self.public_key.to_vec(),
            tlv(0xa3, &seq(self.extensions)),
        ]);
        let signature = key.sign(&body)?;
        let der = seq(&[body, key.signature_id(), bits(&signature)]);
        debug_assert!(Reader(&der).expect(0x30).is_some());
        Certificate::from_der(der)
    }
}
