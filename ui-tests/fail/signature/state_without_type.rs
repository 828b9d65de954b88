use duroxide::prelude::*;

#[activity]
async fn charge(fee: State) -> Result<(), String> {
    Ok(())
}

fn main() {}
