//! The JSON text of a value, or the reason why there is none.

use serde::Serialize;

use super::refusal::Refusal;
use super::strict::{self, Target, Written};
use super::{Payload, PayloadError};

/// A value of any type, so that the code that writes it need not be generic.
pub trait Value {
    /// Writes the value.
    #[doc(hidden)]
    fn write(&self, target: Target<'_, '_>) -> serde_json::Result<()>;
}

impl<T: Serialize> Value for T {
    fn write(&self, target: Target<'_, '_>) -> serde_json::Result<()> {
        self.serialize(target.serializer)
    }
}

/// A value that has been serialised, or was refused.
pub struct Encoded(Result<Written, Refusal>);

impl Encoded {
    /// Serialises one value.
    pub fn of(value: &dyn Value) -> Self {
        Self(strict::write(value))
    }

    /// Serialises several inputs as an object.
    pub fn of_inputs(keys: &[&'static str], values: &[&dyn Value]) -> Self {
        Self(strict::write_object(keys, values))
    }

    /// Returns true if the value has a part that serde reads only in some places.
    pub(super) fn is_doubtful(&self) -> bool {
        self.0.as_ref().is_ok_and(|written| written.is_doubtful)
    }

    pub(super) fn into_payload(self, type_name: fn() -> &'static str) -> Result<Payload, PayloadError> {
        match self.0 {
            Ok(written) => Ok(written.into()),
            Err(refusal) => Err(PayloadError::refused(type_name(), &refusal)),
        }
    }
}
