//! Kubelets' serving certificates: which requests are approved.
//!
//! Kubernetes approves none by itself, since it cannot know which names and addresses a machine
//! may claim. The node object can: a request is approved when the node itself made it, for itself,
//! with nothing but its own names and addresses, for serving.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine as _;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use thiserror::Error;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, ParsedExtension};

use super::{KubeError, ask};

/// The signer of serving certificates.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// What a request claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Who made the request, as the API server authenticated it.
    pub requester: String,
    /// The requester's groups.
    pub groups: Vec<String>,
    /// Subject common name.
    pub common_name: String,
    /// Subject organisations.
    pub organizations: Vec<String>,
    /// Names to serve.
    pub dns_names: BTreeSet<String>,
    /// Addresses to serve.
    pub addresses: BTreeSet<IpAddr>,
    /// Key usages asked for.
    pub usages: BTreeSet<String>,
}

/// What a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeNames {
    /// Its name.
    pub name: String,
    /// Its host names.
    pub dns_names: BTreeSet<String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Why a request is not approved. It stays as it is: a person may approve it, and a request that
/// came before its node object is looked at again.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The request does not parse.
    #[error("the request does not parse: {0}")]
    Malformed(String),
    /// The requester is no node.
    #[error("{requester:?} is no node")]
    NotANode {
        /// Who asked.
        requester: String,
    },
    /// The node asks for somebody else.
    #[error("{requester} asks for a certificate of {common_name:?}")]
    Foreign {
        /// Who asked.
        requester: String,
        /// For whom.
        common_name: String,
    },
    /// The organisation is not that of nodes.
    #[error("organizations are {found:?}, expected exactly system:nodes")]
    Organization {
        /// What was found.
        found: Vec<String>,
    },
    /// There is no such node yet.
    #[error("node {name} is not there yet")]
    NoNode {
        /// Its name.
        name: String,
    },
    /// Nothing would be served.
    #[error("neither a name nor an address is asked for")]
    Nothing,
    /// Names or addresses that the node does not have.
    #[error("node {name} does not have {}", extra.join(", "))]
    NotItsOwn {
        /// The node.
        name: String,
        /// What it does not have.
        extra: Vec<String>,
    },
    /// Usages beyond serving.
    #[error("usages {found:?} are not those of a server")]
    Usages {
        /// What was found.
        found: Vec<String>,
    },
}

/// Whether a claim is approved. `node` is the node object of the requester, if there is one.
///
/// # Errors
/// Why it is not.
pub fn judge(claim: &Claim, node: Option<&NodeNames>) -> Result<(), Refusal> {
    let requester = claim.requester.clone();
    let Some(name) = requester.strip_prefix("system:node:").filter(|name| !name.is_empty()) else {
        return Err(Refusal::NotANode { requester });
    };
    if !claim.groups.iter().any(|group| group == "system:nodes") {
        return Err(Refusal::NotANode { requester });
    }
    if claim.common_name != requester {
        let common_name = claim.common_name.clone();
        return Err(Refusal::Foreign { requester, common_name });
    }
    if claim.organizations != ["system:nodes"] {
        return Err(Refusal::Organization { found: claim.organizations.clone() });
    }
    let serving = |usage: &String| matches!(usage.as_str(), "digital signature" | "key encipherment" | "server auth");
    if !claim.usages.iter().all(serving) || !claim.usages.contains("server auth") {
        return Err(Refusal::Usages { found: claim.usages.iter().cloned().collect() });
    }
    if claim.dns_names.is_empty() && claim.addresses.is_empty() {
        return Err(Refusal::Nothing);
    }
    let Some(node) = node.filter(|node| node.name == name) else {
        return Err(Refusal::NoNode { name: name.to_owned() });
    };
    let extra: Vec<String> = claim
        .dns_names
        .iter()
        .filter(|dns| **dns != node.name && !node.dns_names.contains(*dns))
        .cloned()
        .chain(claim.addresses.difference(&node.addresses).map(ToString::to_string))
        .collect();
    if !extra.is_empty() {
        return Err(Refusal::NotItsOwn { name: name.to_owned(), extra });
    }
    Ok(())
}

