//! A serializer around serde_json's that refuses values which JSON would silently change. All others pass byte for
//! byte.
//!
//! A successful serialisation tracks nothing. An error passes every level of the value on its way out, and each level
//! records its step: so the path is built from the inside out.

use std::cell::RefCell;
use std::fmt;

use serde::ser::{self, Serialize, Serializer};

use super::redact::redact_ser_error;

/// The name under which `serde_json::value::RawValue` presents itself to serde_json's serializer.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Serialises to JSON text, or returns the refused part with its path.
pub(super) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Refusal> {
    let mut json = Vec::with_capacity(128);
    let trail = Trail::default();
    let inner = &mut serde_json::Serializer::new(&mut json);
    let written = value.serialize(Strict { inner, trail: &trail, under: Under::Other });
    let Marks { reason, path } = trail.0.into_inner();
    match (written, reason) {
        (Ok(()), None) => Ok(json),
        // The value's own `Serialize` has swallowed the error, so the text is incomplete.
        (Ok(()), Some(reason)) => Err(Refusal { reason, path: Vec::new() }),
        (Err(_), Some(reason)) => Err(Refusal { reason, path }),
        (Err(error), None) => Err(Refusal { reason: Reason::of(&error), path }),
    }
}

/// The reason of a refusal, and the path of the refused part.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    /// From the inside out.
    path: Vec<PathStep>,
}

impl Refusal {
    /// Returns a path such as `order.items[3].price`; empty if the value as a whole is refused.
    pub(super) fn path(&self) -> String {
        self.path.iter().rev().fold(String::new(), |path, step| match step {
            // Serde presents a raw value as a struct, which the user's type is not.
            PathStep::Field(name) if name == RAW_VALUE => path,
            PathStep::Field(name) if path.is_empty() => name.clone(),
            PathStep::Field(name) => format!("{path}.{name}"),
            PathStep::Index(index) => format!("{path}[{index}]"),
            PathStep::Entry(index) => format!("{path}{{{index}}}"),
        })
    }

    /// Returns the reason, with the remedy.
    pub(super) fn reason(&self) -> String {
        self.reason.to_string()
    }
}

#[derive(Debug)]
enum Reason {
    NotFinite,
    SomeNull,
    Key,
    /// The value's own `Serialize` failed, with this redacted message.
    Own(String),
}

impl Reason {
    /// Returns the reason of an error that this module did not raise.
    fn of(error: &serde_json::Error) -> Self {
        // When writing into memory, serde_json itself refuses only keys; every other error is raised by the value.
        if error.is_syntax() { Self::Key } else { Self::Own(redact_ser_error(error)) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "NaN and infinite floats would turn into null; store an `Option`, or text",
            Self::SomeNull => {
                "`Some` of a value that is null in JSON would come back as `None`; store an enum, or a struct that has \
                 the value as a field"
            }
            Self::Key => {
                "keys of a JSON object are text; use strings, numbers, booleans, characters or enums without fields as \
                 keys, or store a list of pairs"
            }
            Self::Own(message) => message,
        })
    }
}

/// One step of a path.
#[derive(Debug)]
enum PathStep {
    /// A field or a variant: its name is part of the source code.
    Field(String),
    /// An element of a list.
    Index(usize),
    /// An entry of a map, by position: its key is user data and may be a secret.
    Entry(usize),
}

/// Records the reason of an error and, on its way out, its path. (The errors of serde carry only text.)
#[derive(Default)]
struct Trail(RefCell<Marks>);

#[derive(Default)]
struct Marks {
    reason: Option<Reason>,
    path: Vec<PathStep>,
}

impl Trail {
    #[cold]
    fn refuse<T, E: ser::Error>(&self, reason: Reason) -> Result<T, E> {
        *self.0.borrow_mut() = Marks { reason: Some(reason), path: Vec::new() };
        Err(E::custom("refused"))
    }

    #[cold]
    fn passed(&self, step: PathStep) {
        self.0.borrow_mut().path.push(step);
    }
}

/// The direct parent of the next value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Under {
    /// A `Some`, with only newtypes in between: the value must not write null.
    Some,
    /// A `Some`, and the value is the text of a `RawValue`.
    SomeRaw,
    /// Any other parent.
    Other,
}

/// The serializer.
struct Strict<'a, S> {
    inner: S,
    trail: &'a Trail,
    under: Under,
}

/// A value that wraps any serializer in [`Strict`].
struct Checked<'a, T: ?Sized> {
    value: &'a T,
    trail: &'a Trail,
    under: Under,
}

impl<T: Serialize + ?Sized> Serialize for Checked<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner, trail: self.trail, under: self.under })
    }
}

impl<'a, S: Serializer> Strict<'a, S> {
    fn null(self, write: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
        if self.under == Under::Some { self.trail.refuse(Reason::SomeNull) } else { write(self.inner) }
    }

