use duroxide::prelude::*;

#[activity(transactional)]
fn debit(account: u64) -> duroxide::Result<()> {
    Ok(drop(account))
}

fn main() {}
