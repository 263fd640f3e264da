//! Typed resources: metadata, codecs, and the traits that a kind and a state implement.
