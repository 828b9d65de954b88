//! Failures of SQLite, and which of them may pass.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::provider::{CommitError, ProviderError, SubmitError};

/// A failure of SQLite as one of the provider.
pub(super) fn storage(operation: &'static str, error: rusqlite::Error) -> ProviderError {
    let permanent = is_permanent(&error);
    let error = match error {
        // It would be followed by the whole statement, which may be all of a migration.
        rusqlite::Error::SqlInputError { error, msg, .. } => rusqlite::Error::SqliteFailure(error, Some(msg)),
        other => other,
    };
    if permanent { ProviderError::permanent(operation, error) } else { ProviderError::retryable(operation, error) }
}

/// A failure to open a database, with what is missing most often.
pub(super) fn unopened(path: &Path, error: rusqlite::Error) -> ProviderError {
    const OPERATION: &str = "open the database";
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            let reason =
                format!("{error}; is {} there, and can be written to, and its folder as well?", path.display());
            ProviderError::permanent(OPERATION, reason)
        }
        _ => storage(OPERATION, error),
    }
}

/// Returns true if the same operation will fail again. A busy or full disk, a lock, a lost file system come and go; a damaged
/// file does not, nor does a statement that does not fit the tables that are there, or a value that cannot be read.
pub(super) fn is_permanent(error: &rusqlite::Error) -> bool {
    let permanent =
        [ErrorCode::NotADatabase, ErrorCode::DatabaseCorrupt, ErrorCode::TypeMismatch, ErrorCode::ApiMisuse];
    error.sqlite_error_code().is_some_and(|code| permanent.contains(&code))
        || is_conversion(error)
        || matches!(error, rusqlite::Error::SqlInputError { error, .. } if error.code == ErrorCode::Unknown)
        || error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_READONLY_DBMOVED)
}

/// Returns true if a stored value is not of the kind that its column should hold.
fn is_conversion(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

/// Why one entry of a group did not happen.
pub(super) enum Refusal<X> {
    /// A check said no, and nothing was written, but perhaps that it said so.
    Refused(X),
    /// A check said no after something was written, which has to be undone.
    Undo(X),
    /// SQLite failed.
    Storage(rusqlite::Error),
}

impl<X> From<rusqlite::Error> for Refusal<X> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error)
    }
}

/// What an entry answers when SQLite fails it.
pub(super) trait Failed: Send + 'static {
    fn failed(error: rusqlite::Error) -> Self;
}

impl Failed for CommitError {
    fn failed(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Failed for SubmitError {
    fn failed(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Failed for rusqlite::Error {
    fn failed(error: rusqlite::Error) -> Self {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_read_are_permanent() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let read = |query: &str| connection.query_row(query, [], |row| row.get::<_, u8>(0)).unwrap_err();
        for query in ["SELECT NULL", "SELECT 'text'", "SELECT 256"] {
            assert!(!storage("read", read(query)).is_retryable(), "{query}");
        }
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        assert!(storage("read", rusqlite::Error::SqliteFailure(busy, None)).is_retryable());
    }
}
