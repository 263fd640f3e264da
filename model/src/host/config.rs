//! [`MachineConfig`]: the machine's configuration as a resource.
//!
//! The spec is the whole text, all documents; what they say is `crate::config`'s, asked through [`MachineConfig::machine`]. In YAML the
//! spec is one text, and so that clients know to treat it as such the metadata carries an annotation.

use std::fmt;
use std::sync::{Arc, OnceLock};

use resource::proto::{DecodeError, Reader, put_bytes_field};
use resource::yaml::{Node, REDACTED, YamlError};
use resource::{Definition, Form, Metadata, Shape, Spec};

use crate::config::{self, Config, Loaded, Problems};

/// The machine's configuration. Sensitive: it holds every secret of the machine.
///
/// Cheap to clone. It is read at most once, when somebody first asks what it says; clones share the outcome.
#[derive(Clone)]
pub struct MachineConfig {
    shared: Arc<Shared>,
}

struct Shared {
    text: Arc<[u8]>,
    loaded: OnceLock<Result<Loaded, Problems>>,
}

impl MachineConfig {
    /// The id of the configuration in force.
    pub const ID_ACTIVE: &'static str = "v1alpha1";
    /// The id of the configuration on disk, which the next boot starts with.
    pub const ID_PERSISTENT: &'static str = "persistent";
    /// The annotation, with value `1`, that tells clients that the YAML form is a text.
    pub const YAML_SPEC_ANNOTATION: &'static str = "talos.dev/yaml-spec";

    /// A configuration of this text. Whether it is one shows when it is asked.
    #[must_use]
    pub fn new(text: impl Into<Arc<[u8]>>) -> Self {
        Self { shared: Arc::new(Shared { text: text.into(), loaded: OnceLock::new() }) }
    }

    /// The text, as it was given.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.shared.text
    }

    /// What the text says.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn loaded(&self) -> Result<&Loaded, &Problems> {
        self.shared.loaded.get_or_init(|| Config::load(&self.shared.text)).as_ref()
    }

    /// What the configuration means; `None` when it cannot be read.
    #[must_use]
    pub fn machine(&self) -> Option<&config::MachineConfig> {
        self.loaded().ok().map(|loaded| &loaded.machine)
    }

    /// Metadata for a configuration with this id, with its annotation.
    #[must_use]
    pub fn metadata(id: &str) -> Metadata {
        Metadata::of::<Self>(id).with_annotation(Self::YAML_SPEC_ANNOTATION, "1")
    }
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self::new([])
    }
}

impl PartialEq for MachineConfig {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Debug for MachineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineConfig({} bytes)", self.text().len())
    }
}

impl Spec for MachineConfig {
    const TYPE: &'static str = "MachineConfigs.config.talos.dev";
    const NAMESPACE: &'static str = "config";

    fn definition() -> &'static Definition {
        static DEFINITION: OnceLock<Definition> = OnceLock::new();
        DEFINITION.get_or_init(|| {
            Definition::new(&Shape {
                type_: Self::TYPE,
                namespace: Self::NAMESPACE,
                sensitive: true,
                ids: &[Self::ID_ACTIVE, Self::ID_PERSISTENT],
                ..Shape::default()
            })
        })
    }

    fn encode_proto(&self, out: &mut Vec<u8>) {
        if !self.text().is_empty() {
            put_bytes_field(1, self.text(), out);
        }
    }

    fn decode_proto(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut text: &[u8] = &[];
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.record()? {
            if number == 1 {
                text = wire.bytes().map_err(|error| error.within("MachineConfig", number))?;
            }
        }
        Ok(Self::new(text))
    }

    fn encode_yaml(&self, form: Form) -> Node {
        match form {
            Form::Full => Node::Str(String::from_utf8_lossy(self.text()).into_owned()),
            // What cannot be read may hold secrets anywhere.
            Form::Redacted => self.loaded().map_or_else(|_| Node::from(REDACTED), |loaded| Node::Str(loaded.text.redacted())),
        }
    }

    fn decode_yaml(node: &Node) -> Result<Self, YamlError> {
        match node {
            Node::Str(text) => Ok(Self::new(text.as_bytes())),
            _ => Err(YamlError::expected("the configuration as one text", node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_was_read_and_bad_texts_say_why() {
        let text = b"version: v1alpha1\nmachine:\n    type: worker\n    token: aaaaaa.0123456789abcdef\ncluster: {}\n";
        let first = MachineConfig::new(text.as_slice());
        let second = first.clone();
        let machine: *const _ = first.machine().expect("a configuration");
        assert!(std::ptr::eq(machine, second.machine().expect("a configuration")));
        let redacted = resource::yaml::emit(&first.encode_yaml(Form::Redacted));
        assert!(!redacted.contains("0123456789abcdef"), "{redacted}");
        let bad = MachineConfig::new(b"machine: [".as_slice());
        assert!(bad.machine().is_none() && bad.loaded().is_err());
        assert_eq!(bad.encode_yaml(Form::Redacted), Node::from(REDACTED));
        assert_eq!(format!("{first:?}"), "MachineConfig(91 bytes)");
    }
}
