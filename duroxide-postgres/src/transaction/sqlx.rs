//! Transactions of `sqlx`, on connections of a pool of the program.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use duroxide::provider::{
    ActivityTransaction, TransactionBody, TransactionEnd, TransactionSource, TransactionalAttempt, WithinError,
};
use futures_util::future::BoxFuture;
use sqlx_core::query_scalar::query_scalar;
use sqlx_core::transaction::Transaction;
use sqlx_postgres::{PgConnectOptions, PgConnection, PgPool, Postgres};

use super::{record, state_of};
use crate::state::State;
use crate::within::SqlError;

/// The transaction of a transactional activity, of `sqlx` (feature `sqlx`). See `docs/transaction-example.md`.
///
/// Its connection is one of the pool that was given to the builder of the runtime, as the state `sqlx::PgPool`. The pool must
/// lead to the database in which the provider keeps its state. The transaction dereferences to its connection, on which the
/// code runs statements (`&mut **tx`) and begins savepoints (`tx.begin()`).
///
/// The code returns the error of a statement that collides with another transaction as any other error: the attempt has then
/// failed, and the activity is repeated if its retry policy allows that.
pub struct SqlxTx<'t>(Transaction<'t, Postgres>);

impl Deref for SqlxTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for SqlxTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl std::fmt::Debug for SqlxTx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlxTx").finish_non_exhaustive()
    }
}

/// The source of [`SqlxTx`]: the pool of the program.
#[derive(Debug)]
pub enum Sqlx {}

impl ActivityTransaction for SqlxTx<'_> {
    type Source = Sqlx;
    const DATABASE: &'static str = "PostgreSQL";
}

impl TransactionSource for Sqlx {
    type Tx<'t> = SqlxTx<'t>;
    type State = PgPool;

    fn run<'a>(
        attempt: &'a TransactionalAttempt,
        pool: &'a PgPool,
        body: &'a mut dyn TransactionBody<Self>,
    ) -> BoxFuture<'a, Result<TransactionEnd, WithinError>> {
        Box::pin(async move {
            let state = state_of(attempt)?;
            let begun = async {
                if !state.transactions.leads_to_same_database(pool, state).await? {
                    return Ok(None);
                }
                Ok::<_, WithinError>(Some(pool.begin().await.map_err(SqlError::from)?))
            };
            let late =
                |_| WithinError::Failed { retryable: true, reason: "the pool gives no connection in time".to_owned() };
            let Some(transaction) = tokio::time::timeout(BEGIN, begun).await.map_err(late)?? else {
                let reason = "the pool leads to another database than the one in which the provider keeps its state";
                return Ok(TransactionEnd::Unusable(reason.to_owned()));
            };
            // If the time is over, or the attempt is dropped, the pool rolls the transaction back.
            let transaction = in_transaction(transaction, state, attempt, body);
            let Ok(end) = tokio::time::timeout(attempt.limit, transaction).await else {
                return Ok(TransactionEnd::TimedOut);
            };
            Ok(end?)
        })
    }
}

async fn in_transaction(
    transaction: Transaction<'_, Postgres>,
    state: &State,
    attempt: &TransactionalAttempt,
    body: &mut dyn TransactionBody<Sqlx>,
) -> Result<TransactionEnd, SqlError> {
    let mut tx = SqlxTx(transaction);
    let message = body.run(&mut tx).await;
    let SqlxTx(mut transaction) = tx;
    let (end, work) = record(&mut *transaction, state, attempt, message).await?;
    if end == TransactionEnd::Committed {
        transaction.commit().await?;
        state.signal_work(work);
    } else {
        transaction.rollback().await?;
    }
    Ok(end)
}

/// The longest wait for a connection of the pool, whose own limit does not hold for a server that falls silent. Above the
/// default of that limit.
const BEGIN: Duration = Duration::from_secs(45);
/// The database, and the time at which its server was started: together they name it, by any of its addresses.
const DATABASE: &str = "SELECT current_database() || ' ' || extract(epoch FROM pg_postmaster_start_time())";

impl super::Transactions {
    /// Returns true if the pool leads to the database of the provider. Another database may have a schema of the same name:
    /// there, every attempt would look as if its tenure were over.
    async fn leads_to_same_database(&self, pool: &PgPool, state: &State) -> Result<bool, WithinError> {
        let options = Arc::downgrade(&pool.connect_options());
        if self.is_checked(&options) {
            return Ok(true);
        }
        let of_pool: Option<String> = query_scalar(DATABASE).fetch_one(pool).await.map_err(SqlError::from)?;
        let own = self.client(state).await?;
        let row = own.query_one(DATABASE, &[]).await.map_err(SqlError::from)?;
        self.give_back(own);
        let is_same = row.try_get::<_, Option<String>>(0).map_err(SqlError::from)? == of_pool;
        if is_same {
            self.checked_pools.lock().unwrap_or_else(PoisonError::into_inner).push(options);
        }
        Ok(is_same)
    }

    fn is_checked(&self, options: &Weak<PgConnectOptions>) -> bool {
        let mut checked = self.checked_pools.lock().unwrap_or_else(PoisonError::into_inner);
        checked.retain(|options| options.strong_count() > 0);
        checked.iter().any(|checked| checked.ptr_eq(options))
    }
}
