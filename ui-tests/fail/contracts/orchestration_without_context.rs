use duroxide::prelude::*;

#[orchestration]
async fn deliver(order: u32) -> Result<u32, String>;

fn main() {}
