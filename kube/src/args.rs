//! Command-line arguments of the Kubernetes components and of etcd, and how a user's extra
//! arguments are merged into ours.
//!
//! Each flag has a policy: the user's value replaces ours, is added to ours, or is refused. Flags
//! are kept sorted by name, so that the same inputs always give the same bytes: a changed order
//! would restart a pod for nothing.

use std::collections::BTreeMap;

use thiserror::Error;

/// A user's extra arguments: flag name without dashes → its values, in order.
pub type ExtraArgs = BTreeMap<String, Vec<String>>;

/// What a user's value does to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The user's values replace ours. What a flag without a policy gets.
    Overwrite,
    /// The user's values are appended to ours, joined by commas into one flag.
    Additive,
    /// The flag is ours alone.
    Denied,
}

/// A user's argument that cannot be honoured.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ArgError {
    /// The flag is set by the node and must not be changed.
    #[error(
        "{component}: extra argument `{name}` is set to {found:?}, but the node sets it itself (to {ours:?}); remove it from extraArgs"
    )]
    Denied {
        /// The program the argument is for.
        component: String,
        /// The flag, without dashes.
        name: String,
        /// What the configuration asks for.
        found: Vec<String>,
        /// What the node sets.
        ours: Vec<String>,
    },
    /// The name is no flag name.
    #[error(
        "{component}: extra argument name {name:?} is not a flag name; expected letters, digits and dashes without leading dashes, such as `feature-gates`"
    )]
    Name {
        /// The program the argument is for.
        component: String,
        /// What was found.
        name: String,
    },
}

/// An ordered set of flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    flags: BTreeMap<String, Vec<String>>,
}

impl Args {
    /// No flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a flag with one value, or replaces it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.insert(name.to_owned(), vec![value.into()]);
        self
    }

    /// Adds a flag that is repeated once per value. Without values there is no flag.
    #[must_use]
    pub fn with_each<S: Into<String>>(mut self, name: &str, values: impl IntoIterator<Item = S>) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        if !values.is_empty() {
            self.flags.insert(name.to_owned(), values);
        }
        self
    }

    /// Whether the flag is set.
    pub fn contains(&self, name: &str) -> bool {
        self.flags.contains_key(name)
    }

    /// Merges a user's arguments under `policies`; flags named in none are overwritten.
    ///
    /// # Errors
    /// [`ArgError`] for the first (by name) flag that may not be set or is no flag.
    pub fn merged(mut self, component: &str, extra: &ExtraArgs, policies: &[(&str, Policy)]) -> Result<Self, ArgError> {
        for (name, values) in extra {
            if !is_flag_name(name) {
                return Err(ArgError::Name { component: component.to_owned(), name: name.clone() });
            }
            let policy = policies.iter().find(|(flag, _)| flag == name).map_or(Policy::Overwrite, |(_, policy)| *policy);
            match policy {
                Policy::Denied => {
                    return Err(ArgError::Denied {
                        component: component.to_owned(),
                        name: name.clone(),
                        found: values.clone(),
                        ours: self.flags.get(name).cloned().unwrap_or_default(),
                    });
                }
                Policy::Overwrite => {
                    self.flags.insert(name.clone(), values.clone());
                }
                Policy::Additive => {
                    let ours = self.flags.remove(name).unwrap_or_default();
                    self.flags.insert(name.clone(), vec![union(&ours, values)]);
                }
            }
        }
        Ok(self)
    }

    /// The flags as they are given to the program: `--name=value`, sorted by name, a flag with
    /// several values repeated in their order.
    pub fn to_flags(&self) -> Vec<String> {
        self.flags.iter().flat_map(|(name, values)| values.iter().map(move |value| format!("--{name}={value}"))).collect()
    }
}

/// Ours, then theirs, comma separated, each item once.
fn union(ours: &[String], theirs: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for item in ours.iter().chain(theirs).flat_map(|list| list.split(',')) {
        let item = item.trim();
        if !item.is_empty() && !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen.join(",")
}

fn is_flag_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(pairs: &[(&str, &[&str])]) -> ExtraArgs {
        pairs.iter().map(|(name, values)| ((*name).to_owned(), values.iter().map(|v| (*v).to_owned()).collect())).collect()
    }

    #[test]
    fn flags_are_sorted_and_repeated() {
        let args =
            Args::new().with("zeta", "1").with_each("issuer", ["b", "a"]).with("alpha", "x=y").with_each("none", Vec::<String>::new());
        assert_eq!(args.to_flags(), ["--alpha=x=y", "--issuer=b", "--issuer=a", "--zeta=1"]);
    }

    #[test]
    fn each_policy() {
        let base = Args::new().with("profiling", "false").with("controllers", "*").with("etcd-servers", "https://localhost:2379");
        let policies = [("controllers", Policy::Additive), ("etcd-servers", Policy::Denied)];
        let merged = base
            .clone()
            .merged(
                "x",
                &extra(&[("profiling", &["true"]), ("controllers", &["-ttl,*", "tokencleaner"]), ("feature-gates", &["A=true", "B=true"])]),
                &policies,
            )
            .unwrap();
        assert_eq!(
            merged.to_flags(),
            [
                "--controllers=*,-ttl,tokencleaner",
                "--etcd-servers=https://localhost:2379",
                "--feature-gates=A=true",
                "--feature-gates=B=true",
                "--profiling=true"
            ]
        );
        let denied = base.merged("kube-apiserver", &extra(&[("etcd-servers", &["x"])]), &policies).unwrap_err();
        let text = denied.to_string();
        assert!(text.contains("kube-apiserver") && text.contains("etcd-servers"), "{text}");
        assert!(text.contains("https://localhost:2379") && text.contains("remove it"), "{text}");
    }

    #[test]
    fn a_name_with_dashes_or_spaces_is_refused() {
        for name in ["--v", "", "a b", "v=2"] {
            let error = Args::new().merged("kubelet", &extra(&[(name, &["1"])]), &[]).unwrap_err();
            assert!(matches!(error, ArgError::Name { .. }), "{name:?}: {error}");
        }
    }
}
