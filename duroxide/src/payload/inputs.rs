//! Several inputs of one function: an object keyed by the names of the parameters.
//!
//! A derive for each function would take most of the time in which a user's program compiles. So one function reads the
//! object of any inputs, as raw parts, and each part is read as its type, which many functions share.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Payload;
use super::read_error::ReadError;

/// Reads inputs in the order of their keys.
pub struct InputReader<'p> {
    payload: &'p Payload,
    keys: &'static [&'static str],
    parts: Vec<Option<&'p RawValue>>,
    next: usize,
}

impl<'p> InputReader<'p> {
    /// Splits the payload, an object, into its parts. Unknown keys are ignored.
    ///
    /// # Errors
    /// [`ReadError`] if the payload is not an object, or has a key twice.
    pub fn new(payload: &'p Payload, keys: &'static [&'static str]) -> Result<Self, ReadError> {
        let mut deserializer = serde_json::Deserializer::from_slice(payload.as_bytes());
        let parts = Parts(keys).deserialize(&mut deserializer).and_then(|parts| deserializer.end().map(|()| parts));
        match parts {
            Ok(parts) => Ok(Self { payload, keys, parts, next: 0 }),
            Err(error) => Err(ReadError::new(&error, payload, 0)),
        }
    }

    /// Reads the next input. One that is absent is read as `null`: so a function may get an optional input while
    /// instances run.
    pub(super) fn next_input<T: DeserializeOwned>(&mut self) -> Result<T, ReadError> {
        let part = self.next_part();
        match serde_json::from_slice(part.map_or(b"null", |part| part.get().as_bytes())) {
            Ok(input) => Ok(input),
            Err(error) => Err(self.error(&error, part)),
        }
    }

    fn next_part(&mut self) -> Option<&'p RawValue> {
        self.next += 1;
        self.parts.get(self.next - 1).copied().flatten()
    }

    /// Converts the error of the part that was read last.
    fn error(&self, error: &serde_json::Error, part: Option<&RawValue>) -> ReadError {
        match part {
            Some(part) => {
                let position = part.get().as_ptr().addr() - self.payload.as_bytes().as_ptr().addr();
                ReadError::new(error, self.payload, position)
            }
            None => {
                let key = self.keys.get(self.next - 1).copied().unwrap_or_default();
                ReadError::new(&serde_json::Error::missing_field(key), self.payload, 0)
            }
        }
    }
}

/// Reads the parts of an object with these keys.
struct Parts(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Parts {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Parts {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parts = vec![None; self.0.len()];
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.0.iter().position(|key| *key == name) {
                Some(at) if parts[at].is_some() => return Err(A::Error::duplicate_field(self.0[at])),
                Some(at) => parts[at] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(parts)
    }
}
