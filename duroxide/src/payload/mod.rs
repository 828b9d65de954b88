//! Stored values: [`Payload`], the JSON text of a user's value, and the error of a value that cannot be stored or read.
//!
//! A provider needs it to store values, and a program to read those of a [history](crate::history). Only this module
//! serialises and parses user values. The page [Errors] names the values that are refused.
//!
//! [Errors]: https://github.com/duroxide/duroxide/blob/main/docs/errors.md#dur0080-payload-refused

mod json_eq;
mod redact;
mod strict;

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A user's value as the JSON text that is stored: an input, an output, an error or an event. Cheap to clone.
///
/// `Debug` and errors never show the text, since it may hold secrets.
///
/// ```
/// use duroxide::Payload;
/// let payload = Payload::encode(&("a", 1)).unwrap();
/// assert_eq!(payload.as_bytes(), br#"["a",1]"#);
/// assert_eq!(payload.decode::<(String, u8)>().unwrap(), ("a".to_owned(), 1));
/// assert!(Payload::encode(&f64::NAN).is_err(), "JSON has no NaN");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Bytes);

impl Payload {
    /// The payload of `()`: JSON's `null`.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Serialises a value, to the same text as `serde_json::to_vec`.
    ///
    /// # Errors
    /// [`PayloadError`] if the `Serialize` of the value fails, or if JSON would change the value: a float that is not
    /// finite, a `Some` of a value that writes `null`, a map whose keys are not strings, numbers, booleans, characters
    /// or enums without fields.
    ///
    /// ```
    /// use duroxide::Payload;
    /// let lost = Payload::encode(&[Some(Some(1)), Some(None)]).unwrap_err();
    /// assert_eq!(lost.path(), "[1]");
    /// ```
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        strict::to_vec(value).map(Self::from_json_bytes).map_err(|refusal| PayloadError {
            type_name: std::any::type_name::<T>().to_owned(),
            action: Action::Serialised,
            path: refusal.path(),
            reason: refusal.reason(),
        })
    }

    /// Parses the value.
    ///
    /// # Errors
    /// [`PayloadError`] with the requested type, the kind of the found value and its place in the text; never with the
    /// text itself.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        serde_json::from_slice(&self.0).map_err(|error| PayloadError {
            type_name: std::any::type_name::<T>().to_owned(),
            action: Action::Read,
            path: String::new(),
            reason: redact::redact_de_error(&error),
        })
    }

    /// Wraps bytes that are JSON text already, such as those that a provider has stored.
    pub fn from_json_bytes(json: impl Into<Bytes>) -> Self {
        Self(json.into())
    }

    /// Returns the JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the length of the JSON text in bytes.
    #[expect(clippy::len_without_is_empty, reason = "JSON text is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if this is JSON's `null`.
    pub fn is_null(&self) -> bool {
        self.0 == Self::NULL.0
    }

    /// Returns true if both are the same JSON value, so that code which passes one may replay a history that holds the
    /// other.
    ///
    /// The order of an object's members does not matter, and a member that is `null` counts as absent, at any depth: so
    /// a type may get an optional field while instances run. Numbers are compared by value, to the last digit: 1 equals
    /// 1.0, and integers beyond 64 bits differ if one digit does.
    pub(crate) fn json_eq(&self, other: &Self) -> bool {
        json_eq::json_eq(&self.0, &other.0)
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::NULL
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// A value that cannot be serialised, or a payload that is not of the requested type.
///
/// It names types and fields and never quotes the value, which may hold secrets. For the same reason its
/// [`path`](PayloadError::path) shows the entries of a map by position, as in `prices{0}`, and the message of a type's
/// own `Serialize` or `Deserialize` is redacted.
///
/// ```
/// use duroxide::Payload;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Order { items: Vec<Item> }
/// #[derive(Serialize)]
/// struct Item { price: f64 }
///
/// let order = Order { items: vec![Item { price: 1.5 }, Item { price: f64::NAN }] };
/// let error = Payload::encode(&order).unwrap_err();
/// assert_eq!(error.path(), "items[1].price");
/// assert!(error.to_string().contains("`items[1].price`: NaN and infinite floats would turn into null"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadError {
    type_name: String,
    action: Action,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    path: String,
    reason: String,
}

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Action {
    Serialised,
    Read,
}

impl PayloadError {
    /// Returns the name of the type that was serialised or read.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// Returns the path of the refused part, such as `items[3].price`; empty for the value as a whole, or if the reason
    /// gives a place in the text.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the reason, with the remedy where there is one.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_name, path, reason, .. } = self;
        match self.action {
            Action::Serialised => write!(f, "a value of type {type_name} cannot be serialised: ")?,
            Action::Read => write!(f, "a payload cannot be read as {type_name}: ")?,
        }
        if path.is_empty() { f.write_str(reason) } else { write!(f, "`{path}`: {reason}") }
    }
}

impl std::error::Error for PayloadError {}