/// Reads a request object.
///
/// # Errors
/// [`Refusal::Malformed`].
pub fn read(request: &CertificateSigningRequest) -> Result<Claim, Refusal> {
    let malformed = |what: &str| Refusal::Malformed(what.to_owned());
    let text = std::str::from_utf8(&request.spec.request.0).map_err(|_| malformed("not PEM"))?;
    let der = pem_body(text).ok_or_else(|| malformed("not PEM"))?;
    let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| malformed(&error.to_string()))?;
    parsed.verify_signature().map_err(|_| malformed("its signature is not by its own key"))?;
    let subject = &parsed.certification_request_info.subject;
    let mut claim = Claim {
        requester: request.spec.username.clone().unwrap_or_default(),
        groups: request.spec.groups.clone().unwrap_or_default(),
        common_name: subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect::<Vec<_>>().join(","),
        organizations: subject.iter_organization().filter_map(|name| name.as_str().ok().map(str::to_owned)).collect(),
        usages: request.spec.usages.clone().unwrap_or_default().into_iter().collect(),
        ..Default::default()
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(dns) => {
                    claim.dns_names.insert((*dns).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    let address = address(bytes).ok_or_else(|| malformed("an address of odd length"))?;
                    claim.addresses.insert(address);
                }
                _ => return Err(malformed("a name that is neither DNS name nor address")),
            }
        }
    }
    Ok(claim)
}

fn pem_body(text: &str) -> Option<Vec<u8>> {
    let body = text.split_once("-----BEGIN CERTIFICATE REQUEST-----")?.1.split_once("-----END CERTIFICATE REQUEST-----")?.0;
    let compact: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(compact).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Whether a request waits for a decision.
pub fn is_pending(request: &CertificateSigningRequest) -> bool {
    request.spec.signer_name == SIGNER && request.status.as_ref().and_then(|status| status.conditions.as_ref()).is_none_or(Vec::is_empty)
}

/// What a node object has.
pub fn names_of(node: &Node) -> NodeNames {
    let mut names = NodeNames { name: node.metadata.name.clone().unwrap_or_default(), ..Default::default() };
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    for entry in listed {
        match entry.address.parse() {
            Ok(address) => {
                names.addresses.insert(address);
            }
            Err(_) => {
                names.dns_names.insert(entry.address.clone());
            }
        }
    }
    names
}

/// Approves a request.
///
/// # Errors
/// See [`KubeError`].
pub async fn approve(client: &kube::Client, name: &str) -> Result<(), KubeError> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let patch = json!({"status": {"conditions": [{
        "type": "Approved",
        "status": "True",
        "reason": "NodeServingCertificate",
        "message": "requested by the node itself, for its own names and addresses",
    }]}});
    ask(format!("approve certificate request {name}"), api.patch_approval(name, &PatchParams::default(), &Patch::Merge(&patch)))
        .await
        .map(drop)
}

