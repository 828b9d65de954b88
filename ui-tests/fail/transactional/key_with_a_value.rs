use duroxide::prelude::*;

#[activity(transactional = true)]
fn debit(tx: &mut duroxide::sqlite::Tx<'_>) -> duroxide::Result<()> {
    tx.execute("DELETE FROM accounts", [])?;
    Ok(())
}

fn main() {}
