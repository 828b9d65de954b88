//! Errors: the one that user functions return, what a durable call fails with, and the codes of all that can go wrong.

mod call;
mod code;
mod suspension;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use call::CallError;
pub use code::{Category, ErrorCode, UnknownErrorCode};
pub use suspension::Suspension;

/// The result of a user function that does not need an error type of its own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for user functions that need no type of their own: any error turns into it with `?`, and it can be stored.
///
/// It keeps the messages of the error and of its sources, as text. `{}` shows the message, `{:#}` the message and its
/// causes on one line, `{:?}` all of them on lines of their own.
///
/// It does not implement [`std::error::Error`], since it could not convert from all that do if it did. Its fields are
/// stored as `{"message": "..", "causes": [".."]}`.
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
pub struct Error {
    message: String,
    #[serde(default)]
    causes: Vec<String>,
}

impl Error {
    /// An error that has only a message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), causes: Vec::new() }
    }

    /// The same error as the cause of another, which says what was being done.
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, message.to_string()));
        self
    }

    /// What went wrong, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why: the message of each source of the error, the nearest first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // The causes of an error of this type cannot be reached through `source()`.
        if let Some(CallError::Failed(own)) = (&error as &dyn std::error::Error).downcast_ref::<CallError<Self>>() {
            return own.clone();
        }
        let sources = std::iter::successors(error.source(), |source| source.source());
        Self { message: error.to_string(), causes: sources.map(ToString::to_string).collect() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if f.alternate() {
            self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.debug_struct("Error").field("message", &self.message).field("causes", &self.causes).finish();
        }
        f.write_str(&self.message)?;
        match self.causes.as_slice() {
            [] => Ok(()),
            [cause] => write!(f, "\n\nCaused by:\n    {cause}"),
            causes => {
                f.write_str("\n\nCaused by:")?;
                causes.iter().enumerate().try_for_each(|(i, cause)| write!(f, "\n    {i}: {cause}"))
            }
        }
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
    fn the_chain_is_kept() {
        let error = chain();
        assert_eq!(error.message(), "outer");
        assert_eq!(error.causes(), ["middle", "invalid digit found in string"]);
        assert_eq!(error.to_string(), "outer");
        assert_eq!(format!("{error:#}"), "outer: middle: invalid digit found in string");
        assert_eq!(format!("{error:?}"), "outer\n\nCaused by:\n    0: middle\n    1: invalid digit found in string");
        assert_eq!(format!("{:?}", Error::new("a").context("b")), "b\n\nCaused by:\n    a");
        assert_eq!(format!("{:?}", Error::new("a")), "a");
    }

    #[test]
    fn it_is_stored_and_read() {
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
    fn it_crosses_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
        check::<CallError<Error>>();
    }

    #[test]
    fn a_call_error_converts_and_keeps_its_causes() {
        fn fails<E: fmt::Debug + fmt::Display + 'static>(error: CallError<E>) -> Result<()> {
            Err(error)?
        }
        assert_eq!(fails(CallError::Failed(chain())), Err(chain()));
        assert_eq!(fails(CallError::Failed(serde_json::json!({"a": 1}))), Err(Error::new(r#"{"a":1}"#)));
        let cancelled = CallError::<Error>::Cancelled { reason: "no stock".into() };
        assert_eq!(fails(cancelled), Err(Error::new("cancelled: no stock")));
    }
}
