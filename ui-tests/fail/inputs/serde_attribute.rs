use duroxide::prelude::*;

#[activity]
async fn ship(order: u32, #[serde(default)] express: bool) -> Result<u32, String> {
    Ok(order + u32::from(express))
}

fn main() {}
