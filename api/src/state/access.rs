//! What a resource server lets its callers see.

use std::collections::{BTreeMap, BTreeSet};

use resource::Registry;
use tonic::Status;

use crate::roles::{Role, Roles};

/// The policy of a [`Server`](super::Server). Every one is read-only unless made [`writable`](Access::writable).
#[derive(Clone, Debug)]
pub struct Access {
    scope: Scope,
    read_only: bool,
}

#[derive(Clone, Debug)]
enum Scope {
    /// All registered kinds; a sensitive one needs an admin.
    Registered {
        /// Type name in lower case → sensitive.
        kinds: BTreeMap<String, bool>,
        namespaces: BTreeSet<String>,
    },
    /// These kinds and nothing else, whoever asks.
    Only(Vec<(String, String)>),
    /// Everything.
    All,
}

impl Access {
    /// What a node's API offers: the kinds of `registry` in their default namespaces, `meta`, and `namespaces`.
    pub fn node<S: Into<String>>(registry: &Registry, namespaces: impl IntoIterator<Item = S>) -> Access {
        let mut kinds: BTreeMap<String, bool> = registry.iter().map(|e| (e.definition().id(), e.definition().sensitive)).collect();
        for built_in in ["namespaces.meta.cosi.dev", "resourcedefinitions.meta.cosi.dev"] {
            kinds.entry(built_in.to_owned()).or_insert(false);
        }
        let mut all: BTreeSet<String> = registry.iter().map(|e| e.definition().default_namespace.to_owned()).collect();
        all.insert("meta".to_owned());
        all.extend(namespaces.into_iter().map(Into::into));
        Access { scope: Scope::Registered { kinds, namespaces: all }, read_only: true }
    }

    /// Only these `(namespace, type)` pairs, for a process that needs no more.
    pub fn only<N: Into<String>, T: Into<String>>(kinds: impl IntoIterator<Item = (N, T)>) -> Access {
        let list = kinds.into_iter().map(|(n, t)| (n.into(), t.into())).collect();
        Access { scope: Scope::Only(list), read_only: true }
    }

    /// Everything, for trusted callers.
    pub fn all() -> Access {
        Access { scope: Scope::All, read_only: true }
    }

    /// The same, with writing allowed.
    #[must_use]
    pub fn writable(mut self) -> Access {
        self.read_only = false;
        self
    }

    /// Whether a caller may read this kind.
    ///
    /// # Errors
    /// `PermissionDenied`, in the words that clients know.
    pub fn read(&self, roles: &Roles, namespace: &str, type_: &str) -> Result<(), Status> {
        match &self.scope {
            Scope::All => Ok(()),
            Scope::Only(list) if list.iter().any(|(n, t)| n == namespace && t == type_) => Ok(()),
            Scope::Only(_) => Err(unsupported(type_)),
            Scope::Registered { kinds, namespaces } => {
                let sensitive = *kinds.get(&type_.to_lowercase()).ok_or_else(|| unsupported(type_))?;
                if sensitive && !roles.has(Role::Admin) {
                    return Err(Status::permission_denied("not authorized"));
                }
                if !namespaces.contains(namespace) {
                    return Err(Status::permission_denied(format!("namespace {namespace:?} is not supported")));
                }
                Ok(())
            }
        }
    }

    /// Whether a caller may change this kind.
    ///
    /// # Errors
    /// `PermissionDenied`, in the words that clients know.
    pub fn write(&self, roles: &Roles, namespace: &str, type_: &str) -> Result<(), Status> {
        if self.read_only {
            return Err(Status::permission_denied("write access is not allowed"));
        }
        self.read(roles, namespace, type_)
    }
}

fn unsupported(type_: &str) -> Status {
    Status::permission_denied(format!("resource type {type_:?} is not supported"))
}