/// Looks at a pending request and approves it if it may be.
///
/// # Errors
/// See [`KubeError`]. A refusal is no error: it is returned.
pub async fn handle(client: &kube::Client, request: &CertificateSigningRequest) -> Result<Result<(), Refusal>, KubeError> {
    let name = request.metadata.name.clone().unwrap_or_default();
    let claim = match read(request) {
        Ok(claim) => claim,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let node = match claim.requester.strip_prefix("system:node:") {
        Some(node) => {
            let api: Api<Node> = Api::all(client.clone());
            ask(format!("get node {node}"), api.get_opt(node)).await?
        }
        None => None,
    };
    let names = node.as_ref().map(names_of);
    if let Err(refusal) = judge(&claim, names.as_ref()) {
        return Ok(Err(refusal));
    }
    approve(client, &name).await?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
        items.into_iter().collect()
    }

    fn claim() -> Claim {
        Claim {
            requester: "system:node:w1".into(),
            groups: vec!["system:nodes".into(), "system:authenticated".into()],
            common_name: "system:node:w1".into(),
            organizations: vec!["system:nodes".into()],
            dns_names: set(["w1".to_owned()]),
            addresses: set(["10.5.0.3".parse().unwrap()]),
            usages: set(["digital signature".to_owned(), "server auth".to_owned()]),
        }
    }

    fn node() -> NodeNames {
        NodeNames {
            name: "w1".into(),
            dns_names: set(["w1".to_owned()]),
            addresses: set(["10.5.0.3".parse().unwrap(), "fd00::3".parse().unwrap()]),
        }
    }

    #[test]
    fn its_own_names_are_approved() {
        assert_eq!(judge(&claim(), Some(&node())), Ok(()));
    }

    #[test]
    fn everything_else_is_not() {
        let refused = |change: &dyn Fn(&mut Claim)| {
            let mut claim = claim();
            change(&mut claim);
            judge(&claim, Some(&node())).unwrap_err()
        };
        assert!(matches!(refused(&|c| c.requester = "system:admin".into()), Refusal::NotANode { .. }));
        assert!(matches!(refused(&|c| c.groups.clear()), Refusal::NotANode { .. }));
        assert!(matches!(refused(&|c| c.common_name = "system:node:cp-1".into()), Refusal::Foreign { .. }));
        assert!(matches!(refused(&|c| c.organizations.push("system:masters".into())), Refusal::Organization { .. }));
        assert!(matches!(
            refused(&|c| {
                c.addresses.insert("10.5.0.2".parse().unwrap());
            }),
            Refusal::NotItsOwn { .. }
        ));
        assert!(matches!(
            refused(&|c| {
                c.dns_names.insert("kubernetes".into());
            }),
            Refusal::NotItsOwn { .. }
        ));
        assert!(matches!(
            refused(&|c| {
                c.usages.insert("client auth".into());
            }),
            Refusal::Usages { .. }
        ));
        assert!(matches!(
            refused(&|c| {
                c.dns_names.clear();
                c.addresses.clear();
            }),
            Refusal::Nothing
        ));
        assert_eq!(judge(&claim(), None), Err(Refusal::NoNode { name: "w1".into() }));
        // Another node's object does not vouch for it.
        let other = NodeNames { name: "w2".into(), ..node() };
        assert_eq!(judge(&claim(), Some(&other)), Err(Refusal::NoNode { name: "w1".into() }));
    }

    #[test]
    fn rubbish_is_refused() {
        let mut request = CertificateSigningRequest::default();
        request.spec.request.0 = b"rubbish".to_vec();
        assert!(matches!(read(&request), Err(Refusal::Malformed(_))));
        request.spec.request.0 = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_vec();
        assert!(matches!(read(&request), Err(Refusal::Malformed(_))));
    }

    /// Made by `openssl req` for this test: CN=system:node:w1, O=system:nodes, DNS w1, IP 10.5.0.3.
    #[test]
    fn a_real_request_is_read() {
        let pem = include_str!("testdata/serving.csr");
        let mut request = CertificateSigningRequest::default();
        request.spec.request.0 = pem.as_bytes().to_vec();
        request.spec.username = Some("system:node:w1".into());
        request.spec.groups = Some(vec!["system:nodes".into()]);
        request.spec.usages = Some(vec!["digital signature".into(), "server auth".into()]);
        let read = read(&request).unwrap();
        assert_eq!(read.common_name, "system:node:w1");
        assert_eq!(read.organizations, ["system:nodes"]);
        assert_eq!(read.dns_names, set(["w1".to_owned()]));
        assert_eq!(read.addresses, set(["10.5.0.3".parse().unwrap()]));
        assert_eq!(judge(&read, Some(&node())), Ok(()));
    }
}
