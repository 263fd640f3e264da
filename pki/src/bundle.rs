//! Making and checking secrets bundles.

use base64::Engine as _;
use jiff::Timestamp;
use model::config::legacy::root::{CertKey, Key};
use model::config::secrets::{Bundle, BundleCerts, BundleCluster, BundleSecrets, BundleTrustd};
use model::config::{MachineConfig, Secret};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{Algorithm, Ca, Error, PrivateKey, profile};

/// What kind of key signs service account tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceAccountKey {
    /// ECDSA P-256: made in no time.
    #[default]
    Ecdsa,
    /// RSA of that many bits: takes seconds to make.
    Rsa(usize),
}

/// Makes a bundle for a new cluster.
///
/// # Errors
/// When the system gives no random numbers, or the RSA size is not possible.
pub fn generate(service_account: ServiceAccountKey, now: Timestamp) -> Result<Bundle, Error> {
    let service_account = match service_account {
        ServiceAccountKey::Ecdsa => PrivateKey::generate(Algorithm::P256)?,
        ServiceAccountKey::Rsa(size) => PrivateKey::generate_rsa(size)?,
    };
    Ok(Bundle {
        cluster: BundleCluster { id: random_base64()?, secret: Secret::new(random_base64()?) },
        secrets: BundleSecrets {
            bootstrap_token: token()?,
            secretbox_encryption_secret: Secret::new(random_base64()?),
            aescbc_encryption_secret: Secret::default(),
        },
        trustd: BundleTrustd { token: token()? },
        certs: BundleCerts {
            etcd: Some(pair(&profile::etcd_ca(now)?)),
            k8s: Some(pair(&profile::kubernetes_ca(now)?)),
            k8s_aggregator: Some(pair(&profile::aggregator_ca(now)?)),
            k8s_service_account: Some(Key::from_pem(&service_account.to_pem())),
            os: Some(pair(&profile::os_ca(now)?)),
        },
    })
}

fn pair(ca: &Ca) -> CertKey {
    CertKey::from_pem(&ca.certificate().to_pem(), &ca.key().to_pem())
}

/// 32 random bytes in base64.
fn random_base64() -> Result<String, Error> {
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| Error::Random)?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes.as_slice()))
}

/// A token: 6 and 16 letters and digits with a dot between.
///
/// # Errors
/// When the system gives no random numbers.
pub fn token() -> Result<Secret, Error> {
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let random = SystemRandom::new();
    let mut letters = zeroize::Zeroizing::new(String::new());
    let mut byte = [0u8; 1];
    while letters.len() < 22 {
        random.fill(&mut byte).map_err(|_| Error::Random)?;
        // 252 is the largest multiple of 36 in a byte: what lies above would make some letters likelier.
        if byte[0] < 252 {
            letters.push(char::from(LETTERS[usize::from(byte[0] % 36)]));
        }
    }
    Ok(Secret::new(format!("{}.{}", &letters[..6], &letters[6..])))
}

/// Checks that a bundle is whole and its parts belong together.
///
/// # Errors
/// The first thing that is wrong, with its key.
pub fn validate(bundle: &Bundle) -> Result<(), Error> {
    let wrong = |key: &str, what: String| Error::Bundle(format!("{key}: {what}"));
    if bundle.cluster.id.is_empty() {
        return Err(wrong("cluster.id", "found nothing, expected 32 random bytes in base64".to_owned()));
    }
    check_32("cluster.secret", &bundle.cluster.secret)?;
    check_token("trustdinfo.token", &bundle.trustd.token)?;
    let secrets = &bundle.secrets;
    if bundle.certs.k8s.is_some() {
        check_token("secrets.bootstraptoken", &secrets.bootstrap_token)?;
        match (secrets.secretbox_encryption_secret.is_empty(), secrets.aescbc_encryption_secret.is_empty()) {
            (false, true) => check_32("secrets.secretboxencryptionsecret", &secrets.secretbox_encryption_secret)?,
            (true, false) => {}
            (both, _) => {
                let found = if both { "neither" } else { "both" };
                return Err(wrong(
                    "secrets",
                    format!("found {found} of secretboxencryptionsecret and aescbcencryptionsecret, expected one"),
                ));
            }
        }
        let key = bundle.certs.k8s_service_account.as_ref();
        let key = key.ok_or_else(|| wrong("certs.k8sserviceaccount", "found nothing, expected a key".to_owned()))?;
        PrivateKey::from_pem(key.key_pem().expose()).map_err(|e| wrong("certs.k8sserviceaccount.key", e.to_string()))?;
    }
    let certs = [
        ("certs.etcd", &bundle.certs.etcd),
        ("certs.k8s", &bundle.certs.k8s),
        ("certs.k8saggregator", &bundle.certs.k8s_aggregator),
        ("certs.os", &bundle.certs.os),
    ];
    for (key, pair) in certs {
        match pair {
            Some(pair) => {
                Ca::from_pem(&pair.cert_pem(), pair.key_pem().expose()).map_err(|e| wrong(key, e.to_string()))?;
            }
            None if key == "certs.os" => return Err(wrong(key, "found nothing, expected a certificate and its key".to_owned())),
            None => {}
        }
    }
    Ok(())
}

