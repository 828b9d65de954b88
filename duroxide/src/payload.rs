//! User values as bytes. The only place where user values are serialised and parsed.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A user's value, as the JSON text that is stored: input, output, error or event. Cheap to clone.
///
/// Never printed by `Debug` or in errors, since it may hold secrets.
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

    /// Serialises a value.
    ///
    /// # Errors
    /// [`PayloadError`] when the value refuses, or when JSON would change it: a float that is not finite, a `Some` of
    /// something that writes `null`, a map whose keys are not strings, numbers or booleans.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        serde_json::to_vec(value).map(Self::from_json_bytes).map_err(|e| PayloadError::new::<T>("serialised", &e))
    }

    /// Parses the value.
    ///
    /// # Errors
    /// [`PayloadError`] with the type that was asked for and the place in the text; never with the text.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        serde_json::from_slice(&self.0).map_err(|e| PayloadError::new::<T>("read", &e))
    }

    /// Takes bytes that are JSON text already, such as those that a provider has stored.
    pub fn from_json_bytes(json: impl Into<Bytes>) -> Self {
        Self(json.into())
    }

    /// The JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The length of the JSON text in bytes.
    #[expect(clippy::len_without_is_empty, reason = "JSON text is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is JSON's `null`.
    pub fn is_null(&self) -> bool {
        self.0 == Self::NULL.0
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

/// A value that could not be serialised, or a payload that is not of the type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, thiserror::Error)]
#[error("a value of type {type_name} cannot be {action}: {reason}")]
pub struct PayloadError {
    type_name: String,
    action: String,
    reason: String,
}

impl PayloadError {
    fn new<T: ?Sized>(action: &str, reason: &dyn fmt::Display) -> Self {
        Self { type_name: std::any::type_name::<T>().to_owned(), action: action.to_owned(), reason: reason.to_string() }
    }
}
