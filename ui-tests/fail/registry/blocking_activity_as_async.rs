use duroxide::Registry;
use duroxide::prelude::*;

#[activity]
fn resize(width: u32) -> Result<u32, String> {
    Ok(width)
}

fn main() {
    let _ = Registry::empty().with_activity::<resize>();
}
