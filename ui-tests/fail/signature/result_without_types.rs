use duroxide::prelude::*;

#[activity]
async fn charge() -> std::fmt::Result {
    Ok(())
}

fn main() {}
