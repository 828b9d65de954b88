use duroxide::prelude::*;

struct Receipt;

#[activity]
async fn charge() -> Result<Receipt, String> {
    Ok(Receipt)
}

fn main() {}
