//! Attempts of activities whose code and outcome are one transaction.
//!
//! The types of a transaction belong to the crate of its provider, which also has the connections. So that crate runs the
//! attempt: it begins a transaction, calls the code ([`TransactionBody`]), writes the outcome under the fence of the tenure,
//! and commits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Lease, MessageRow, Provider, Tenure, Transactional, WithinError};
use crate::history::Run;

/// The attempt of a transactional activity.
#[derive(Clone)]
pub struct TransactionalAttempt {
    pub(crate) provider: Arc<dyn Provider>,
    /// The lease that owns the activity.
    pub lease: Lease,
    /// The activity, the attempt and the claim. The outcome is written only if this is still the tenure of the lease.
    pub tenure: Tenure,
    /// The longest time of the transaction.
    pub limit: Duration,
    /// The attempt as it is recorded with the outcome.
    pub(crate) run: Option<Run>,
}

/// The provider, as the source of the transactions of activities alone.
pub(crate) struct ActivityTransactions(pub(crate) Arc<dyn Provider>);

impl ActivityTransactions {
    pub(crate) fn attempt(
        &self,
        lease: Lease,
        tenure: Tenure,
        limit: Duration,
        run: Option<Run>,
    ) -> TransactionalAttempt {
        TransactionalAttempt { run, ..TransactionalAttempt::new(self.0.clone(), lease, tenure, limit) }
    }
}

impl TransactionalAttempt {
    /// Makes an attempt, for a test of a [`TransactionSource`]. The runtime makes those of activities.
    pub fn new(provider: Arc<dyn Provider>, lease: Lease, tenure: Tenure, limit: Duration) -> Self {
        Self { provider, lease, tenure, limit, run: None }
    }

    /// Returns the provider.
    ///
    /// # Errors
    /// The provider has no transactions. The start of the runtime has checked that it does.
    pub fn provider(&self) -> Result<&dyn Transactional, WithinError> {
        let none = || WithinError::Unsuitable("the provider has no transactions".to_owned());
        self.provider.transactional().ok_or_else(none)
    }
}

impl std::fmt::Debug for TransactionalAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalAttempt").field("tenure", &self.tenure).finish_non_exhaustive()
    }
}

/// The end of a transaction of an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionEnd {
    /// The code and the outcome are committed.
    Committed,
    /// The code has failed, and the transaction was rolled back.
    RolledBack,
    /// The lease no longer owns the activity under this tenure, so the transaction was rolled back.
    Fenced,
    /// The code did not return within the limit, and the transaction was rolled back.
    TimedOut,
    /// The code has succeeded, but has left the transaction in a state that cannot be committed, for this reason.
    Unusable(String),
}

/// The type of the transactions of a provider, for activities that are an `async fn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no async transactions",
    label = "a transaction of SQLite blocks its thread",
    note = "make the activity a plain `fn`, which runs on a pool of threads of its own"
)]
pub trait TransactionSource: Sized + 'static {
    /// The transaction that the code takes.
    type Tx<'t>: Send;
    /// The state of the program that the transaction begins with, such as a pool of connections. The start of the runtime
    /// fails without it. `()`: none.
    type State: Clone + Send + Sync + 'static;

    /// Runs the transaction.
    ///
    /// # Errors
    /// The storage has failed; the outcome is unknown. The attempt is repeated, with the same tenure: if the first one was
    /// committed, the tenure is over, and the second is [`TransactionEnd::Fenced`].
    fn run<'a>(
        attempt: &'a TransactionalAttempt,
        state: &'a Self::State,
        body: &'a mut dyn TransactionBody<Self>,
    ) -> BoxFuture<'a, Result<TransactionEnd, WithinError>>;
}

/// As [`TransactionSource`], for activities that are a plain `fn`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no blocking transactions",
    label = "a transaction of PostgreSQL is async",
    note = "make the activity an `async fn`"
)]
pub trait BlockingTransactionSource: Sized + 'static {
    /// The transaction that the code takes.
    type Tx<'t>;

    /// Runs the transaction.
    ///
    /// # Errors
    /// As [`TransactionSource::run`].
    fn run(
        attempt: &TransactionalAttempt,
        body: &mut dyn BlockingTransactionBody<Self>,
    ) -> Result<TransactionEnd, WithinError>;
}

/// The code of an activity, in a transaction.
pub trait TransactionBody<S: TransactionSource>: Send {
    /// Runs the code. Returns the message that holds its outcome; `None` if it has failed.
    fn run<'b>(&'b mut self, tx: &'b mut S::Tx<'_>) -> BoxFuture<'b, Option<MessageRow>>;
}

/// The code of a blocking activity, in a transaction.
pub trait BlockingTransactionBody<S: BlockingTransactionSource> {
    /// Runs the code. Returns the message that holds its outcome; `None` if it has failed.
    fn run(&mut self, tx: &mut S::Tx<'_>) -> Option<MessageRow>;
}

/// A type of transactions that activities take: the first parameter of `#[activity(transactional)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transaction that an activity takes",
    label = "the first parameter of a transactional activity is its transaction",
    note = "with PostgreSQL take `tx: &mut duroxide_postgres::Tx<'_>`, or `SqlxTx<'_>`, in an `async fn`, with SQLite \
            `tx: &mut duroxide::sqlite::Tx<'_>` in a plain `fn`"
)]
pub trait ActivityTransaction {
    /// Its source.
    type Source: 'static;
    /// The kind of database, as [`Transactional::database`] returns it.
    const DATABASE: &'static str;
}