    fn open<C>(trail: &'a Trail, inner: C) -> Open<'a, C> {
        Open { inner, trail, next: 0, variant: None, under: Under::Other }
    }
}

/// Methods that forward their value unchanged.
macro_rules! pass {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Strict<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Open<'a, S::SerializeSeq>;
    type SerializeTuple = Open<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Open<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Open<'a, S::SerializeTupleVariant>;
    type SerializeMap = Open<'a, S::SerializeMap>;
    type SerializeStruct = Open<'a, S::SerializeStruct>;
    type SerializeStructVariant = Open<'a, S::SerializeStructVariant>;

    pass! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_bytes(&[u8]);
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { self.trail.refuse(Reason::NotFinite) }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { self.trail.refuse(Reason::NotFinite) }
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        if self.under == Under::SomeRaw && value.trim() == "null" {
            return self.trail.refuse(Reason::SomeNull);
        }
        self.inner.serialize_str(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_none)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_unit)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null(|inner| inner.serialize_unit_struct(name))
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Checked { value, trail: self.trail, under: Under::Some })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Checked { value, trail: self.trail, under: self.under })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Checked { value, trail: self.trail, under: Under::Other };
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
            .inspect_err(|_| self.trail.passed(PathStep::Field(variant.to_owned())))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Self::open(self.trail, self.inner.serialize_seq(len)?))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Self::open(self.trail, self.inner.serialize_tuple(len)?))
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Self::open(self.trail, self.inner.serialize_tuple_struct(name, len)?))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let inner = self.inner.serialize_tuple_variant(name, index, variant, len)?;
        Ok(Open { variant: Some(variant), ..Self::open(self.trail, inner) })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Self::open(self.trail, self.inner.serialize_map(len)?))
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let raw = name == RAW_VALUE && self.under == Under::Some;
        let under = if raw { Under::SomeRaw } else { Under::Other };
        Ok(Open { under, ..Self::open(self.trail, self.inner.serialize_struct(name, len)?) })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let inner = self.inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Open { variant: Some(variant), ..Self::open(self.trail, inner) })
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A list, a map or a struct that is not complete yet.
struct Open<'a, C> {
    inner: C,
    trail: &'a Trail,
    /// The position of the next element or entry.
    next: usize,
    /// The enum variant whose content it is.
    variant: Option<&'static str>,
    /// The parent of its fields.
    under: Under,
}

impl<C> Open<'_, C> {
    /// Writes one part; if that fails, records its step.
    fn part<T: ?Sized, E>(
        &mut self,
        value: &T,
        write: impl FnOnce(&mut C, &Checked<'_, T>) -> Result<(), E>,
        step: impl FnOnce(usize) -> PathStep,
    ) -> Result<(), E> {
        let value = Checked { value, trail: self.trail, under: self.under };
        let position = self.next;
        self.next += 1;
        write(&mut self.inner, &value).inspect_err(|_| self.passed(step(position)))
    }

    #[cold]
    fn passed(&self, step: PathStep) {
        self.trail.passed(step);
        if let Some(variant) = self.variant {
            self.trail.passed(PathStep::Field(variant.to_owned()));
        }
    }
}

/// Implements the list traits, which differ in the name of their one method.
macro_rules! list {
    ($($kind:ident :: $method:ident;)*) => {$(
        impl<C: ser::$kind> ser::$kind for Open<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.part(value, |inner, value| inner.$method(value), PathStep::Index)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

list! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

/// Implements the struct traits.
macro_rules! fields {
    ($($kind:ident;)*) => {$(
        impl<C: ser::$kind> ser::$kind for Open<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.part(value, |inner, value| inner.serialize_field(name, value), |_| PathStep::Field(name.to_owned()))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<C: ser::SerializeMap> ser::SerializeMap for Open<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(key).inspect_err(|_| self.passed(PathStep::Entry(self.next)))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.part(value, |inner, value| inner.serialize_value(value), PathStep::Entry)
    }

    fn serialize_entry<K, V>(&mut self, key: &K, value: &V) -> Result<(), C::Error>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        let step = |position| field_name(key).map_or(PathStep::Entry(position), PathStep::Field);
        self.part(value, |inner, value| inner.serialize_entry(key, value), step)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// Returns the key if it is the name of a field: a struct that flattens another is written as a map.
///
/// Derived code then passes the field's name as a bare `str`, whereas the keys of maps are of an owned type or behind
/// one more reference. Where this guess fails, a path shows a position in place of a name.
fn field_name<K: Serialize + ?Sized>(key: &K) -> Option<String> {
    if std::any::type_name::<K>() != std::any::type_name::<str>() {
        return None;
    }
    serde_json::to_value(key).ok()?.as_str().map(str::to_owned)
}
