//! Transactions of `tokio-postgres`, on connections of the provider.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use duroxide::provider::{
    ActivityTransaction, TransactionBody, TransactionEnd, TransactionSource, TransactionalAttempt, WithinError,
};
use futures_util::future::BoxFuture;
use tokio_postgres::types::{BorrowToSql, ToSql};
use tokio_postgres::{Client, Error, Row, ToStatement, Transaction};

use super::{record, state_of};
use crate::connect::Use;
use crate::settings;
use crate::state::State;
use crate::within::SqlError;

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
    type State = ();

    fn run<'a>(
        attempt: &'a TransactionalAttempt,
        (): &'a (),
        body: &'a mut dyn TransactionBody<Self>,
    ) -> BoxFuture<'a, Result<TransactionEnd, WithinError>> {
        Box::pin(async move {
            let state = state_of(attempt)?;
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
    let transaction = client.transaction().await?;
    if state.database.is_pooled() {
        transaction.batch_execute(&settings::of_program("SET LOCAL")).await?;
    }
    let mut tx = Tx { transaction, has_collided: false };
    let message = body.run(&mut tx).await;
    let Tx { mut transaction, has_collided } = tx;
    if has_collided {
        transaction.rollback().await?;
        return Err(SqlError::new(Some("40001"), "a statement has collided with another transaction"));
    }
    let (end, work) = record(&mut transaction, state, attempt, message).await?;
    if end == TransactionEnd::Committed {
        transaction.commit().await?;
        state.signal_work(work);
    } else {
        transaction.rollback().await?;
    }
    Ok(end)
}

/// The idle connections for transactions of activities. Their number is that of the activities that have run at once.
#[derive(Default)]
pub(crate) struct Transactions {
    /// The options of the pools of `sqlx` that lead to the database of the provider. The pools share them with their clones.
    /// A std mutex, held for a few instructions.
    #[cfg(feature = "sqlx")]
    pub(super) checked_pools: Mutex<Vec<std::sync::Weak<sqlx_postgres::PgConnectOptions>>>,
    /// A std mutex, held for a few instructions.
    idle: Mutex<Vec<Client>>,
}

/// The most idle connections.
const MAX_IDLE: usize = 8;
const CONNECT: Duration = Duration::from_secs(10);

impl Transactions {
    pub(super) async fn client(&self, state: &State) -> Result<Client, WithinError> {
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

    pub(super) fn give_back(&self, client: Client) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(client);
        }
    }
}
