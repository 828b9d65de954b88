//! The registry knows the source place of each function.
#![cfg_attr(rustfmt, rustfmt_skip)]
use duroxide::prelude::*;
/// Adds one.
/// And no more.
#[activity(
    name = "add-one"
)]
async fn add(n: u8) -> Result<u8, String> {
    Ok(n + 1)
}

fn main() {
    let _ = add;
    let found: Vec<_> = duroxide::Registry::discover().entries().collect();
    assert_eq!((found.len(), found[0].name()), (1, "add-one"));
    let place = found[0].place();
    assert_eq!((place.line, place.doc), (9, "Adds one."));
    assert!(place.file.ends_with("place.rs"), "{}", place.file);
}
