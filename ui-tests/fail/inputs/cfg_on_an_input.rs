use duroxide::prelude::*;

#[activity]
async fn charge(a: u8, #[cfg(unix)] b: u8) -> Result<u8, String> {
    Ok(a)
}

fn main() {}
