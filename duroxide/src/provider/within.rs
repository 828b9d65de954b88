//! Writes within a transaction of the user.
//!
//! ```text
//! call.within(&mut tx) ──► UserTransaction::submit ──► Provider::transactional ──► statements on the user's connection
//! ```
//!
//! The connection belongs to the user, so the code that runs statements on it is generic over its driver, and the provider
//! behind `dyn Provider` supplies the statements: the implementation for a driver casts [`Transactional::as_any`] to the
//! provider of its own crate.

use std::any::Any;

use super::{Submission, SubmitError, Submitted};

/// The part of a provider that writes within transactions of the user; see
/// [`Provider::transactional`](super::Provider::transactional).
pub trait Transactional: Send + Sync + 'static {
    /// Returns the kind of the database, for people: `SQLite`.
    fn database(&self) -> &'static str;

    /// Returns the provider, for the crate that implements it.
    fn as_any(&self) -> &dyn Any;

    /// Signals that a transaction with a submission was committed, in this process and to the others. Without this signal
    /// they learn of it later.
    fn committed(&self);
}

/// A transaction of the user, in which an instance is started or an event is raised: the argument of
/// [`StartCall::within`](crate::client::StartCall::within) and [`RaiseCall::within`](crate::client::RaiseCall::within).
///
/// With the feature `sqlite` the references to a connection and to a transaction of `rusqlite` implement it. The crate
/// `duroxide-postgres` implements it for those of `tokio-postgres` and, with its feature `sqlx`, of `sqlx`.
///
/// `D` is a type of the crate with the implementation. It has no other meaning: it allows that crate to implement the trait
/// for the types of a driver.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transaction that a provider writes in",
    label = "pass a reference to an open transaction, such as `&mut tx`",
    note = "a transaction of a pool is passed as `&mut *tx`; `duroxide-postgres` has the implementations for PostgreSQL"
)]
pub trait UserTransaction<D> {
    /// Writes a start or a message within the transaction. A refusal leaves the transaction usable.
    ///
    /// # Errors
    /// See [`WithinError`].
    fn submit(
        self,
        provider: &dyn Transactional,
        submission: &Submission,
    ) -> impl Future<Output = Result<Submitted, WithinError>>;
}

/// The reason why a submission was not written within a transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WithinError {
    /// It was refused. The transaction can be used further.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// The transaction is not one of the database in which the provider keeps its state, or the provider cannot write such
    /// a submission within a transaction. Nothing was done.
    #[error("{0}")]
    Unsuitable(String),
    /// A statement has failed. Roll the transaction back.
    #[error("the transaction has failed: {reason}")]
    Failed {
        /// True if the transaction may succeed if it is repeated from its beginning.
        retryable: bool,
        /// The failure, without values.
        reason: String,
    },
}

impl WithinError {
    /// Returns the error of a transaction of another kind of database.
    pub fn other_database(provider: &dyn Transactional, transaction: &str) -> Self {
        let state = provider.database();
        Self::Unsuitable(format!("the transaction is one of {transaction}, but the client keeps its state in {state}"))
    }
}
