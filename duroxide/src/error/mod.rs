//! Errors: [`Error`] for user functions, [`CallError`] for durable calls, and the stable codes.
//!
//! A program needs it to handle errors by their kind. The errors of other operations are beside these operations:
//! [`ClientError`](crate::client::ClientError) and [`OutcomeError`](crate::client::OutcomeError),
//! [`StartError`](crate::runtime::StartError), [`ProviderError`](crate::provider::ProviderError),
//! [`PayloadError`](crate::payload::PayloadError) and [`InvalidId`](crate::id::InvalidId). The page [Errors] explains
//! every code.
//!
//! [Errors]: https://github.com/duroxide/duroxide/blob/main/docs/errors.md

mod call;
mod code;
mod suspension;
mod text;
mod timed_out;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use call::CallError;
pub use code::{Category, ErrorCode, UnknownErrorCode};
pub use suspension::{Pause, Suspension, UnreadMessage};
pub(crate) use text::{MAX_MESSAGE, shortened, shortened_to};
pub use timed_out::TimedOut;

pub use crate::history::Callee;

/// The result of a user function that does not need an error type of its own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for user functions that need no error type of their own: `?` converts any error into it, and it can be
/// stored.
///
/// It keeps the messages of the error and of its sources, as text. `{}` shows the message, `{:#}` the message and its
/// causes on one line, `{:?}` all of them on lines of their own.
///
/// It does not implement [`std::error::Error`], since it could then not convert from all types that do. But it
/// dereferences to one, and converts into `Box<dyn Error + Send + Sync>`. So it can be a `#[from]` of `thiserror`, and
/// `?` works in functions that return boxed errors. [`from_boxed`](Error::from_boxed) converts a boxed error, or that
/// of `anyhow`. The stored form is `{"message": "..", "causes": [".."]}`.
///
/// ```
/// fn parse(text: &str) -> duroxide::Result<u32> {
///     Ok(text.parse()?)
/// }
/// let error = parse("x").unwrap_err().context("the order has no number");
/// assert_eq!(error.to_string(), "the order has no number");
/// assert_eq!(format!("{error:#}"), "the order has no number: invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Error {
    chain: Link,
}

/// A message and its cause. This is the standard library's form of an error: each link is the source of the one before.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Link {
    message: String,
    cause: Option<Box<Link>>,
}

/// The stored form of an [`Error`].
#[derive(Serialize, Deserialize)]
struct Stored {
    message: String,
    #[serde(default)]
    causes: Vec<String>,
}

impl Error {
    /// Creates an error that has only a message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { chain: Link { message: message.to_string(), cause: None } }
    }

    /// Converts an error that is boxed, or that can be boxed but is no [`std::error::Error`], such as that of `anyhow`.
    ///
    /// ```
    /// fn legacy() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    ///     Err("no answer")?
    /// }
    /// fn modern() -> duroxide::Result<u32> {
    ///     legacy().map_err(duroxide::Error::from_boxed)
    /// }
    /// assert_eq!(modern().unwrap_err().message(), "no answer");
    /// ```
    pub fn from_boxed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { chain: Link::of(&*error.into()) }
    }

    /// Wraps this error as the cause of another, whose message names the operation that failed.
    #[must_use]
    pub fn context(self, message: impl fmt::Display) -> Self {
        Self { chain: Link { message: message.to_string(), cause: Some(Box::new(self.chain)) } }
    }

    /// Returns the message, without the causes.
    pub fn message(&self) -> &str {
        &self.chain.message
    }

    /// Returns the messages of the causes, the nearest first.
    pub fn causes(&self) -> impl Iterator<Item = &str> {
        self.chain.causes()
    }
}

impl Link {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let sources: Vec<_> = std::iter::successors(error.source(), |source| source.source()).collect();
        Self::new(error.to_string(), sources.into_iter().map(ToString::to_string))
    }

    fn new(message: String, causes: impl DoubleEndedIterator<Item = String>) -> Self {
        let cause = causes.rev().fold(None, |cause, message| Some(Box::new(Self { message, cause })));
        Self { message, cause }
    }

    fn causes(&self) -> impl Iterator<Item = &str> {
        let links = std::iter::successors(self.cause.as_deref(), |link| link.cause.as_deref());
        links.map(|link| link.message.as_str())
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // The causes of an error of this type cannot be reached through `source()`.
        if let Some(CallError::Failed(own)) = (&error as &dyn std::error::Error).downcast_ref::<CallError<Self>>() {
            return own.clone();
        }
        Self { chain: Link::of(&error) }
    }
}

