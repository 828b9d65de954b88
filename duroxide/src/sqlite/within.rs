//! Writes within a transaction of the user, on a connection of the user to the same file.
//!
//! The statements are those of the writer thread. The write lock of SQLite keeps out the writer until the transaction has
//! ended, so that it needs no other care than any entry of a group.

use std::any::Any;
use std::time::Instant;

use rusqlite::{Connection, Transaction};

use super::SqliteProvider;
use super::dedup::Expiry;
use super::fault::{FromStorageError, Refusal};
use super::group::{Undo, under_savepoint};
use super::shared::Shared;
use super::sql::{Found, Sql};
use super::submit::submit;
use super::tx::Tx;
use super::writer::Message;
use crate::provider::{Submission, SubmitError, Submitted, Transactional, UserTransaction, WithinError};

/// SQLite, as the database of a [`UserTransaction`].
#[derive(Debug)]
pub enum Sqlite {}

impl Transactional for SqliteProvider {
    fn database(&self) -> &'static str {
        "SQLite"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn committed(&self) {
        self.handle.tell_writer(Message::Committed);
    }
}

/// Returns the provider, if it is one of SQLite.
pub(super) fn sqlite(provider: &dyn Transactional) -> Result<&SqliteProvider, WithinError> {
    provider.as_any().downcast_ref().ok_or_else(|| WithinError::other_database(provider, "SQLite"))
}

macro_rules! user_transaction {
    ($($reference:ty),*) => {$(
        impl UserTransaction<Sqlite> for $reference {
            fn submit(
                self,
                provider: &dyn Transactional,
                submission: &Submission,
            ) -> impl Future<Output = Result<Submitted, WithinError>> {
                std::future::ready(sqlite(provider).and_then(|provider| provider.submit_on(self, submission)))
            }
        }
    )*};
}
user_transaction!(&Connection, &mut Connection, &Transaction<'_>, &mut Transaction<'_>);

impl SqliteProvider {
    fn submit_on(&self, connection: &Connection, submission: &Submission) -> Result<Submitted, WithinError> {
        let submitted = write_on(&self.handle.shared, connection, |tx| submit(tx, submission))?;
        let submitted = submitted.map_err(|error| match error {
            SubmitError::Failed(reason) => WithinError::Failed { retryable: true, reason },
            refusal => WithinError::Refused(refusal),
        })?;
        self.handle.tell_writer(Message::Expect);
        Ok(submitted)
    }
}

/// Writes within the open transaction of a connection, under a savepoint.
pub(super) fn write_on<T, X: FromStorageError>(
    shared: &Shared,
    connection: &Connection,
    write: impl FnOnce(&mut Tx<'_>) -> Result<T, Refusal<X>>,
) -> Result<Result<T, X>, WithinError> {
    check(shared, connection)?;
    let found = Found::default();
    let mut tx = Tx::new(Sql::new(connection, &shared.counts, &found), shared.latest_time());
    let written = under_savepoint(&mut tx, write).map_err(|Undo(error)| failed(error))?;
    tx.finish(&mut Expiry::new(Instant::now())).map_err(|error| failed(Some(error)))?;
    if let Some(time) = tx.seen {
        shared.observe_time(time);
    }
    Ok(written)
}

/// Refuses a connection to another file, and one without a transaction.
fn check(shared: &Shared, connection: &Connection) -> Result<(), WithinError> {
    if connection.is_autocommit() {
        let reason = "the connection has no open transaction: begin one, best with `BEGIN IMMEDIATE`";
        return Err(WithinError::Unsuitable(reason.to_owned()));
    }
    let path = connection.path().and_then(|path| std::path::Path::new(path).canonicalize().ok());
    if path.as_ref() != Some(&shared.path) {
        let reason =
            format!("the connection is not one to {}, in which the client keeps its state", shared.path.display());
        return Err(WithinError::Unsuitable(reason));
    }
    Ok(())
}

pub(super) fn failed(error: Option<rusqlite::Error>) -> WithinError {
    let error = error.unwrap_or(rusqlite::Error::InvalidQuery);
    let error = super::fault::storage("write within the transaction", error);
    WithinError::Failed { retryable: error.is_retryable(), reason: error.to_string() }
}
