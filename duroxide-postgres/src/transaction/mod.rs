//! Activities whose code and outcome are one transaction.
//!
//! ```text
//! BEGIN ─► code of the activity ─► lock of the instance ─► end of the tenure, outcome as a message, mail ─► COMMIT
//! ```
//!
//! The row of the activity is the fence: if the lease no longer owns it under this tenure, the transaction is rolled back. So
//! of two attempts at most one commits, and an attempt whose COMMIT has no answer can be repeated. The instance is locked
//! only at the end, so that the time of the code delays no other transaction.

#[cfg(feature = "sqlx")]
mod sqlx;
mod tokio;

use duroxide::id::Epoch;
use duroxide::provider::{MessageRow, Ready, TransactionEnd, TransactionalAttempt, WithinError};

#[cfg(feature = "sqlx")]
pub use self::sqlx::{Sqlx, SqlxTx};
pub(crate) use self::tokio::Transactions;
pub use self::tokio::{TokioPostgres, Tx};
use crate::provider::PostgresProvider;
use crate::rows::{int, payload_bytes, stored_ready};
use crate::state::State;
use crate::within::{SqlError, SqlTransaction, SqlValue, may_write};
use crate::work::Work;

/// Returns the state of the provider of an attempt, which may write.
fn state_of(attempt: &TransactionalAttempt) -> Result<&State, WithinError> {
    let provider = attempt.provider()?;
    let postgres: Option<&PostgresProvider> = provider.as_any().downcast_ref();
    let state = postgres.ok_or_else(|| WithinError::other_database(provider, "PostgreSQL"))?.state();
    may_write(state)?;
    Ok(state)
}

/// Writes the outcome; `None`: the code has failed. Returns the end of the transaction, which its driver then commits or rolls
/// back, and the work that it makes.
async fn record(
    tx: &mut dyn SqlTransaction,
    state: &State,
    attempt: &TransactionalAttempt,
    message: Option<MessageRow>,
) -> Result<(TransactionEnd, Work), SqlError> {
    let Some(message) = message else { return Ok((TransactionEnd::RolledBack, Work::default())) };
    match write_outcome(tx, state, attempt, &message).await {
        Ok(Some(work)) => Ok((TransactionEnd::Committed, work)),
        Ok(None) => Ok((TransactionEnd::Fenced, Work::default())),
        Err(error) if error.is_in_failed_transaction() => {
            let reason = "a statement has failed, but the activity has returned `Ok`: return its error";
            Ok((TransactionEnd::Unusable(reason.to_owned()), Work::default()))
        }
        Err(error) => Err(error),
    }
}

/// Returns the work that the outcome makes; `None`: the tenure is over.
async fn write_outcome(
    tx: &mut dyn SqlTransaction,
    state: &State,
    attempt: &TransactionalAttempt,
    message: &MessageRow,
) -> Result<Option<Work>, SqlError> {
    let (tenure, statements) = (&attempt.tenure, &state.within.statements);
    let execution = &tenure.activity.execution;
    let id = SqlValue::Text(Some(execution.instance.as_str()));
    // A statement of its own, so that the next one sees the instance as it is under the lock. In the order of all locks.
    tx.run(&statements.lock, &[id]).await?;
    let time = state.latest();
    let values = [
        id,
        SqlValue::Uuid(execution.identity.0),
        SqlValue::Int(Some(int(execution.number))),
        SqlValue::Int(Some(int(tenure.activity.call.0))),
        SqlValue::Int(Some(int(attempt.lease.epoch.0))),
        SqlValue::Int(Some(tenure.attempt.into())),
        SqlValue::Int(Some(int(tenure.claim))),
        SqlValue::Uuid(message.id.0),
        SqlValue::Int(Some(time.as_micros())),
        SqlValue::Int(Some(message.format.into())),
        SqlValue::Text(Some(&message.data)),
        SqlValue::Bytes(payload_bytes(&message.payload)),
        SqlValue::Int(Some(stored_ready(Ready::AtOnce(time)))),
    ];
    Ok(tx.run(&statements.outcome, &values).await?.map(|to| work_for(&to)))
}

/// Returns the work of the instance that has received an outcome: its owner, its name, its version and true if it is
/// suspended, as JSON. An empty list: no instance has.
fn work_for(to: &str) -> Work {
    let mut work = Work::default();
    match serde_json::from_str::<(Option<u64>, String, Option<String>, bool)>(to) {
        Ok((Some(owner), ..)) => drop(work.owners.insert(Epoch(owner))),
        Ok((None, name, version, false)) => work.add_instance(&name, version.as_deref()),
        Ok(_) | Err(_) => {}
    }
    work
}
