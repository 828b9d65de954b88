use duroxide::prelude::*;

struct Pool<'a>(&'a str);

#[activity(transactional)]
fn debit(tx: &mut Pool<'_>, account: i64) -> duroxide::Result<()> {
    println!("{} {account}", tx.0);
    Ok(())
}

fn main() {}
