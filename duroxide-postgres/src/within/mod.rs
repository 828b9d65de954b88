//! Starts and events within transactions of the program.
//!
//! The connection is the program's own, with its own `search_path`, so the statements name the schema. A start is one
//! statement. An event is a row in the outbox (`outbox`): it has no number yet, and locks no instance for the time of
//! the transaction.

mod notice;
#[cfg(feature = "sqlx")]
mod sqlx;
mod statements;
mod tokio;

use std::any::Any;

use duroxide::provider::{
    AuditEntry, ProviderError, Ready, SendRequest, StartRequest, Submission, SubmitError, Submitted, Transactional,
    WithinError,
};
use futures_util::future::BoxFuture;
use uuid::Uuid;

pub(crate) use self::notice::NoticeLimit;
pub(crate) use self::statements::Statements;

use crate::provider::PostgresProvider;
use crate::rows::{int, label, payload_bytes, status_of, stored_ready, text_map_json};
use crate::state::State;

/// PostgreSQL, as the database of a [`UserTransaction`](duroxide::provider::UserTransaction).
#[derive(Debug)]
pub enum Postgres {}

/// A transaction that runs the statements of this crate, by any driver.
///
/// It is implemented for the transaction of `tokio-postgres` and, with the feature `sqlx`, for the connection of `sqlx`. For
/// another driver, implement it for a type of your own, and pass `By(&mut transaction)` to `within`.
pub trait SqlTransaction: Send {
    /// Runs a statement. Its parameters are `$1`, `$2`, .. Returns the text in the only column of the first row, or `None`
    /// if there is no row.
    ///
    /// # Errors
    /// The failure of the statement.
    fn run<'a>(
        &'a mut self,
        sql: &'a str,
        values: &'a [SqlValue<'a>],
    ) -> BoxFuture<'a, Result<Option<String>, SqlError>>;
}

/// A value of a statement.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum SqlValue<'a> {
    /// A `bigint`.
    Int(Option<i64>),
    /// A `text`.
    Text(Option<&'a str>),
    /// A `bytea`.
    Bytes(Option<&'a [u8]>),
    /// A `uuid`.
    Uuid(Uuid),
}

/// The failure of a statement of a [`SqlTransaction`].
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SqlError {
    state: Option<String>,
    reason: String,
}

impl SqlError {
    /// Makes an error of the SQLSTATE, if the server gave one, and the message, which must not show values.
    pub fn new(state: Option<&str>, reason: impl Into<String>) -> Self {
        Self { state: state.map(str::to_owned), reason: reason.into() }
    }

    /// Returns true if an earlier statement of the transaction has failed.
    pub(crate) fn is_in_failed_transaction(&self) -> bool {
        self.state.as_deref() == Some("25P02")
    }

    /// Returns true if the transaction may succeed if it is repeated: a collision with another one, or a lost connection.
    pub fn is_retryable(&self) -> bool {
        let passes = |state: &str| ["08", "40", "53", "55", "57", "58"].iter().any(|class| state.starts_with(class));
        self.state.as_deref().is_none_or(passes)
    }
}

impl From<SqlError> for WithinError {
    fn from(error: SqlError) -> Self {
        Self::Failed { retryable: error.is_retryable(), reason: error.reason }
    }
}

/// A [`SqlTransaction`] as the argument of `within`: one of a driver that this crate does not know, or a connection of `sqlx`
/// on which a transaction is open. Without an open transaction, each write would be committed alone.
#[derive(Debug)]
pub struct By<'t, T>(
    /// The transaction.
    pub &'t mut T,
);

/// A transaction that sends no notification when it commits, as the argument of `within`.
///
/// A notification within a transaction holds a lock of the whole database server while the transaction is flushed. With
/// hundreds of such transactions per second, leave it out, and call `committed` after the commit.
#[derive(Debug)]
pub struct Quiet<'t, T>(
    /// The transaction.
    pub &'t mut T,
);

impl Transactional for PostgresProvider {
    fn database(&self) -> &'static str {
        "PostgreSQL"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn committed(&self) {
        self.state().transaction_was_committed();
    }
}

/// Fails if this program may only read the schema.
pub(crate) fn may_write(state: &State) -> Result<(), WithinError> {
    let refused = |error: ProviderError| WithinError::Failed { retryable: false, reason: error.to_string() };
    state.check_may_write("write within a transaction").map_err(refused)
}

