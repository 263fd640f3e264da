//! The node's one binary; argv[0] chooses the applet.
fn main() {}
