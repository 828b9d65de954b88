use duroxide::prelude::*;

#[activity(transactional)]
fn debit(account: i64) -> duroxide::Result<()> {
    Ok(drop(account))
}

fn main() {}