fn check_token(key: &str, token: &Secret) -> Result<(), Error> {
    let lower = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    let fine = token.expose().split_once('.').is_some_and(|(id, secret)| lower(id, 6) && lower(secret, 16));
    if fine { Ok(()) } else { Err(Error::Bundle(format!("{key}: expected 6 and 16 lower-case letters and digits with a dot between"))) }
}

fn check_32(key: &str, secret: &Secret) -> Result<(), Error> {
    let length = base64::engine::general_purpose::STANDARD.decode(secret.expose()).map(|b| b.len());
    match length {
        Ok(32) => Ok(()),
        Ok(n) => Err(Error::Bundle(format!("{key}: found {n} bytes, expected 32 in base64"))),
        Err(_) => Err(Error::Bundle(format!("{key}: found text that is not base64, expected 32 bytes in base64"))),
    }
}

/// The bundle that a control plane's configuration was made from.
///
/// # Errors
/// When the configuration is a worker's, or a secret is missing.
pub fn from_control_plane(config: &MachineConfig) -> Result<Bundle, Error> {
    if !config.machine_type().is_control_plane() {
        return Err(Error::Bundle(format!(
            "found the configuration of a {}, expected one of a control plane: only it holds all secrets",
            config.machine_type()
        )));
    }
    let missing = |what: &str| Error::Bundle(format!("the configuration has no {what}"));
    let pair = |ca: &model::config::machine::CaPem| CertKey::from_pem(&ca.cert, ca.key.expose());
    let identity = config.discovery_identity().ok_or_else(|| missing("cluster id and secret (DiscoveryIdentityConfig)"))?;
    let (secretbox, aescbc) = encryption_secrets(config);
    let bundle = Bundle {
        cluster: BundleCluster { id: identity.cluster_id.clone(), secret: identity.cluster_secret.clone() },
        secrets: BundleSecrets {
            bootstrap_token: config.base.bootstrap_token.clone(),
            secretbox_encryption_secret: secretbox,
            aescbc_encryption_secret: aescbc,
        },
        trustd: BundleTrustd { token: config.base.token.clone() },
        certs: BundleCerts {
            etcd: config.base.etcd.ca.as_ref().map(pair),
            k8s: config.kubernetes_ca().as_ref().map(pair),
            k8s_aggregator: config.aggregator_ca().as_ref().map(pair),
            k8s_service_account: config.service_account().map(|(key, _)| Key::from_pem(key.expose())),
            os: config.base.ca.as_ref().map(pair),
        },
    };
    validate(&bundle)?;
    Ok(bundle)
}

/// The first secretbox and AES-CBC keys for `secrets` in the encryption configuration.
fn encryption_secrets(config: &MachineConfig) -> (Secret, Secret) {
    let rules = config.etcd_encryption().and_then(|c| c.get("resources")).and_then(|r| r.as_array());
    let providers = rules.into_iter().flatten().filter(|rule| {
        let covered = rule.get("resources").and_then(|r| r.as_array());
        covered.is_some_and(|names| names.iter().any(|n| n == "secrets"))
    });
    let providers: Vec<_> = providers.filter_map(|rule| rule.get("providers")?.as_array()).flatten().collect();
    let first = |kind: &str| {
        let key = providers.iter().find_map(|p| p.get(kind)?.get("keys")?.get(0)?.get("secret")?.as_str());
        key.map(Secret::from).unwrap_or_default()
    };
    let secretbox = first("secretbox");
    let aescbc = if secretbox.is_empty() { first("aescbc") } else { Secret::default() };
    (secretbox, aescbc)
}
