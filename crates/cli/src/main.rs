//! The command `altclip`.
fn main() {}
