use duroxide::prelude::*;

#[activity]
async fn ship(order: u32) -> Result<u32, String>;

async fn test() {
    let _ = ship(1).await;
}

fn main() {}
