//! Failures of SQLite, and the rule for those that may pass on a retry.

use rusqlite::ErrorCode;

use crate::provider::{CommitError, ProviderError, SubmitError};

/// Converts a failure of SQLite to one of the provider.
pub(super) fn storage(operation: &'static str, error: rusqlite::Error) -> ProviderError {
    let permanent = is_permanent(&error);
    let error = match error {
        // Drop the text of the statement from the message: it may be a whole migration.
        rusqlite::Error::SqlInputError { error, msg, .. } => rusqlite::Error::SqliteFailure(error, Some(msg)),
        other => other,
    };
    if permanent { ProviderError::permanent(operation, error) } else { ProviderError::retryable(operation, error) }
}

/// Converts a failure to open a database, with the most frequent causes in its text.
pub(super) fn open_error(error: rusqlite::Error) -> ProviderError {
    const OPERATION: &str = "open the database";
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            let reason = format!("{error}; check that the folder exists, and that it and the file are writable");
            ProviderError::permanent(OPERATION, reason)
        }
        _ => storage(OPERATION, error),
    }
}

/// Returns true if the same operation will fail again. A busy database, a full disk, a lock or a lost file system may
/// pass. A damaged file, a statement that does not fit the tables, or an unreadable value will not.
pub(super) fn is_permanent(error: &rusqlite::Error) -> bool {
    let permanent =
        [ErrorCode::NotADatabase, ErrorCode::DatabaseCorrupt, ErrorCode::TypeMismatch, ErrorCode::ApiMisuse];
    error.sqlite_error_code().is_some_and(|code| permanent.contains(&code))
        || is_conversion(error)
        || matches!(error, rusqlite::Error::SqlInputError { error, .. } if error.code == ErrorCode::Unknown)
        || error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_READONLY_DBMOVED)
}

/// Returns true if a stored value is not of the type of its column.
fn is_conversion(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

/// The reason why one entry of a group was not carried out.
pub(super) enum Refusal<X> {
    /// A check failed. Nothing was written, except perhaps the record of this refusal.
    Refused(X),
    /// A check failed after a write, which must be undone.
    Undo(X),
    /// SQLite failed.
    Storage(rusqlite::Error),
}

impl<X> From<rusqlite::Error> for Refusal<X> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error)
    }
}

/// Makes the error of an entry from a failure of SQLite.
pub(super) trait FromStorageError: Send + 'static {
    fn from_storage(error: rusqlite::Error) -> Self;
}

impl FromStorageError for CommitError {
    fn from_storage(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl FromStorageError for SubmitError {
    fn from_storage(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl FromStorageError for rusqlite::Error {
    fn from_storage(error: rusqlite::Error) -> Self {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_value_is_a_permanent_error() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let read = |query: &str| connection.query_row(query, [], |row| row.get::<_, u8>(0)).unwrap_err();
        for query in ["SELECT NULL", "SELECT 'text'", "SELECT 256"] {
            assert!(!storage("read", read(query)).is_retryable(), "{query}");
        }
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        assert!(storage("read", rusqlite::Error::SqliteFailure(busy, None)).is_retryable());
    }
}
