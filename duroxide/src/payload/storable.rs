//! The types whose values are stored.

use std::any::type_name;

use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

use super::encoded::{Encoded, Value};
use super::inputs::InputReader;
use super::read_error::ReadError;
use super::{Payload, PayloadError};

/// A type whose values are stored and read back: an input, an output or an error. Every owned type with both traits of
/// serde is one.
///
/// ```
/// use duroxide::payload::Storable;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Order {
///     cents: u64,
/// }
///
/// fn is_storable<T: Storable>() {}
/// is_storable::<Option<Order>>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored: it needs `serde::Serialize` and `serde::Deserialize`",
    label = "this type is stored, and read back",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to it, or to the type of yours that it contains",
    note = "for a type of another crate, look for a feature `serde` of that crate"
)]
// The traits of serde are not supertraits: the compiler would report each of them, and not this trait.
pub trait Storable: Sized + 'static {
    /// Reads a value.
    #[doc(hidden)]
    fn __read(payload: &Payload) -> Result<Self, ReadError>;

    /// Reads the next one of several inputs.
    #[doc(hidden)]
    fn __read_next(reader: &mut InputReader<'_>) -> Result<Self, ReadError>;

    /// Returns the value for a writer that is not generic.
    #[doc(hidden)]
    fn __value(&self) -> &dyn Value;

    /// Writes the value, with a serializer of any format.
    #[doc(hidden)]
    fn __serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;

    /// Reads a value, with a deserializer of any format.
    #[doc(hidden)]
    fn __deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Storable for T {
    fn __read(payload: &Payload) -> Result<Self, ReadError> {
        payload.read()
    }

    fn __read_next(reader: &mut InputReader<'_>) -> Result<Self, ReadError> {
        reader.next_input()
    }

    fn __value(&self) -> &dyn Value {
        self
    }

    fn __serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.serialize(to)
    }

    fn __deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from)
    }
}

/// The input of a function: a [`Storable`] value, or several of them, for which `#[activity]` and `#[orchestration]`
/// implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored: it needs `serde::Serialize` and `serde::Deserialize`",
    label = "this type is stored, and read back",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to it, or to the type of yours that it contains",
    note = "for a type of another crate, look for a feature `serde` of that crate"
)]
pub trait Input: Sized + 'static {
    /// Writes the input.
    #[doc(hidden)]
    fn __write(&self) -> Encoded;

    /// Reads an input.
    #[doc(hidden)]
    fn __read(payload: &Payload) -> Result<Self, ReadError>;
}

#[diagnostic::do_not_recommend]
impl<T: Storable> Input for T {
    fn __write(&self) -> Encoded {
        Encoded::of(self.__value())
    }

    fn __read(payload: &Payload) -> Result<Self, ReadError> {
        Storable::__read(payload)
    }
}

/// Reads a value.
pub(crate) fn read_input<I: Input>(payload: &Payload) -> Result<I, PayloadError> {
    match I::__read(payload) {
        Ok(value) => Ok(value),
        Err(error) => Err(error.of_type(type_name::<I>())),
    }
}

/// Writes an input that is read as the same type. Refuses a value that this type could not read.
pub(crate) fn encode_input<I: Input>(input: &I) -> Result<Payload, PayloadError> {
    Codec::of::<I>().readable(input.__write())
}

fn read_and_write<I: Input>(payload: &Payload) -> Result<Encoded, ReadError> {
    match I::__read(payload) {
        Ok(input) => Ok(input.__write()),
        Err(error) => Err(error),
    }
}

/// The functions of a type by which its values are checked before they are stored. Code that takes it need not be
/// generic.
#[derive(Clone, Copy)]
pub(crate) struct Codec {
    type_name: fn() -> &'static str,
    /// Reads a value and writes it again.
    again: fn(&Payload) -> Result<Encoded, ReadError>,
}

impl Codec {
    pub(crate) const fn of<I: Input>() -> Self {
        Self { type_name: type_name::<I>, again: read_and_write::<I> }
    }

    /// Returns the payload of a value, without a check.
    pub(crate) fn unchecked(self, encoded: Encoded) -> Result<Payload, PayloadError> {
        encoded.into_payload(self.type_name)
    }

    /// Returns the payload of a value. Refuses a value that the type could not read.
    pub(crate) fn readable(self, encoded: Encoded) -> Result<Payload, PayloadError> {
        let is_doubtful = encoded.is_doubtful();
        let payload = encoded.into_payload(self.type_name)?;
        super::read_back::check(&payload, is_doubtful, self)?;
        Ok(payload)
    }

    pub(super) fn type_name(self) -> &'static str {
        (self.type_name)()
    }

    /// Reads the value and writes it again.
    pub(super) fn again(self, payload: &Payload) -> Result<Encoded, ReadError> {
        (self.again)(payload)
    }
}
