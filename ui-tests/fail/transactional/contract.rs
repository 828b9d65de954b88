use duroxide::prelude::*;

#[activity(transactional)]
async fn debit(account: u64) -> duroxide::Result<()>;

fn main() {}
