//! Failures of the database, and the rule for those that may pass on a retry.

use duroxide::provider::ProviderError;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// A failure of a request.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database or the connection to it.
    Sql(tokio_postgres::Error),
    /// A stored value cannot be read.
    Unreadable(String),
    /// There was no answer in time.
    Late,
    /// Concurrent requests changed the items again and again.
    Contended,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// Returns true if the fault is that of one statement: the connection can still be used after a ROLLBACK.
    pub(crate) fn spares_connection(&self) -> bool {
        match self {
            Self::Sql(error) => error.as_db_error().is_some_and(|db| !is_fatal(db) && spares_connection(db.code())),
            Self::Unreadable(_) | Self::Contended => true,
            Self::Late => false,
        }
    }

    /// Returns true if the statement has failed in this way.
    pub(crate) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Sql(error) if error.code() == Some(state))
    }

    /// Returns true if the statement collided with another transaction: it waited too long for a lock, was the victim of a
    /// deadlock, met a unique key, or its guard did not hold any longer.
    pub(crate) fn is_collision(&self) -> bool {
        match self {
            Self::Sql(error) => error.code().is_some_and(is_collision),
            Self::Contended => true,
            Self::Unreadable(_) | Self::Late => false,
        }
    }

    /// Returns true if the same request will fail again.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Sql(error) => match error.code() {
                Some(code) => is_permanent(code),
                // Without a code: a closed connection may pass, a value that cannot be converted will not.
                None => is_conversion(error),
            },
            Self::Unreadable(_) => true,
            Self::Late | Self::Contended => false,
        }
    }

    /// Describes the fault. The details of an error of the server are left out, because they may show values.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Sql(error) => match error.as_db_error() {
                Some(db) => format!("{}: {} ({})", db.severity(), db.message(), db.code().code()),
                None => chain(error),
            },
            Self::Unreadable(reason) => reason.clone(),
            Self::Late => "the database did not answer in time".to_owned(),
            Self::Contended => "concurrent requests changed the items again and again".to_owned(),
        }
    }

    /// Converts the fault of a provider that was opened before.
    pub(crate) fn of(self, operation: &'static str) -> ProviderError {
        let reason = self.reason();
        if self.is_mendable() {
            tracing::error!(operation, reason, "the role lacks a right, or a table is missing: requests are repeated");
        }
        if self.is_permanent() {
            ProviderError::permanent(operation, reason)
        } else {
            ProviderError::retryable(operation, reason)
        }
    }

    /// Converts the fault of a start, which also fails if an operator must mend something.
    pub(crate) fn at_start(self, operation: &'static str) -> ProviderError {
        if !self.is_mendable() {
            return self.of(operation);
        }
        let reason = format!(
            "{}; a role that owns the schema creates and migrates it by `PostgresProvider::migrate`, and grants the rights",
            self.reason()
        );
        ProviderError::permanent(operation, reason)
    }

    fn is_mendable(&self) -> bool {
        matches!(self, Self::Sql(error) if error.code().is_some_and(is_mendable))
    }
}

