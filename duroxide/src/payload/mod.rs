//! Stored values: [`Payload`], the JSON text of a user's value, and the error of a value that cannot be stored or read.
//!
//! A provider needs it to store values, and a program to read those of a [history](crate::history). Only this module
//! serialises and parses user values. The page [Errors] names the values that are refused.
//!
//! [Errors]: https://github.com/duroxide/duroxide/blob/main/docs/errors.md#dur0080-payload-refused

pub mod base64;
mod bytes;
mod diff;
pub(crate) mod encoded;
pub(crate) mod erased;
pub(crate) mod inputs;
mod json_eq;
mod keys;
mod path;
mod read_back;
pub(crate) mod read_error;
mod redact;
mod refusal;
mod storable;
mod strict;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::bytes::Bytes;
#[cfg(feature = "testing")]
pub(crate) use self::read_back::compare_values_read_back;
pub(crate) use self::storable::{Codec, encode_input, read_input};
pub use self::storable::{Input, Storable};

use self::diff::Differences;
use self::encoded::Encoded;
use self::keys::Keys;
use self::read_error::ReadError;
use self::refusal::Refusal;

/// A user's value as the JSON text that is stored: an input, an output, an error or an event. Cheap to clone.
///
/// `Debug` and errors never show the text, since it may hold secrets; `Display` does.
///
/// ```
/// use duroxide::Payload;
/// let payload = Payload::encode(&("a", 1)).unwrap();
/// assert_eq!(payload.as_bytes(), br#"["a",1]"#);
/// assert_eq!(payload.decode::<(String, u8)>().unwrap(), ("a".to_owned(), 1));
/// assert!(Payload::encode(&f64::NAN).is_err(), "JSON has no NaN");
/// ```
#[derive(Clone)]
pub struct Payload {
    json: ::bytes::Bytes,
    keys: Keys,
}

impl Payload {
    /// The payload of `()`: JSON's `null`.
    pub const NULL: Self = Self { json: ::bytes::Bytes::from_static(b"null"), keys: Keys::Unknown };

    /// Serialises a value, to the same text as `serde_json::to_vec`.
    ///
    /// # Errors
    /// [`PayloadError`] if the `Serialize` of the value fails, or if JSON would change the value: a float that is not
    /// finite, a `Some` of a value that writes `null`, a map whose keys are not strings, numbers, booleans, characters
    /// or enums without fields; or if the value is nested more than 127 levels deep, and so could not be read.
    ///
    /// ```
    /// use duroxide::Payload;
    /// let lost = Payload::encode(&[Some(Some(1)), Some(None)]).unwrap_err();
    /// assert_eq!(lost.path(), "[1]");
    /// ```
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        Encoded::of(&value).into_payload(std::any::type_name::<T>)
    }

    /// Serialises a value that is read as the same type. Also refuses a value that this type could not read.
    pub(crate) fn encode_readable<T: Storable>(value: &T) -> Result<Self, PayloadError> {
        encode_input(value)
    }

    /// Parses the value.
    ///
    /// # Errors
    /// [`PayloadError`] with the requested type, the kind of the found value and its place in the text; never with the
    /// text itself.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        match self.read() {
            Ok(value) => Ok(value),
            Err(error) => Err(error.of_type(std::any::type_name::<T>())),
        }
    }

    /// Parses the value. The error does not name the type.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        match serde_json::from_slice(&self.json) {
            Ok(value) => Ok(value),
            Err(error) => Err(ReadError::new(&error, self, 0)),
        }
    }

    /// Wraps bytes that are JSON text already, such as those that a provider has stored.
    pub fn from_json_bytes(json: impl Into<::bytes::Bytes>) -> Self {
        Self { json: json.into(), keys: Keys::Unknown }
    }

    /// Returns the JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// Returns the JSON text; an empty text if it is not UTF-8, as no JSON is.
    fn text(&self) -> &str {
        std::str::from_utf8(&self.json).unwrap_or_default()
    }

    /// Returns the length of the JSON text in bytes.
    #[expect(clippy::len_without_is_empty, reason = "JSON text is never empty")]
    pub fn len(&self) -> usize {
        self.json.len()
    }

    /// Returns true if this is JSON's `null`.
    pub fn is_null(&self) -> bool {
        *self == Self::NULL
    }

    /// Returns true if both are the same JSON value, so that code which passes one may replay a history that holds the
    /// other.
    ///
    /// The order of an object's members does not matter, and a member that is `null` counts as absent, at any depth: so
    /// a type may get an optional field while instances run. Numbers are compared by value, to the last digit: 1 equals
    /// 1.0, and integers beyond 64 bits differ if one digit does.
    pub(crate) fn json_eq(&self, other: &Self) -> bool {
        json_eq::json_eq(&self.json, &other.json)
    }

    /// Describes how this value differs from the recorded one: the paths and kinds of the first differences, without
    /// the values. `None` if they are the same JSON value.
    pub(crate) fn difference(&self, recorded: &Self) -> Option<String> {
        let differences = || Differences::of(recorded.text().trim(), self.text(), &self.keys).to_string();
        (!self.json_eq(recorded)).then(differences)
    }
}

impl From<strict::Written> for Payload {
    fn from(written: strict::Written) -> Self {
        Self { json: written.json.into(), keys: written.keys }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Payload {}

impl Default for Payload {
    fn default() -> Self {
        Self::NULL
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.json.len())
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
    fn refused(type_name: &str, refusal: &Refusal) -> Self {
        Self {
            type_name: type_name.to_owned(),
            action: Action::Serialised,
            path: refusal.path(),
            reason: refusal.reason(),
        }
    }

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
