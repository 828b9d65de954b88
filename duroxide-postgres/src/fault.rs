//! Failures of the database, and the rule for those that may pass on a retry.

use duroxide::provider::ProviderError;
use tokio_postgres::error::SqlState;

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
            // Classes 57 and 58: the server shuts down, or the session was ended. 25006: it has become a standby.
            Self::Sql(error) => error.code().is_some_and(|code| {
                code.code() == "57014" || !(is_of(code, "57") || is_of(code, "58") || code.code() == "25006")
            }),
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
        let Self::Sql(error) = self else { return matches!(self, Self::Contended) };
        let collisions = [
            &SqlState::LOCK_NOT_AVAILABLE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::UNIQUE_VIOLATION,
            &SqlState::DIVISION_BY_ZERO,
        ];
        error.code().is_some_and(|code| collisions.contains(&code))
    }

    /// Returns true if the same request will fail again.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Sql(error) => match error.code() {
                // Data, syntax and names: a value or a statement that does not fit the tables.
                Some(code) => ["22", "42", "0A"].iter().any(|class| is_of(code, class)) && !self.is_collision(),
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

    pub(crate) fn of(self, operation: &'static str) -> ProviderError {
        let reason = self.reason();
        if self.is_permanent() {
            ProviderError::permanent(operation, reason)
        } else {
            ProviderError::retryable(operation, reason)
        }
    }
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
