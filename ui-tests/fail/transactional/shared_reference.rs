use duroxide::prelude::*;

#[activity(transactional)]
fn debit(tx: &duroxide::sqlite::Tx<'_>) -> duroxide::Result<()> {
    tx.execute("DELETE FROM accounts", [])?;
    Ok(())
}

fn main() {}
