use duroxide::prelude::*;

struct Receipt;

#[activity]
async fn charge() -> duroxide::Result<Receipt> {
    Ok(Receipt)
}

fn main() {}
