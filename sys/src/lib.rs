//! Linux, behind safe functions. The only crate that may hold unsafe code.
