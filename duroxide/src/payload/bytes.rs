//! Bytes as text: JSON has no bytes, and a list of numbers takes up to four bytes for each.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are stored as base64 text: 4 bytes of JSON for 3 bytes. Cheap to clone.
///
/// A `Vec<u8>` is stored as a list of numbers, which is up to three times as long. To keep the type of a field, use
/// [`base64`](crate::payload::base64).
///
/// `Debug` shows only the length, since the content may be a secret.
///
/// ```
/// use duroxide::{Bytes, Payload};
///
/// let image = Bytes::from(vec![0xFF, 0xD8, 0xFF]);
/// let payload = Payload::encode(&image).unwrap();
/// assert_eq!(payload.as_bytes(), br#""/9j/""#);
/// assert_eq!(payload.decode::<Bytes>().unwrap()[1], 0xD8);
/// // A list of numbers, as a `Vec<u8>` has written it before, is read as well.
/// let list = Payload::encode(&image.to_vec()).unwrap();
/// assert_eq!(list.decode::<Bytes>().unwrap(), image);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Bytes(bytes::Bytes);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes::Bytes::copy_from_slice(bytes))
    }
}

impl From<bytes::Bytes> for Bytes {
    fn from(bytes: bytes::Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for bytes::Bytes {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0.into()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        super::base64::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::base64::deserialize::<D, Vec<u8>>(from).map(Self::from)
    }
}