/// Returns true if the session has ended, after this statement or with it.
fn is_fatal(db: &DbError) -> bool {
    // A severity that is not known is that of an older server in another language.
    matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// Returns true if the session is as it was before the statement, whose transaction has failed.
fn spares_connection(code: &SqlState) -> bool {
    match code.code() {
        // The statement was cancelled, by its time limit or by an operator.
        "57014" => true,
        // The server has become a standby. It is not known whether a transaction was committed. The session has lost its
        // prepared statements, or has those of another one.
        "25006" | "40003" | "26000" | "42P05" => false,
        // The protocol, or a connection between the server and a pooler; the server shuts down; its files fail.
        _ => !["08", "57", "58"].iter().any(|class| is_of(code, class)),
    }
}

fn is_collision(code: &SqlState) -> bool {
    let collisions = [
        &SqlState::LOCK_NOT_AVAILABLE,
        &SqlState::T_R_DEADLOCK_DETECTED,
        &SqlState::T_R_SERIALIZATION_FAILURE,
        &SqlState::UNIQUE_VIOLATION,
        &SqlState::DIVISION_BY_ZERO,
    ];
    collisions.contains(&code)
}

/// Returns true for faults that an operator mends while the program runs: a right that was not granted, a table or a schema
/// that was renamed or is not there yet.
fn is_mendable(code: &SqlState) -> bool {
    ["42501", "42P01", "3F000"].contains(&code.code())
}

/// Data, syntax and names: a value or a statement that does not fit the tables.
fn is_permanent(code: &SqlState) -> bool {
    let is_refused = ["22", "42", "0A"].iter().any(|class| is_of(code, class));
    is_refused && spares_connection(code) && !is_collision(code) && !is_mendable(code)
}

/// Converts a failure to connect. Some of them will not pass: a wrong password, a database that does not exist, a certificate
/// that is not trusted.
pub(crate) fn open_error(error: &tokio_postgres::Error) -> ProviderError {
    const OPERATION: &str = "connect to the database";
    let reason = match error.as_db_error() {
        Some(db) => format!("{}: {} ({})", db.severity(), db.message(), db.code().code()),
        None => chain(error),
    };
    let refused = error.code().is_some_and(|code| is_of(code, "28") || is_of(code, "3D") || is_of(code, "42"));
    if refused || is_distrust(error) {
        ProviderError::permanent(OPERATION, reason)
    } else {
        ProviderError::retryable(OPERATION, reason)
    }
}

/// Returns true if the certificate of the server was not accepted.
#[cfg(feature = "tls")]
fn is_distrust(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let tls = cause.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(not(feature = "tls"))]
fn is_distrust(_: &tokio_postgres::Error) -> bool {
    false
}

fn is_of(code: &SqlState, class: &str) -> bool {
    code.code().starts_with(class)
}

fn is_conversion(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("error deserializing")
        || text.starts_with("error serializing")
        || text.starts_with("invalid column")
}

/// Returns the text of an error with those of its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        source = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of the server; for each, whether the connection is used again, whether it is a collision, and whether the
    /// request is repeated.
    const CODES: &[(&str, bool, bool, bool)] = &[
        ("08006", false, false, true), // connection failure
        ("08P01", false, false, true), // protocol violation, as of a pooler that has lost its server
        ("0A000", true, false, false), // feature not supported
        ("22003", true, false, false), // number out of range
        ("22012", true, true, true),   // division by zero: a guard of a statement of ours
        ("22021", true, false, false), // character not in the encoding
        ("23505", true, true, true),   // unique key
        ("25006", false, false, true), // read-only transaction: a standby
        ("26000", false, false, true), // prepared statement is not known
        ("3F000", true, false, true),  // schema does not exist
        ("40001", true, true, true),   // serialization failure
        ("40003", false, false, true), // completion not known
        ("40P01", true, true, true),   // deadlock
        ("42501", true, false, true),  // no right
        ("42601", true, false, false), // syntax
        ("42703", true, false, false), // column does not exist
        ("42P01", true, false, true),  // table does not exist
        ("42P05", false, false, true), // prepared statement exists, of another client of a pooler
        ("53100", true, false, true),  // disk full
        ("53200", true, false, true),  // out of memory
        ("53300", true, false, true),  // too many connections
        ("55P03", true, true, true),   // lock not available
        ("57014", true, false, true),  // cancelled, or the time limit of a statement
        ("57P01", false, false, true), // shutdown by the administrator
        ("57P02", false, false, true), // shutdown after a crash
        ("57P03", false, false, true), // cannot connect now
        ("58030", false, false, true), // input or output of the server
        ("XX000", true, false, true),  // internal error
    ];

    #[test]
    fn each_class_of_faults_is_repeated_or_refused() {
        for &(code, spares, collides, is_repeated) in CODES {
            let state = SqlState::from_code(code);
            let found = (spares_connection(&state), is_collision(&state), !is_permanent(&state));
            assert_eq!(found, (spares, collides, is_repeated), "{code}");
        }
    }

    #[test]
    fn faults_of_statements_have_their_class() {
        assert!(!Fault::Late.spares_connection() && !Fault::Late.is_permanent() && !Fault::Late.is_collision());
        assert!(Fault::Contended.spares_connection() && Fault::Contended.is_collision());
        let unreadable = || Fault::Unreadable("a row".to_owned());
        assert!(unreadable().spares_connection() && !unreadable().of("read").is_retryable());
        assert!(Fault::Late.of("read").is_retryable() && Fault::Contended.of("read").is_retryable());
    }
}
