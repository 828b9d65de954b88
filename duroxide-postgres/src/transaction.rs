//! Activities whose code and outcome are one transaction.
//!
//! ```text
//! BEGIN ─► code of the activity ─► lock of the instance ─► end of the tenure, outcome as a message, mail ─► COMMIT
//! ```
//!
//! The row of the activity is the fence: if the lease no longer owns it under this tenure, the transaction is rolled back. So
//! of two attempts at most one commits, and an attempt whose COMMIT has no answer can be repeated. The instance is locked
//! only at the end, so that the time of the code delays no other transaction.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use duroxide::id::Epoch;
use duroxide::provider::{
    ActivityTransaction, MessageRow, Ready, Signals, TransactionBody, TransactionEnd, TransactionSource,
    TransactionalAttempt, WithinError,
};
use futures_util::future::BoxFuture;
use tokio_postgres::types::{BorrowToSql, ToSql};
use tokio_postgres::{Client, Error, Row, ToStatement, Transaction};

use crate::connect::Use;
use crate::provider::PostgresProvider;
use crate::rows::{int, payload_bytes, stored_ready};
use crate::state::State;
use crate::within::{SqlError, SqlTransaction, SqlValue, may_write};
use crate::work::Work;

/// The transaction of a transactional activity, of `tokio-postgres`. See `docs/transaction-example.md`.
///
/// It dereferences to [`Transaction`], whose savepoints the code may use. The methods of this type itself also note if a
/// statement collides with another transaction (SQLSTATE 40001 or 40P01): then the activity runs again, and the attempt
/// does not count. Use them where there is a choice.
pub struct Tx<'t> {
    transaction: Transaction<'t>,
    has_collided: bool,
}

impl<'t> Deref for Tx<'t> {
    type Target = Transaction<'t>;

    fn deref(&self) -> &Transaction<'t> {
        &self.transaction
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

/// The values of a statement.
type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Tx<'_> {
    fn note<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.has_collided |= error.code().is_some_and(|code| ["40001", "40P01"].contains(&code.code()));
        }
        result
    }

    /// As [`Transaction::execute`].
    ///
    /// # Errors
    /// The statement or the connection has failed.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may still be carried out, as part of the transaction.
    pub async fn execute<T: ?Sized + ToStatement>(&mut self, statement: &T, values: Values<'_>) -> Result<u64, Error> {
        let result = self.transaction.execute(statement, values).await;
        self.note(result)
    }

    /// As [`Transaction::query`].
    ///
    /// # Errors
    /// The statement or the connection has failed.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may still be carried out, as part of the transaction.
    pub async fn query<T: ?Sized + ToStatement>(
        &mut self,
        statement: &T,
        values: Values<'_>,
    ) -> Result<Vec<Row>, Error> {
        let result = self.transaction.query(statement, values).await;
        self.note(result)
    }

    /// As [`Transaction::query_one`].
    ///
    /// # Errors
    /// The statement or the connection has failed.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may still be carried out, as part of the transaction.
    pub async fn query_one<T: ?Sized + ToStatement>(
        &mut self,
        statement: &T,
        values: Values<'_>,
    ) -> Result<Row, Error> {
        let result = self.transaction.query_one(statement, values).await;
        self.note(result)
    }

    /// As [`Transaction::query_opt`].
    ///
    /// # Errors
    /// The statement or the connection has failed.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may still be carried out, as part of the transaction.
    pub async fn query_opt<T: ?Sized + ToStatement>(
        &mut self,
        statement: &T,
        values: Values<'_>,
    ) -> Result<Option<Row>, Error> {
        let result = self.transaction.query_opt(statement, values).await;
        self.note(result)
    }

    /// As [`Transaction::batch_execute`].
    ///
    /// # Errors
    /// The statement or the connection has failed.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may still be carried out, as part of the transaction.
    pub async fn batch_execute(&mut self, statements: &str) -> Result<(), Error> {
        let result = self.transaction.batch_execute(statements).await;
        self.note(result)
    }

    /// As [`Transaction::execute_raw`].
    ///
    /// # Errors
    /// The statement or the connection has failed.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may still be carried out, as part of the transaction.
    pub async fn execute_raw<P, I, T>(&mut self, statement: &T, values: I) -> Result<u64, Error>
    where
        T: ?Sized + ToStatement,
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        let result = self.transaction.execute_raw(statement, values).await;
        self.note(result)
    }
}

