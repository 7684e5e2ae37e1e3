//! The netpath command line.
fn main() {}
