use duroxide::prelude::*;

struct Gateway;

#[activity]
async fn charge(State(gateway): State<Gateway>) -> Result<(), String> {
    drop(gateway);
    Ok(())
}

fn main() {}
