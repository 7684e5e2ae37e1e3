//! Developer tasks of netpath.
fn main() {}
