//! The error of a start.

use std::fmt;

use crate::error::ErrorCode;
use crate::node::NodeStartError;
use crate::provider::ProviderError;

/// The reason why a runtime did not start.
#[derive(Debug)]
pub struct StartError(Kind);

#[derive(Debug)]
enum Kind {
    Registry(Vec<(ErrorCode, String)>),
    Configuration(String),
    Provider(ProviderError),
}

impl StartError {
    pub(crate) fn registry(problems: Vec<(ErrorCode, String)>) -> Self {
        Self(Kind::Registry(problems))
    }

    pub(crate) fn configuration(problem: impl Into<String>) -> Self {
        Self(Kind::Configuration(problem.into()))
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
            Kind::Configuration(problem) => write!(f, "{}: {problem}", self.code()),
            Kind::Provider(error) => write!(f, "{}: {error}", self.code()),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Provider(error) => Some(error),
            _ => None,
        }
    }
}
