use duroxide::prelude::*;

#[activity]
fn debit(tx: &mut duroxide::sqlite::Tx<'_>, account: i64) -> duroxide::Result<()> {
    tx.execute("UPDATE accounts SET cents = cents - 1 WHERE id = ?1", [account])?;
    Ok(())
}

fn main() {}