/// Writes a start or an event within a transaction.
pub(crate) async fn submit<T: SqlTransaction>(
    tx: &mut T,
    is_quiet: bool,
    provider: &dyn Transactional,
    submission: &Submission,
) -> Result<Submitted, WithinError> {
    let postgres: Option<&PostgresProvider> = provider.as_any().downcast_ref();
    let state = postgres.ok_or_else(|| WithinError::other_database(provider, "PostgreSQL"))?.state();
    may_write(state)?;
    let notice = if is_quiet { None } else { state.within.limit.notice() };
    let submitted = match submission.unaudited() {
        Submission::Start(request) => start(tx, state, request, notice).await,
        Submission::Send(request) => raise(tx, state, request, notice).await,
        _ => Err(WithinError::Unsuitable("only starts and events are written within a transaction".to_owned())),
    }?;
    if let (true, Submission::Audited { entry, .. }) = (submitted.written, submission) {
        record(tx, state, entry).await?;
    }
    state.within.expect();
    Ok(submitted)
}

/// Writes an entry of the audit.
async fn record<T: SqlTransaction>(tx: &mut T, state: &State, entry: &AuditEntry) -> Result<(), WithinError> {
    let batch = entry.batch.map(|batch| batch.to_string());
    let values = [
        SqlValue::Uuid(entry.id.0),
        SqlValue::Int(Some(entry.time.as_micros())),
        SqlValue::Text(Some(&entry.actor)),
        SqlValue::Text(entry.via.as_deref()),
        SqlValue::Text(Some(&entry.action)),
        SqlValue::Text(entry.instance.as_ref().map(|instance| instance.as_str())),
        SqlValue::Text(entry.reason.as_deref()),
        SqlValue::Text(entry.detail.as_deref()),
        SqlValue::Text(batch.as_deref()),
    ];
    tx.run(&state.within.statements.audit, &values).await?;
    Ok(())
}

async fn start<T: SqlTransaction>(
    tx: &mut T,
    state: &State,
    StartRequest { new, if_exists, time, .. }: &StartRequest,
    notice: Option<&str>,
) -> Result<Submitted, WithinError> {
    let version = new.version.as_ref().map(ToString::to_string);
    let labels = text_map_json(&new.labels);
    let to_find = text_map_json(&new.labels.iter().map(|(name, value)| (label(name), label(value))).collect());
    let visible_at = new.start.visible_at.map(|at| at.as_micros());
    let values = [
        SqlValue::Text(Some(new.instance.as_str())),
        SqlValue::Uuid(new.start.id.0),
        SqlValue::Text(Some(&new.name)),
        SqlValue::Text(version.as_deref()),
        SqlValue::Int(Some(time.as_micros())),
        SqlValue::Text(labels.as_deref()),
        SqlValue::Text(to_find.as_deref()),
        SqlValue::Int(visible_at),
        SqlValue::Int(Some(new.start.format.into())),
        SqlValue::Text(Some(&new.start.data)),
        SqlValue::Bytes(payload_bytes(&new.start.payload)),
        SqlValue::Int(Some(stored_ready(Ready::by_message(new.start.visible_at, *time)))),
        SqlValue::Text(notice),
    ];
    let statements = &state.within.statements;
    if tx.run(&statements.start, &values).await?.as_deref() == Some("1") {
        let identity = Some(new.start.id.into());
        return Ok(Submitted { owner: None, identity, number: None, written: true });
    }
    // A later statement: that of the insert may have waited for the transaction that has created the instance.
    let status = tx.run(&statements.status, &[SqlValue::Text(Some(new.instance.as_str()))]).await?;
    let status = status.as_deref().and_then(status_of).ok_or(SubmitError::Conflict)?;
    if *if_exists == duroxide::IfExists::Attach {
        return Ok(Submitted { owner: None, identity: None, number: None, written: false });
    }
    Err(SubmitError::Exists(status).into())
}

async fn raise<T: SqlTransaction>(
    tx: &mut T,
    state: &State,
    SendRequest { to, message, time, .. }: &SendRequest,
    notice: Option<&str>,
) -> Result<Submitted, WithinError> {
    let values = [
        SqlValue::Text(Some(to.as_str())),
        SqlValue::Uuid(message.id.0),
        SqlValue::Int(Some(time.as_micros())),
        SqlValue::Int(Some(int(message.format.into()))),
        SqlValue::Text(Some(&message.data)),
        SqlValue::Bytes(payload_bytes(&message.payload)),
        SqlValue::Text(notice),
    ];
    match tx.run(&state.within.statements.raise, &values).await?.as_deref() {
        Some("raised") => Ok(Submitted { owner: None, identity: None, number: None, written: true }),
        Some(status) => Err(status_of(status).map_or(SubmitError::NotFound, SubmitError::Finished).into()),
        None => Err(SubmitError::NotFound.into()),
    }
}
