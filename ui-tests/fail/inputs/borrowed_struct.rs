use duroxide::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order;

#[activity]
async fn charge(order: &crate::Order, tags: &[String]) -> Result<(), String> {
    Ok(())
}

fn main() {}
