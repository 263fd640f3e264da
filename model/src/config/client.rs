//! The client's file of contexts (talosconfig): which cluster, by which endpoints, with which certificate.

use std::collections::BTreeMap;

use super::problem::{Problem, Problems};
use super::schema::{Cx, Section, Shape, decode_section, encode_section, redact, section};
use super::types::Secret;
use super::{emit, secrets, tree};

section! {
    /// The file.
    pub struct ClientConfig {
        "context" context: String [always()] = "The context in use.";
        "contexts" contexts: BTreeMap<String, Context> [always()] = "Contexts by name.";
    }

    /// How one cluster is reached.
    pub struct Context {
        "target" target: String = "One endpoint, as older files say it.";
        "endpoints" endpoints: Vec<String> [always()] = "Where the machine API is: hosts, with a port if it is not 50000.";
        "nodes" nodes: Vec<String> = "Machines that commands are about when none is given.";
        "ca" ca: String = "Authority of the machine API, PEM in base64.";
        "crt" crt: String = "Client certificate, PEM in base64.";
        "key" key: Secret = "Its key, PEM in base64.";
        "auth" auth: Option<Auth> = "Other ways to prove who one is.";
        "cluster" cluster: String = "Name of the cluster when the endpoint is a proxy for several.";
        "proxy-url" proxy_url: String = "Proxy on the way.";
    }

    /// Other ways to prove who one is.
    pub struct Auth {
        "basic" basic: Option<BasicAuth> = "User name and password.";
        "siderov1" siderov1: Option<SideroAuth> = "A key of a fleet manager's user.";
    }

    /// User name and password.
    pub struct BasicAuth {
        "username" username: String = "User name.";
        "password" password: Secret = "Password.";
    }

    /// A key of a fleet manager's user.
    pub struct SideroAuth {
        "identity" identity: String = "Who.";
    }
}

impl ClientConfig {
    /// Reads a file; an empty one has no contexts. Old `target`s become endpoints.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problems> {
        let (documents, mut problems) = tree::parse(bytes, 0);
        let mut cx = Cx::new("");
        let config = match documents.as_slice() {
            [] => Some(Self::default()),
            [document] => decode_section::<Self>(&document.root, &mut cx),
            more => return Err(Problem::error("", format!("{} documents", more.len()), "one document: contexts of the client").into()),
        };
        problems.append(&mut cx.problems);
        let Some(mut config) = config.filter(|_| problems.is_empty()) else { return Err(Problems(problems)) };
        for context in config.contexts.values_mut() {
            if !context.target.is_empty() && context.endpoints.is_empty() {
                context.endpoints.push(std::mem::take(&mut context.target));
            }
            context.target.clear();
        }
        Ok(config)
    }

    /// Writes the file. It holds keys: mode 0600.
    #[must_use]
    pub fn encode(&self) -> String {
        emit::document(&encode_section(self))
    }

    /// Writes it with keys replaced by `REDACTED`.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut node = encode_section(self);
        redact(&mut node, &Shape::Section(Self::INFO));
        emit::document(&node)
    }

    /// A file with one context, in use.
    #[must_use]
    pub fn single(name: &str, context: Context) -> Self {
        Self { context: name.to_owned(), contexts: BTreeMap::from([(name.to_owned(), context)]) }
    }

    /// Adds the contexts of another file and uses its context. A name that is taken by something else gets a number: `demo-1`.
    /// Returns the renamed ones, old name and new.
    pub fn merge(&mut self, other: &Self) -> Vec<(String, String)> {
        let mut renamed = Vec::new();
        for (name, context) in &other.contexts {
            let free = |n: &str| self.contexts.get(n).is_none_or(|there| there == context);
            let mut new = name.clone();
            let mut number = 0;
            while !free(&new) {
                number += 1;
                new = format!("{name}-{number}");
            }
            if other.context == *name {
                self.context.clone_from(&new);
            }
            if new != *name {
                renamed.push((name.clone(), new.clone()));
            }
            self.contexts.insert(new, context.clone());
        }
        renamed
    }

    /// The context of that name, or the one in use.
    #[must_use]
    pub fn get(&self, name: Option<&str>) -> Option<&Context> {
        self.contexts.get(name.unwrap_or(&self.context))
    }
}

impl Context {
    /// A context out of PEM texts.
    #[must_use]
    pub fn from_pem(ca: &str, cert: &str, key: &str) -> Self {
        Self { ca: secrets::to_base64(ca), crt: secrets::to_base64(cert), key: Secret::new(secrets::to_base64(key)), ..Self::default() }
    }
    /// The authority as PEM; empty when it is no base64 of a text.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        secrets::from_base64(&self.ca)
    }
    /// The client certificate as PEM.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        secrets::from_base64(&self.crt)
    }
    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> Secret {
        Secret::new(secrets::from_base64(self.key.expose()))
    }
}

/// The name of a context for a new certificate: `role@cluster` when it has one role, else the cluster's name.
#[must_use]
pub fn context_name(cluster: &str, roles: &[String]) -> String {
    match roles {
        [role] => format!("{}@{cluster}", role.strip_prefix("os:").unwrap_or(role)),
        _ => cluster.to_owned(),
    }
}
