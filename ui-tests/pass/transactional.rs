//! Transactional activities: the transaction first, then the context, states and inputs.

#![forbid(unsafe_code)]
#![deny(warnings)]

use duroxide::prelude::*;
use duroxide::sqlite::Tx;

type Db<'t> = Tx<'t>;

#[activity(transactional, retry(max_attempts = 3))]
fn debit(
    tx: &mut Tx<'_>,
    ctx: ActivityContext,
    State(unit): State<i64>,
    account: i64,
    cents: i64,
) -> duroxide::Result<i64> {
    let savepoint = tx.savepoint()?;
    savepoint.execute("UPDATE accounts SET cents = cents - ?2 WHERE id = ?1", (account, cents * unit))?;
    savepoint.commit()?;
    Ok(i64::from(ctx.attempt()))
}

#[activity(transactional)]
fn audit(tx: &mut Db<'_>) -> duroxide::Result<()> {
    tx.execute("INSERT INTO audits DEFAULT VALUES", [])?;
    Ok(())
}

#[orchestration]
async fn pay(ctx: OrchestrationContext, account: i64) -> duroxide::Result<i64> {
    audit::call(&ctx).await?;
    Ok(debit::call(&ctx, account, 100).await?)
}

fn main() {
    let registry = duroxide::Registry::empty().with::<debit>().with::<audit>().with::<pay>();
    assert_eq!(registry.entries().count(), 3);
}
