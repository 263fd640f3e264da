//! The two kinds by which a state describes itself: its namespaces and the kinds it holds. Both live in namespace `meta`.

use crate::{Definition, message, resource, text_enum};

/// A namespace; the id is its name.
#[resource(type = "Namespaces.meta.cosi.dev", namespace = "meta", aliases("ns", "nss", "namespace", "namespaces"))]
pub struct Namespace {
    /// What the namespace is for.
    #[field(1)]
    pub description: String,
}

/// A kind; the id is its type name in lower case.
#[resource(
    type = "ResourceDefinitions.meta.cosi.dev",
    namespace = "meta",
    columns("Aliases" = "{.aliases[:]}")
)]
pub struct ResourceDefinition {
    /// The full type name.
    #[field(1, yaml = "type")]
    pub resource_type: String,
    /// The singular.
    #[field(2)]
    pub display_type: String,
    /// The namespace that clients look in when they name none.
    #[field(3)]
    pub default_namespace: String,
    /// Short names.
    #[field(4)]
    pub aliases: Vec<String>,
    /// Every name that finds the kind.
    #[field(5)]
    pub all_aliases: Vec<String>,
    /// Whether only the declared aliases count. Not on the protobuf wire.
    #[field(no_proto, omit_empty)]
    pub skip_automatic_aliases: bool,
    /// Table columns.
    #[field(6)]
    pub print_columns: Vec<PrintColumn>,
    /// Who may read it.
    #[field(7, omit_empty)]
    pub sensitivity: Sensitivity,
}

/// One column of a kind's table.
#[message]
pub struct PrintColumn {
    /// The heading.
    #[field(1)]
    pub name: String,
    /// A JSONPath into the YAML form of the spec.
    #[field(2)]
    pub json_path: String,
}

/// Who may read a kind.
#[text_enum]
pub enum Sensitivity {
    /// Every reader.
    #[text(0, "")]
    None,
    /// Administrators.
    #[text(1, "sensitive")]
    Sensitive,
}

impl From<&Definition> for ResourceDefinition {
    fn from(definition: &Definition) -> Self {
        let column = |column: &crate::Column| PrintColumn { name: column.name.to_owned(), json_path: column.path.to_owned() };
        Self {
            resource_type: definition.type_.to_owned(),
            display_type: definition.display_type.clone(),
            default_namespace: definition.default_namespace.to_owned(),
            aliases: definition.aliases.clone(),
            all_aliases: definition.all_aliases.clone(),
            skip_automatic_aliases: definition.no_automatic_aliases,
            print_columns: definition.columns.iter().map(column).collect(),
            sensitivity: if definition.sensitive { Sensitivity::Sensitive } else { Sensitivity::None },
        }
    }
}
