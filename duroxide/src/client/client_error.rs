//! What goes wrong for a client.

use std::fmt;

use crate::error::{Category, ErrorCode};
use crate::id::{InstanceId, InvalidId};
use crate::payload::PayloadError;
use crate::provider::{InstanceStatus, ProviderError, SubmitError};

/// Why a client's request was not carried out.
#[derive(Debug)]
pub struct ClientError {
    kind: Kind,
    instance: Option<InstanceId>,
}

#[derive(Debug)]
enum Kind {
    Refused(ErrorCode, String),
    NotFound,
    Finished(InstanceStatus),
    Exists(InstanceStatus),
    Live(InstanceStatus),
    Conflict,
    Stopped,
    Storage(ProviderError),
}

impl ClientError {
    pub(super) fn invalid(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { kind: Kind::Refused(code, reason.into()), instance: None }
    }

    pub(super) fn stopped(instance: Option<&InstanceId>) -> Self {
        Self { kind: Kind::Stopped, instance: instance.cloned() }
    }

    pub(super) fn not_found(instance: &InstanceId) -> Self {
        Self { kind: Kind::NotFound, instance: Some(instance.clone()) }
    }

    pub(super) fn live(instance: &InstanceId, status: InstanceStatus) -> Self {
        Self { kind: Kind::Live(status), instance: Some(instance.clone()) }
    }

    pub(super) fn finished(instance: &InstanceId, status: InstanceStatus) -> Self {
        Self { kind: Kind::Finished(status), instance: Some(instance.clone()) }
    }

    pub(super) fn payload(instance: &InstanceId, what: &str, error: &PayloadError) -> Self {
        Self::refused(instance, ErrorCode::PayloadRefused, format!("{what}: {error}"))
    }

    pub(super) fn unreadable(instance: &InstanceId, what: &str, error: &dyn fmt::Display) -> Self {
        Self::refused(instance, ErrorCode::UnreadableResult, format!("{what}: {error}"))
    }

    pub(super) fn refused(instance: &InstanceId, code: ErrorCode, reason: String) -> Self {
        Self { kind: Kind::Refused(code, reason), instance: Some(instance.clone()) }
    }

    /// What the provider answered to a submission.
    pub(super) fn submitted(instance: &InstanceId, error: SubmitError) -> Self {
        let kind = match error {
            SubmitError::NotFound => Kind::NotFound,
            SubmitError::Finished(status) => Kind::Finished(status),
            SubmitError::Exists(status) => Kind::Exists(status),
            SubmitError::Conflict => Kind::Conflict,
            SubmitError::Failed(_) => Kind::Storage(ProviderError::retryable("submit", error)),
        };
        Self { kind, instance: Some(instance.clone()) }
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.kind, Kind::Conflict)
    }

    /// Its stable code.
    pub fn code(&self) -> ErrorCode {
        match &self.kind {
            Kind::Refused(code, _) => *code,
            Kind::NotFound => ErrorCode::InstanceNotFound,
            Kind::Finished(_) => ErrorCode::InstanceFinished,
            Kind::Exists(_) => ErrorCode::InstanceExists,
            Kind::Live(_) => ErrorCode::InstanceLive,
            Kind::Conflict => ErrorCode::StorageFailed,
            Kind::Stopped => ErrorCode::RuntimeStopped,
            Kind::Storage(error) => error.code(),
        }
    }

    /// Whose trouble it is.
    pub fn category(&self) -> Category {
        self.code().category()
    }

    /// The instance that it is about.
    pub fn instance(&self) -> Option<&InstanceId> {
        self.instance.as_ref()
    }

    /// Whether the storage has failed, so that it is not known what became of what was asked for.
    pub(super) fn is_of_storage(&self) -> bool {
        matches!(self.kind, Kind::Storage(_))
    }

    /// Whether there is no such instance.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, Kind::NotFound)
    }

    /// Whether the id is taken.
    pub fn is_exists(&self) -> bool {
        matches!(self.kind, Kind::Exists(_))
    }

    /// Whether the instance has finished.
    pub fn is_finished(&self) -> bool {
        matches!(self.kind, Kind::Finished(_))
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(&self.kind, Kind::Storage(error) if error.is_retryable())
    }
}

impl From<ProviderError> for ClientError {
    fn from(error: ProviderError) -> Self {
        Self { kind: Kind::Storage(error), instance: None }
    }
}

impl From<InvalidId> for ClientError {
    fn from(error: InvalidId) -> Self {
        Self::invalid(ErrorCode::InvalidId, error.to_string())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code())?;
        if let Some(instance) = &self.instance {
            write!(f, "instance {instance:?}: ")?;
        }
        match &self.kind {
            Kind::Refused(_, reason) => f.write_str(reason),
            Kind::NotFound => f.write_str("there is no such instance"),
            Kind::Finished(status) => write!(f, "it has finished: it is {status}"),
            Kind::Exists(status) => {
                write!(f, "the id is taken by an instance that is {status}; `if_exists` says what a start does then")
            }
            Kind::Live(status) => write!(f, "it is {status}; cancel or terminate it first"),
            Kind::Conflict => f.write_str("it has changed meanwhile"),
            Kind::Stopped => f.write_str("the runtime of this client has stopped"),
            Kind::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Storage(error) => Some(error),
            _ => None,
        }
    }
}

/// Why there is no result: how the instance ended instead, or why that cannot be told.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutcomeError<E> {
    /// The orchestration returned this error.
    Failed(E),
    /// The orchestration panicked.
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// It was terminated.
    Terminated {
        /// Why.
        reason: String,
    },
    /// What it returned cannot be stored.
    Rejected {
        /// Why.
        reason: String,
    },
    /// The outcome cannot be told: no such instance, storage that fails, an output of another type.
    Client(ClientError),
}

impl<E> From<ClientError> for OutcomeError<E> {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl<E: fmt::Display> fmt::Display for OutcomeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the orchestration failed: {error}"),
            Self::Panicked { message } => write!(f, "the orchestration panicked: {message}"),
            Self::Cancelled { reason } => write!(f, "the orchestration was cancelled: {reason}"),
            Self::Terminated { reason } => write!(f, "the orchestration was terminated: {reason}"),
            Self::Rejected { reason } => write!(f, "what the orchestration returned is refused: {reason}"),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for OutcomeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => error.source(),
            _ => None,
        }
    }
}
