//! orlopctl.
fn main() {}
