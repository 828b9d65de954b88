use duroxide::prelude::*;

#[activity]
#[orchestration]
async fn checkout() -> Result<(), String> {
    Ok(())
}

fn main() {}
