use duroxide::prelude::*;

#[activity]
unsafe extern "C" fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

#[activity]
const fn rate(order: u32) -> Result<u32, String> {
    Ok(order)
}

fn main() {}
