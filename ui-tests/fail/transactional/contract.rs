use duroxide::prelude::*;

#[activity(transactional)]
async fn debit(account: i64) -> duroxide::Result<()>;

fn main() {}