impl From<Error> for Box<dyn std::error::Error + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(error.chain)
    }
}

impl From<Error> for Box<dyn std::error::Error + Send> {
    fn from(error: Error) -> Self {
        Box::new(error.chain)
    }
}

impl From<Error> for Box<dyn std::error::Error> {
    fn from(error: Error) -> Self {
        Box::new(error.chain)
    }
}

impl std::ops::Deref for Error {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &self.chain
    }
}

impl From<Stored> for Error {
    fn from(stored: Stored) -> Self {
        Self { chain: Link::new(stored.message, stored.causes.into_iter()) }
    }
}

impl From<Error> for Stored {
    fn from(error: Error) -> Self {
        let causes = error.causes().map(str::to_owned).collect();
        Self { message: error.chain.message, causes }
    }
}

impl std::error::Error for Link {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes: Vec<_> = self.causes().collect();
        if f.alternate() {
            return f.debug_struct("Error").field("message", &self.message).field("causes", &causes).finish();
        }
        f.write_str(&self.message)?;
        match causes.as_slice() {
            [] => Ok(()),
            [cause] => write!(f, "\n\nCaused by:\n    {cause}"),
            causes => {
                f.write_str("\n\nCaused by:")?;
                causes.iter().enumerate().try_for_each(|(i, cause)| write!(f, "\n    {i}: {cause}"))
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        if f.alternate() {
            self.causes().try_for_each(|cause| write!(f, ": {cause}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chain.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("middle")]
    struct Middle(#[source] std::num::ParseIntError);

    fn chain() -> Error {
        let inner = "x".parse::<u8>().expect_err("no number");
        Outer(Middle(inner)).into()
    }

    #[test]
    fn error_keeps_its_cause_chain() {
        let error = chain();
        assert_eq!(error.message(), "outer");
        assert_eq!(error.causes().collect::<Vec<_>>(), ["middle", "invalid digit found in string"]);
        assert_eq!(error.to_string(), "outer");
        assert_eq!(format!("{error:#}"), "outer: middle: invalid digit found in string");
        assert_eq!(format!("{error:?}"), "outer\n\nCaused by:\n    0: middle\n    1: invalid digit found in string");
        assert_eq!(format!("{:?}", Error::new("a").context("b")), "b\n\nCaused by:\n    a");
        assert_eq!(format!("{:?}", Error::new("a")), "a");
    }

    #[test]
    fn error_survives_serialization() {
        let json = serde_json::to_value(chain()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"message": "outer", "causes": ["middle", "invalid digit found in string"]})
        );
        assert_eq!(serde_json::from_value::<Error>(json).unwrap(), chain());
        let bare = serde_json::from_str::<Error>(r#"{"message":"a"}"#).unwrap();
        assert_eq!(bare, Error::new("a"));
    }

    #[test]
    fn error_survives_the_way_through_a_standard_error() {
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Wrapped(#[from] Error);

        fn boxed() -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
            Err(chain())?
        }
        let sources = |error: &dyn std::error::Error| {
            let sources = std::iter::successors(error.source(), |source| source.source());
            sources.map(ToString::to_string).collect::<Vec<_>>()
        };
        let boxed = boxed().expect_err("it fails");
        assert_eq!(boxed.to_string(), "outer");
        assert_eq!(sources(&*boxed), ["middle", "invalid digit found in string"]);
        assert_eq!(Error::from_boxed(boxed), chain());
        let wrapped = Wrapped::from(chain());
        assert_eq!((wrapped.to_string().as_str(), sources(&wrapped).len()), ("outer", 2));
        assert_eq!(Error::from(wrapped), chain());
    }

    #[test]
    fn error_is_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
        check::<CallError<Error>>();
    }

    #[test]
    fn call_error_converts_to_error_with_its_causes() {
        fn fails<E: fmt::Debug + fmt::Display + 'static>(error: CallError<E>) -> Result<()> {
            Err(error)?
        }
        assert_eq!(fails(CallError::Failed(chain())), Err(chain()));
        assert_eq!(fails(CallError::Failed(serde_json::json!({"a": 1}))), Err(Error::new(r#"{"a":1}"#)));
        let cancelled = CallError::<Error>::Cancelled { reason: "no stock".into(), callee: None };
        assert_eq!(fails(cancelled), Err(Error::new("cancelled: no stock")));
    }
}
