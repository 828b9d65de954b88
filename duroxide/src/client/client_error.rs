//! The errors of a client.

use std::fmt;
use std::time::Duration;

use crate::error::{Category, ErrorCode};
use crate::id::{InstanceId, InvalidId};
use crate::payload::PayloadError;
use crate::provider::{InstanceStatus, ProviderError, SubmitError, WithinError};

/// The error of a request of a client.
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
    /// The storage has failed; with the time for which the request was retried.
    Storage(ProviderError, Option<Duration>),
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

    pub(super) fn payload(instance: &InstanceId, subject: &str, error: &PayloadError) -> Self {
        Self::refused(instance, ErrorCode::PayloadRefused, format!("{subject}: {error}"))
    }

    pub(super) fn unreadable(instance: &InstanceId, subject: &str, error: &dyn fmt::Display) -> Self {
        Self::refused(instance, ErrorCode::UnreadableResult, format!("{subject}: {error}"))
    }

    pub(super) fn refused(instance: &InstanceId, code: ErrorCode, reason: String) -> Self {
        Self { kind: Kind::Refused(code, reason), instance: Some(instance.clone()) }
    }

    /// Converts the error by which the provider answered a submission.
    pub(super) fn submitted(instance: &InstanceId, error: SubmitError) -> Self {
        let kind = match error {
            SubmitError::NotFound => Kind::NotFound,
            SubmitError::Finished(status) => Kind::Finished(status),
            SubmitError::Exists(status) => Kind::Exists(status),
            SubmitError::Live(status) => Kind::Live(status),
            SubmitError::Unreadable(reason) => Kind::Refused(ErrorCode::UnreadableEvent, reason),
            SubmitError::Conflict => Kind::Conflict,
            SubmitError::Failed(_) => Kind::Storage(ProviderError::retryable("submit", error), None),
        };
        Self { kind, instance: Some(instance.clone()) }
    }

    /// Converts the error of a submission within a transaction of the user.
    pub(super) fn within(instance: &InstanceId, error: WithinError) -> Self {
        const OPERATION: &str = "write within the transaction";
        let kind = match error {
            WithinError::Refused(error) => return Self::submitted(instance, error),
            WithinError::Unsuitable(reason) => Kind::Refused(ErrorCode::TransactionUnsuitable, reason),
            WithinError::Failed { retryable: true, reason } => {
                Kind::Storage(ProviderError::retryable(OPERATION, reason), None)
            }
            WithinError::Failed { reason, .. } => Kind::Storage(ProviderError::permanent(OPERATION, reason), None),
        };
        Self { kind, instance: Some(instance.clone()) }
    }

    /// Adds the time for which the request was retried.
    pub(super) fn after(mut self, waited: Duration) -> Self {
        if let Kind::Storage(_, retried) = &mut self.kind {
            *retried = Some(waited);
        }
        self
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.kind, Kind::Conflict)
    }

    /// Returns the stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match &self.kind {
            Kind::Refused(code, _) => *code,
            Kind::NotFound => ErrorCode::InstanceNotFound,
            Kind::Finished(_) => ErrorCode::InstanceFinished,
            Kind::Exists(_) => ErrorCode::InstanceExists,
            Kind::Live(_) => ErrorCode::InstanceLive,
            Kind::Conflict => ErrorCode::StorageFailed,
            Kind::Stopped => ErrorCode::RuntimeStopped,
            Kind::Storage(error, _) => error.code(),
        }
    }

    /// Returns the category of the error.
    pub fn category(&self) -> Category {
        self.code().category()
    }

    /// Returns the instance of the request, if it concerns one.
    pub fn instance(&self) -> Option<&InstanceId> {
        self.instance.as_ref()
    }

    /// Returns true if the storage failed, so that the request may or may not have been carried out.
    pub(super) fn is_storage_failure(&self) -> bool {
        matches!(self.kind, Kind::Storage(..))
    }

    /// Returns true if there is no such instance.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, Kind::NotFound)
    }

    /// Returns true if the id is taken by another instance.
    pub fn is_exists(&self) -> bool {
        matches!(self.kind, Kind::Exists(_))
    }

    /// Returns true if the instance has finished.
    pub fn is_finished(&self) -> bool {
        matches!(self.kind, Kind::Finished(_))
    }

    /// Returns true if the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(&self.kind, Kind::Storage(error, _) if error.is_retryable())
    }
}

impl From<ProviderError> for ClientError {
    fn from(error: ProviderError) -> Self {
        Self { kind: Kind::Storage(error, None), instance: None }
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
            Kind::Finished(status) => write!(f, "it has already finished: it is {status}"),
            Kind::Exists(status) => {
                write!(f, "the id is taken by an instance that is {status}; `if_exists` sets the policy for this case")
            }
            Kind::Live(status) if status.is_finished() => {
                write!(f, "it is {status}, but detached activities of it have not ended; wait for them")
            }
            Kind::Live(status) => write!(f, "it is {status}; wait for its end, or cancel or terminate it first"),
            Kind::Conflict => f.write_str("it has changed in the meantime"),
            Kind::Stopped => f.write_str("the runtime of this client has stopped"),
            Kind::Storage(error, None) => error.fmt(f),
            Kind::Storage(error, Some(waited)) => {
                write!(f, "{error}; the request was retried for {:.1} s", waited.as_secs_f64())
            }
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Storage(error, _) => Some(error),
            _ => None,
        }
    }
}

/// The reason why there is no output: another end of the instance, or an outcome that cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutcomeError<E> {
    /// The orchestration returned this error.
    Failed(E),
    /// The orchestration panicked.
    #[non_exhaustive]
    Panicked {
        /// The name of the orchestration. `None` if the handle was made without its type.
        orchestration: Option<&'static str>,
        /// The instance.
        instance: InstanceId,
        /// The message of the panic.
        message: String,
    },
    /// The instance was cancelled.
    Cancelled {
        /// The reason that the requester gave.
        reason: String,
    },
    /// The instance was terminated.
    Terminated {
        /// The reason that the requester gave.
        reason: String,
    },
    /// The value that the orchestration returned cannot be stored.
    Rejected {
        /// The reason.
        reason: String,
    },
    /// The outcome cannot be read: there is no such instance, the storage fails, or the output has another type.
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
            Self::Panicked { orchestration: Some(name), instance, message } => {
                write!(f, "orchestration `{name}`, instance `{instance}`, panicked: {message}")
            }
            Self::Panicked { orchestration: None, instance, message } => {
                write!(f, "the orchestration of instance `{instance}` panicked: {message}")
            }
            Self::Cancelled { reason } => write!(f, "the orchestration was cancelled: {reason}"),
            Self::Terminated { reason } => write!(f, "the orchestration was terminated: {reason}"),
            Self::Rejected { reason } => write!(f, "the value that the orchestration returned is refused: {reason}"),
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
