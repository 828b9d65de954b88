use duroxide::prelude::*;

#[activity]
async fn ship(State(fee): State<u32>, order: u32) -> Result<u32, String>;

fn main() {}
