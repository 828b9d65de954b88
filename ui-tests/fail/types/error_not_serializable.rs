use duroxide::prelude::*;

struct Declined;

#[activity]
async fn charge() -> Result<(), Declined> {
    Ok(())
}

fn main() {}
