//! The registry knows where each function stands.
use duroxide::__private::{Descriptor, inventory};
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
    let found: Vec<_> = inventory::iter::<Descriptor>().collect();
    assert_eq!(found.len(), 1);
    let place = &found[0].place;
    assert_eq!((place.line, place.doc), (10, "Adds one."));
    assert!(place.file.ends_with("place.rs"), "{}", place.file);
}