/// The source of [`Tx`]: connections of the provider to its database.
#[derive(Debug)]
pub enum TokioPostgres {}

impl ActivityTransaction for Tx<'_> {
    type Source = TokioPostgres;
    const DATABASE: &'static str = "PostgreSQL";
}

impl TransactionSource for TokioPostgres {
    type Tx<'t> = Tx<'t>;

    fn run<'a>(
        attempt: &'a TransactionalAttempt,
        body: &'a mut dyn TransactionBody<Self>,
    ) -> BoxFuture<'a, Result<TransactionEnd, WithinError>> {
        Box::pin(async move {
            let provider = attempt.provider()?;
            let postgres: Option<&PostgresProvider> = provider.as_any().downcast_ref();
            let state = postgres.ok_or_else(|| WithinError::other_database(provider, "PostgreSQL"))?.state();
            may_write(state)?;
            let mut client = state.transactions.client(state).await?;
            // If the time is over, or the attempt is dropped, the connection is closed, which rolls the transaction back.
            let Ok(end) = tokio::time::timeout(attempt.limit, in_transaction(&mut client, state, attempt, body)).await
            else {
                return Ok(TransactionEnd::TimedOut);
            };
            let end = end?;
            state.transactions.give_back(client);
            Ok(end)
        })
    }
}

async fn in_transaction(
    client: &mut Client,
    state: &State,
    attempt: &TransactionalAttempt,
    body: &mut dyn TransactionBody<TokioPostgres>,
) -> Result<TransactionEnd, SqlError> {
    let mut tx = Tx { transaction: client.transaction().await?, has_collided: false };
    let message = body.run(&mut tx).await;
    let Tx { mut transaction, has_collided } = tx;
    if has_collided {
        transaction.rollback().await?;
        return Err(SqlError::new(Some("40001"), "a statement has collided with another transaction"));
    }
    let Some(message) = message else {
        transaction.rollback().await?;
        return Ok(TransactionEnd::RolledBack);
    };
    match record(&mut transaction, state, attempt, &message).await {
        Ok(Some(work)) => {
            transaction.commit().await?;
            state.signal(Signals::default(), work);
            Ok(TransactionEnd::Committed)
        }
        Ok(None) => {
            transaction.rollback().await?;
            Ok(TransactionEnd::Fenced)
        }
        Err(error) if error.is_in_failed_transaction() => {
            transaction.rollback().await?;
            let reason = "a statement has failed, but the activity has returned `Ok`: return its error";
            Ok(TransactionEnd::Unusable(reason.to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// Writes the outcome. Returns the work that it makes; `None`: the tenure is over.
async fn record(
    tx: &mut Transaction<'_>,
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
/// suspended, as JSON. Nothing: no instance has.
fn work_for(to: &str) -> Work {
    let mut work = Work::default();
    match serde_json::from_str::<(Option<u64>, String, Option<String>, bool)>(to) {
        Ok((Some(owner), ..)) => drop(work.owners.insert(Epoch(owner))),
        Ok((None, name, version, false)) => work.add_instance(&name, version.as_deref()),
        Ok(_) | Err(_) => {}
    }
    work
}

/// The idle connections for transactions of activities. Their number is that of the activities that have run at once.
#[derive(Default)]
pub(crate) struct Transactions {
    /// A std mutex, held for a few instructions.
    idle: Mutex<Vec<Client>>,
}

/// The most idle connections.
const MAX_IDLE: usize = 8;
const CONNECT: Duration = Duration::from_secs(10);

impl Transactions {
    async fn client(&self, state: &State) -> Result<Client, WithinError> {
        let failed = |reason: String| WithinError::Failed { retryable: true, reason };
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(client) if client.is_closed() => {}
                Some(client) => return Ok(client),
                None => break,
            }
        }
        let opened = tokio::time::timeout(CONNECT, state.database.open_plain(Use::Program)).await;
        opened.map_err(|late| failed(late.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    fn give_back(&self, client: Client) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(client);
        }
    }
}
