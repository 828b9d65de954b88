//! Activities whose code and outcome are one transaction, on a connection of their own.
//!
//! The transaction holds the write lock of the file from its beginning (`BEGIN IMMEDIATE`), so the code sees the latest state,
//! and no other transaction can make it fail. In the meantime nothing else is written, so its time is limited.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::activities;
use super::within::{Sqlite, failed, sqlite, write_on};
use super::writer::Message;
use crate::provider::{
    ActivityTransaction, BlockingTransactionBody, BlockingTransactionSource, CommitError, TransactionEnd,
    TransactionalAttempt, WithinError,
};

/// The transaction of a transactional activity. See `docs/transaction-example.md`.
///
/// It dereferences to [`rusqlite::Transaction`].
pub struct Tx<'t>(Transaction<'t>);

impl<'t> Deref for Tx<'t> {
    type Target = Transaction<'t>;

    fn deref(&self) -> &Transaction<'t> {
        &self.0
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

impl ActivityTransaction for Tx<'_> {
    type Source = Sqlite;
    const DATABASE: &'static str = "SQLite";
}

/// The idle connections for transactions of activities. Their number is that of the activities that have run at once.
#[derive(Default)]
pub(super) struct Transactions {
    /// A std mutex, held for a few instructions.
    idle: Mutex<Vec<Connection>>,
}

impl Transactions {
    fn take(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// The number of instructions of SQLite between two looks at the time.
const LOOK: i32 = 10_000;

impl BlockingTransactionSource for Sqlite {
    type Tx<'t> = Tx<'t>;

    fn run(
        attempt: &TransactionalAttempt,
        body: &mut dyn BlockingTransactionBody<Self>,
    ) -> Result<TransactionEnd, WithinError> {
        let handle = &sqlite(attempt.provider()?)?.handle;
        let opened = handle.transactions.take().map_or_else(|| Connection::open(&handle.shared.path), Ok);
        let mut connection = opened.map_err(|error| failed(Some(error)))?;
        let ended = in_transaction(&mut connection, &handle.shared, attempt, body);
        let end = ended?;
        handle.transactions.give_back(connection);
        if end == TransactionEnd::Committed {
            handle.tell_writer(Message::Committed);
        }
        Ok(end)
    }
}

fn in_transaction(
    connection: &mut Connection,
    shared: &super::shared::Shared,
    attempt: &TransactionalAttempt,
    body: &mut dyn BlockingTransactionBody<Sqlite>,
) -> Result<TransactionEnd, WithinError> {
    let sql = |error| failed(Some(error));
    connection.busy_timeout(attempt.limit).map_err(sql)?;
    // Ends a statement of the code that runs for too long. The time begins when the transaction has the lock.
    let until = Arc::new(OnceLock::new());
    let ends = until.clone();
    let is_over = move || ends.get().is_some_and(|until| Instant::now() > *until);
    connection.progress_handler(LOOK, Some(is_over)).map_err(sql)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    let until = *until.get_or_init(|| Instant::now() + attempt.limit);
    let mut tx = Tx(transaction);
    let message = body.run(&mut tx);
    // Dropped without a commit, the transaction is rolled back.
    let Tx(transaction) = tx;
    let message = match message {
        _ if Instant::now() > until => return Ok(TransactionEnd::TimedOut),
        None => return Ok(TransactionEnd::RolledBack),
        Some(message) => message,
    };
    if transaction.is_autocommit() {
        let reason = "the activity has ended its transaction";
        return Ok(TransactionEnd::Unusable(reason.to_owned()));
    }
    let outcome =
        |tx: &mut super::tx::Tx<'_>| activities::outcome_with_mail(tx, &attempt.lease, &attempt.tenure, &message);
    match write_on(shared, &transaction, outcome)? {
        Ok(()) => {
            transaction.commit().map_err(sql)?;
            Ok(TransactionEnd::Committed)
        }
        Err(CommitError::Failed(reason)) => Err(WithinError::Failed { retryable: true, reason }),
        Err(CommitError::Fenced | CommitError::Conflict | CommitError::Locked) => Ok(TransactionEnd::Fenced),
    }
}
