//! Stores the bytes of a field as base64 text, for `#[serde(with = "duroxide::payload::base64")]`.
//!
//! The field may have any type that can be made of a `Vec<u8>` and viewed as bytes, such as `Vec<u8>`, `bytes::Bytes`
//! and `serde_bytes::ByteBuf`. For a single parameter or a result, use [`Bytes`](crate::Bytes). The page [Values] compares
//! both with a `Vec<u8>`.
//!
//! [Values]: https://github.com/duroxide/duroxide/blob/main/docs/ORCHESTRATION-GUIDE.md#values
//!
//! ```
//! use duroxide::Payload;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Document {
//!     name: String,
//!     #[serde(with = "duroxide::payload::base64")]
//!     content: Vec<u8>,
//! }
//!
//! let document = Document { name: "a".to_owned(), content: vec![1, 2, 3] };
//! let payload = Payload::encode(&document).unwrap();
//! assert_eq!(payload.as_bytes(), br#"{"name":"a","content":"AQID"}"#);
//! assert_eq!(payload.decode::<Document>().unwrap(), document);
//! ```

use std::fmt;

use ::base64::Engine;
use ::base64::display::Base64Display;
use ::base64::prelude::BASE64_STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

/// Writes bytes as base64 text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(bytes: &(impl AsRef<[u8]> + ?Sized), to: S) -> Result<S::Ok, S::Error> {
    if to.is_human_readable() {
        to.collect_str(&Base64Display::new(bytes.as_ref(), &BASE64_STANDARD))
    } else {
        to.serialize_bytes(bytes.as_ref())
    }
}

/// Reads bytes from base64 text, or from a list of numbers.
///
/// # Errors
/// Those of the deserializer, and an error for text that is not base64.
pub fn deserialize<'de, D: Deserializer<'de>, T: From<Vec<u8>>>(from: D) -> Result<T, D::Error> {
    let bytes = if from.is_human_readable() { from.deserialize_any(Read) } else { from.deserialize_byte_buf(Read) };
    bytes.map(T::from)
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes as base64 text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        // The error of the library quotes a byte of the text.
        BASE64_STANDARD.decode(text).map_err(|_| E::invalid_value(serde::de::Unexpected::Other("string"), &self))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        // The length is that of the sender, so it is not trusted.
        let mut bytes = Vec::with_capacity(list.size_hint().unwrap_or(0).min(64 * 1024));
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
