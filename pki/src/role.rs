//! Roles of clients of the machine API. A client's certificate carries them as organisations.

use std::collections::BTreeSet;
use std::fmt;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading, and safe operations such as reboot.
    Operator,
    /// Reading what is not secret.
    Reader,
    /// Taking etcd snapshots.
    EtcdBackup,
    /// Writing machine metadata (META).
    MetaWriter,
    /// Verifying images.
    ImageVerifier,
    /// Speaking for another client: only the API processes of control planes.
    Impersonator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] =
        [Self::Admin, Self::Operator, Self::Reader, Self::EtcdBackup, Self::MetaWriter, Self::ImageVerifier, Self::Impersonator];

    /// Its name in certificates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "os:admin",
            Self::Operator => "os:operator",
            Self::Reader => "os:reader",
            Self::EtcdBackup => "os:etcd:backup",
            Self::MetaWriter => "os:meta:writer",
            Self::ImageVerifier => "os:image:verifier",
            Self::Impersonator => "os:impersonator",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of roles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles(pub BTreeSet<Role>);

impl Roles {
    /// The known roles among some names, and the names that are none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> (Self, Vec<String>) {
        let (mut roles, mut unknown) = (BTreeSet::new(), Vec::new());
        for name in names {
            match Role::parse(name) {
                Some(role) => {
                    roles.insert(role);
                }
                None => unknown.push(name.to_owned()),
            }
        }
        (Self(roles), unknown)
    }

    /// Whether any of some roles is in the set.
    #[must_use]
    pub fn any_of(&self, roles: &[Role]) -> bool {
        roles.iter().any(|r| self.0.contains(r))
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().collect())
    }
}
