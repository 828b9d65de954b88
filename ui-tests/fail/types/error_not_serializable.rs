use duroxide::prelude::*;

#[activity]
async fn charge() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
