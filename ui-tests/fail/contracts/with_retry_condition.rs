use duroxide::prelude::*;

#[activity(retry(max_attempts = 3, if = String::is_empty))]
async fn ship(order: u32) -> Result<u32, String>;

fn main() {}
