//! Typed resources: metadata, codecs, and the traits that a kind and a state implement.
//!
//! A *resource* is metadata plus a *spec*. A spec is one plain struct; its protobuf form, YAML form, table columns, redacted form and
//! definition derive from it (`#[resource]`, `#[message]`, `#[text_enum]`, `#[text_flags]`). A [`State`] holds resources: the store of a
//! node is one, a client over the network is another. This crate does no IO and holds no resources itself.
//!
//! The idea to read the rest with: a kind is written once, as [`Spec`]; everything that must treat all kinds alike sees it through
//! [`AnySpec`], shared as [`AnyResource`], and can always go back with [`AnyResource::downcast`].

// The derive writes absolute paths, and this crate uses its own derive.
extern crate self as resource;

mod builtin;
mod definition;
mod error;
mod field;
mod meta;
mod name;
mod numbered;
mod query;
mod registry;
mod scalar;
mod spec;
mod state;
mod time;
mod url;
mod value;

pub mod proto;
pub mod yaml;

pub use builtin::{Namespace, PrintColumn, ResourceDefinition, Sensitivity};
pub use definition::{Column, Definition, Shape, singular};
pub use error::{Code, Error};
pub use field::{Field, Form, Message, Packing};
pub use meta::{Key, Kind, Metadata, Phase, Version};
pub use name::Name;
pub use query::{IdQuery, LabelOp, LabelQuery, LabelTerm, ListOptions};
pub use registry::{Entry, Registry};
pub use resource_derive::{message, resource, text_enum, text_flags};
pub use scalar::{Base64Bytes, Bytes, HardwareAddr, PemCert, PemKey, PemPair, StringBytes, YamlText};
pub use spec::{AnyResource, AnySpec, Opaque, Resource, Spec};
pub use state::{
    Bookmark, CreateOptions, DestroyOptions, Event, EventKind, State, StateExt, UpdateOptions, WatchKindOptions, WatchOptions, WatchStream,
};
pub use time::{Duration, Timestamp};
pub use url::Url;
pub use value::Value;

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What derived code needs in scope; not part of the interface for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::numbered::{Numbered, flag_words, flags_of_words, number_in_parentheses};
    pub use std::sync::OnceLock;
}
