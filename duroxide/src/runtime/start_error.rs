//! The error of a start.

use std::fmt;

use crate::error::{ErrorCode, Suspension};
use crate::id::InstanceId;
use crate::node::{LiveCheck, NodeStartError};
use crate::provider::ProviderError;

/// The reason why a runtime did not start.
#[derive(Debug)]
pub struct StartError(Kind);

#[derive(Debug)]
enum Kind {
    Registry(Vec<(ErrorCode, String)>),
    Configuration(String),
    /// The provider does not list instances.
    NoAdmin,
    /// An activity runs in a transaction that the provider does not have.
    NoTransaction(String),
    Incompatible(LiveCheck),
    Provider(ProviderError),
}

impl StartError {
    pub(crate) fn registry(problems: Vec<(ErrorCode, String)>) -> Self {
        Self(Kind::Registry(problems))
    }

    pub(crate) fn configuration(problem: impl Into<String>) -> Self {
        Self(Kind::Configuration(problem.into()))
    }

    pub(crate) fn no_transaction(problem: String) -> Self {
        Self(Kind::NoTransaction(problem))
    }

    pub(crate) fn no_admin() -> Self {
        Self(Kind::NoAdmin)
    }

    /// Returns an error if a check has found instances that the code cannot continue.
    pub(crate) fn of_check(check: LiveCheck) -> Result<(), Self> {
        if check.incompatible.is_empty() { Ok(()) } else { Err(Self(Kind::Incompatible(check))) }
    }

    /// Returns the live instances that this code cannot continue, each with the suspension that it would cause; see
    /// [`RuntimeBuilder::check_live`](super::RuntimeBuilder::check_live). Empty if the start failed for another reason.
    pub fn incompatible(&self) -> &[(InstanceId, Suspension)] {
        match &self.0 {
            Kind::Incompatible(check) => &check.incompatible,
            _ => &[],
        }
    }

    /// Returns the problems of the registry: duplicate names, missing states, crates that are not linked. Empty if the
    /// start failed for another reason.
    pub fn problems(&self) -> &[(ErrorCode, String)] {
        match &self.0 {
            Kind::Registry(problems) => problems,
            _ => &[],
        }
    }

    /// Returns true if the same start may succeed later, because the storage has failed temporarily.
    pub fn is_retryable(&self) -> bool {
        matches!(&self.0, Kind::Provider(error) if error.is_retryable())
    }

    /// Returns the stable code; of several problems, that of the first.
    pub fn code(&self) -> ErrorCode {
        match &self.0 {
            Kind::Provider(error) => error.code(),
            Kind::Registry(problems) => problems.first().map_or(ErrorCode::NotConfigured, |(code, _)| *code),
            Kind::Configuration(_) => ErrorCode::NotConfigured,
            Kind::NoAdmin => ErrorCode::AdminNotSupported,
            Kind::NoTransaction(_) => ErrorCode::TransactionUnsuitable,
            Kind::Incompatible(check) => {
                check.incompatible.first().map_or(ErrorCode::Nondeterminism, |(_, suspension)| suspension.code)
            }
        }
    }
}

impl From<ProviderError> for StartError {
    fn from(error: ProviderError) -> Self {
        Self(Kind::Provider(error))
    }
}

impl From<NodeStartError> for StartError {
    fn from(error: NodeStartError) -> Self {
        match error {
            NodeStartError::Provider(error) => error.into(),
            NodeStartError::Thread(error) => {
                Self::configuration(format!("the threads of the runtime cannot be started: {error}"))
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Registry(problems) => {
                write!(f, "the registry cannot be run as it is:")?;
                problems.iter().try_for_each(|(code, problem)| write!(f, "\n- {code}: {problem}"))
            }
            Kind::Configuration(problem) | Kind::NoTransaction(problem) => write!(f, "{}: {problem}", self.code()),
            Kind::NoAdmin => write!(
                f,
                "{}: live instances cannot be checked, nor finished ones removed: {}",
                self.code(),
                self.code().meaning()
            ),
            Kind::Incompatible(check) => write_incompatible(f, check),
            Kind::Provider(error) => write!(f, "{}: {error}", self.code()),
        }
    }
}

/// Names the first instances, and shows the suspension of the first one.
fn write_incompatible(f: &mut fmt::Formatter<'_>, check: &LiveCheck) -> fmt::Result {
    const NAMED: usize = 10;
    let LiveCheck { checked, incompatible } = check;
    let names: Vec<_> = incompatible.iter().take(NAMED).map(|(instance, _)| instance.as_str()).collect();
    let more = if incompatible.len() > NAMED { ", .." } else { "" };
    let (count, names) = (incompatible.len(), names.join(", "));
    write!(f, "this code cannot continue {count} of {checked} checked live instances: {names}{more}")?;
    incompatible.iter().take(1).try_for_each(|(instance, suspension)| write!(f, "\n- {instance}: {suspension}"))
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Provider(error) => Some(error),
            _ => None,
        }
    }
}
