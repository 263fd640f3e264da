//! What a kind says about itself to clients: names, columns, sensitivity.

/// One column of a kind's table: its heading and a JSONPath into the YAML form of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// The path, `{.hostname}`.
    pub path: &'static str,
}

/// What a kind declares; [`Definition`] is made of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// The full type name.
    pub type_: &'static str,
    /// The namespace that clients look in when they name none.
    pub namespace: &'static str,
    /// Aliases besides the automatic ones.
    pub aliases: &'static [&'static str],
    /// Whether no names are derived: only the declared aliases (and the type name itself) find the kind.
    pub no_automatic_aliases: bool,
    /// Table columns.
    pub columns: &'static [Column],
    /// Whether only administrators may read it.
    pub sensitive: bool,
    /// Ids that are constants.
    pub ids: &'static [&'static str],
}

/// What a kind says about itself to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The full type name, `HostnameSpecs.net.talos.dev`.
    pub type_: &'static str,
    /// The singular, `HostnameSpec`: what tables show.
    pub display_type: String,
    /// The namespace that clients look in when they name none.
    pub default_namespace: &'static str,
    /// Short names: the declared ones, then the automatic ones.
    pub aliases: Vec<String>,
    /// Every name that finds the kind: the plural and its dotted forms, then `aliases`.
    pub all_aliases: Vec<String>,
    /// Whether no names were derived.
    pub no_automatic_aliases: bool,
    /// Table columns.
    pub columns: &'static [Column],
    /// Whether only administrators may read it.
    pub sensitive: bool,
    /// Ids that are constants.
    pub ids: &'static [&'static str],
}

impl Definition {
    /// Derives the names that follow from the type name: its singular and plural in lower case, the plural with each leading part of the
    /// suffix, and, where the name has two capitals or more, those capitals (`hs`), also with an `s` unless they end in one.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let (plural, suffix) = shape.type_.split_once('.').unwrap_or((shape.type_, ""));
        let display_type = singular(plural);
        let mut aliases: Vec<String> = shape.aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let mut all_aliases = Vec::new();
        if !shape.no_automatic_aliases {
            let automatic = automatic_aliases(plural, &display_type);
            aliases.extend(automatic.into_iter().filter(|alias| !shape.aliases.contains(&alias.as_str())));
            all_aliases = dotted_names(plural, suffix);
        }
        all_aliases.extend(aliases.iter().cloned());
        Self {
            type_: shape.type_,
            display_type,
            default_namespace: shape.namespace,
            aliases,
            all_aliases,
            columns: shape.columns,
            no_automatic_aliases: shape.no_automatic_aliases,
            sensitive: shape.sensitive,
            ids: shape.ids,
        }
    }

    /// The id under which the definition is itself a resource: the type name in lower case.
    #[must_use]
    pub fn id(&self) -> String {
        self.type_.to_lowercase()
    }

    /// Whether `name` (a type name or alias, in any case) means this kind.
    #[must_use]
    pub fn answers_to(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        name == self.id() || self.all_aliases.contains(&name)
    }
}

/// The singular in lower case, and the capitals where there are two or more.
fn automatic_aliases(plural: &str, display_type: &str) -> Vec<String> {
    let mut aliases = vec![display_type.to_lowercase()];
    let capitals: String = plural.chars().filter(char::is_ascii_uppercase).collect::<String>().to_lowercase();
    if capitals.len() > 1 {
        aliases.push(capitals.clone());
        if !capitals.ends_with('s') {
            aliases.push(format!("{capitals}s"));
        }
    }
    aliases
}

/// `links`, `links.net`, `links.net.example` of `Links.net.example.org`.
fn dotted_names(plural: &str, suffix: &str) -> Vec<String> {
    let mut name = plural.to_lowercase();
    let mut names = vec![name.clone()];
    let parts: Vec<&str> = suffix.split('.').collect();
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        name = format!("{name}.{part}");
        names.push(name.clone());
    }
    names
}

/// The English singular of a kind's name, as the reference forms it (so `Caches` gives `Cach`).
#[must_use]
pub fn singular(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for ending in ["sses", "uses", "shes", "ches", "xes"] {
        if plural.ends_with(ending) {
            return plural[..plural.len() - 2].to_owned();
        }
    }
    plural.strip_suffix('s').unwrap_or(plural).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_type() {
        let definition = Definition::new(&Shape { type_: "BootIDs.runtime.talos.dev", namespace: "runtime", ..Shape::default() });
        assert_eq!(definition.display_type, "BootID");
        assert_eq!(definition.aliases, ["bootid", "bid", "bids"]);
        assert_eq!(definition.all_aliases, ["bootids", "bootids.runtime", "bootids.runtime.talos", "bootid", "bid", "bids"]);
        assert!(definition.answers_to("BootIDs.runtime.talos.dev") && definition.answers_to("BID") && !definition.answers_to("boot"));
    }

    #[test]
    fn singulars() {
        for (plural, expected) in [
            ("AddressStatuses", "AddressStatus"),
            ("NodeAddresses", "NodeAddress"),
            ("Identities", "Identity"),
            ("DNSResolveCaches", "DNSResolveCach"),
            ("LinkRefreshes", "LinkRefresh"),
            ("Services", "Service"),
            ("OSRootSecrets", "OSRootSecret"),
        ] {
            assert_eq!(singular(plural), expected);
        }
    }
}
