//! A serializer around serde_json's that refuses values which JSON would silently change, or which could not be read.
//! All others pass byte for byte.
//!
//! A path is tracked only on failure. An error passes every level of the value on its way out, and each level records
//! its step: so the path is built from the inside out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;

use serde::ser::{self, Serialize, Serializer};

use super::encoded::Value;
use super::keys::Keys;
use super::path::PathStep;
use super::refusal::{Reason, Refusal};

/// The name under which `serde_json::value::RawValue` presents itself to serde_json's serializer.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// The number of lists and objects within each other that serde_json reads. It also bounds the stack that a recursive
/// type uses.
const MAX_DEPTH: u8 = 127;

/// The JSON text of a value.
pub(super) struct Written {
    pub(super) json: Vec<u8>,
    pub(super) keys: Keys,
    /// True if the value has a part that serde reads only in some places: an integer of 128 bits, a key that is not
    /// text, a raw value.
    pub(super) is_doubtful: bool,
}

/// Serialises to JSON text, or returns the refused part with its path.
pub(super) fn write(value: &dyn Value) -> Result<Written, Refusal> {
    let (trail, mut json) = (Trail::default(), Vec::with_capacity(128));
    let written = append(&mut json, value, &trail, 0);
    finish(json, written, trail)
}

/// Serialises an object of these values.
pub(super) fn write_object(keys: &[&'static str], values: &[&dyn Value]) -> Result<Written, Refusal> {
    let (trail, mut json) = (Trail::default(), Vec::with_capacity(128));
    let mut written = Ok(());
    json.push(b'{');
    for (at, (key, value)) in keys.iter().zip(values).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let before = io::Write::write_fmt(&mut json, format_args!("{comma}{}:", serde_json::Value::from(*key)));
        written = before.map_err(serde_json::Error::io).and_then(|()| append(&mut json, *value, &trail, 1));
        if written.is_err() {
            trail.passed(PathStep::Field((*key).to_owned()));
            break;
        }
    }
    json.push(b'}');
    finish(json, written, trail)
}

/// Appends a value that is within this number of lists and objects.
fn append(json: &mut Vec<u8>, value: &dyn Value, trail: &Trail, depth: u8) -> serde_json::Result<()> {
    trail.length.set(json.len());
    let mut inner = serde_json::Serializer::new(Output { json: std::mem::take(json), length: &trail.length });
    let serializer = Strict { inner: &mut inner, trail, under: Under::Other, depth };
    let written = value.write(Target { serializer });
    *json = inner.into_inner().json;
    written
}

fn finish(json: Vec<u8>, written: serde_json::Result<()>, trail: Trail) -> Result<Written, Refusal> {
    let Marks { reason, path, maps } = trail.marks.into_inner();
    match (written, reason) {
        (Ok(()), None) => {
            let keys = if trail.has_raw.get() { Keys::Unknown } else { Keys::of_maps(maps) };
            Ok(Written { json, keys, is_doubtful: trail.is_doubtful.get() })
        }
        // The value's own `Serialize` has swallowed the error, so the text is incomplete.
        (Ok(()), Some(reason)) => Err(Refusal { reason, path: Vec::new() }),
        (Err(_), Some(reason)) => Err(Refusal { reason, path }),
        (Err(error), None) => Err(Refusal { reason: Reason::of(&error), path }),
    }
}

/// The serializer to which a [`Value`] writes itself.
pub struct Target<'s, 't> {
    pub(super) serializer: Strict<'t, &'s mut serde_json::Serializer<Output<'t>>>,
}

/// The text, whose length the serializer can read while it is written.
pub(super) struct Output<'a> {
    json: Vec<u8>,
    length: &'a Cell<usize>,
}

// Inlined into the serializers that other crates instantiate: each token is a call.
impl io::Write for Output<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.json.extend_from_slice(bytes);
        self.length.set(self.json.len());
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records the reason of an error and, on its way out, its path. (The errors of serde carry only text.)
#[derive(Default)]
struct Trail {
    marks: RefCell<Marks>,
    /// The number of bytes that are written.
    length: Cell<usize>,
    is_doubtful: Cell<bool>,
    has_raw: Cell<bool>,
}

#[derive(Default)]
struct Marks {
    reason: Option<Reason>,
    path: Vec<PathStep>,
    /// The positions of the objects whose keys are user data.
    maps: Vec<usize>,
}

impl Trail {
    #[cold]
    fn refuse<T, E: ser::Error>(&self, reason: Reason) -> Result<T, E> {
        let mut marks = self.marks.borrow_mut();
        (marks.reason, marks.path) = (Some(reason), Vec::new());
        Err(E::custom("refused"))
    }

    fn add_map(&self, position: usize) {
        self.marks.borrow_mut().maps.push(position);
    }

    #[cold]
    fn passed(&self, step: PathStep) {
        self.marks.borrow_mut().path.push(step);
    }
}

/// The direct parent of the next value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Under {
    /// A `Some`, with only newtypes in between: the value must not write null.
    Some,
    /// A `Some`, and the value is the text of a `RawValue`.
    SomeRaw,
    /// A map, as a key.
    Key,
    /// Any other parent.
    Other,
}

/// The serializer.
pub(super) struct Strict<'a, S> {
    inner: S,
    trail: &'a Trail,
    under: Under,
    /// The number of lists and objects around the value.
    depth: u8,
}

/// A value that wraps any serializer in [`Strict`].
struct Checked<'a, T: ?Sized> {
    value: &'a T,
    trail: &'a Trail,
    under: Under,
    depth: u8,
}

impl<T: Serialize + ?Sized> Serialize for Checked<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let Self { value, trail, under, depth } = *self;
        value.serialize(Strict { inner, trail, under, depth })
    }
}

impl<'a, S: Serializer> Strict<'a, S> {
    fn null(self, write: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
        if self.under == Under::Some { self.trail.refuse(Reason::SomeNull) } else { write(self.inner) }
    }

    /// Returns the depth of a value within this number of further lists and objects.
    fn enter(&self, levels: u8) -> Result<u8, S::Error> {
        let depth = self.depth + levels;
        if depth > MAX_DEPTH { self.trail.refuse(Reason::TooDeep) } else { Ok(depth) }
    }

    /// Opens the struct that stands for a raw value. Its text is read without a limit of its depth.
    fn serialize_raw(self, name: &'static str, len: usize) -> Result<Open<'a, S::SerializeStruct>, S::Error> {
        self.trail.has_raw.set(true);
        self.trail.is_doubtful.set(true);
        let under = if self.under == Under::Some { Under::SomeRaw } else { Under::Other };
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Open { under, ..Self::open(self.trail, self.depth, inner) })
    }

    fn open<C>(trail: &'a Trail, depth: u8, inner: C) -> Open<'a, C> {
        Open { inner, trail, next: 0, variant: None, under: Under::Other, depth, map: None }
    }
}

/// Methods that forward their value unchanged.
macro_rules! pass {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            if self.under == Under::Key {
                self.trail.is_doubtful.set(true);
            }
            self.inner.$method(value)
        }
    )*};
}

/// Methods that forward their value unchanged, although serde cannot read it back from every place.
macro_rules! pass_doubtful {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.trail.is_doubtful.set(true);
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
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
    }

    pass_doubtful! {
        serialize_i128(i128);
        serialize_u128(u128);
    }

    fn serialize_char(self, value: char) -> Result<S::Ok, S::Error> {
        self.inner.serialize_char(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.enter(1)?;
        self.inner.serialize_bytes(value)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if self.under == Under::Key {
            self.trail.is_doubtful.set(true);
        }
        if value.is_finite() { self.inner.serialize_f32(value) } else { self.trail.refuse(Reason::NotFinite) }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if self.under == Under::Key {
            self.trail.is_doubtful.set(true);
        }
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
        let under = if self.under == Under::Key { Under::Key } else { Under::Some };
        self.inner.serialize_some(&Checked { value, trail: self.trail, under, depth: self.depth })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, trail, under, depth } = self;
        inner.serialize_newtype_struct(name, &Checked { value, trail, under, depth })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Checked { value, trail: self.trail, under: Under::Other, depth: self.enter(1)? };
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
            .inspect_err(|_| self.trail.passed(PathStep::Field(variant.to_owned())))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let depth = self.enter(1)?;
        Ok(Self::open(self.trail, depth, self.inner.serialize_seq(len)?))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let depth = self.enter(1)?;
        Ok(Self::open(self.trail, depth, self.inner.serialize_tuple(len)?))
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        let depth = self.enter(1)?;
        Ok(Self::open(self.trail, depth, self.inner.serialize_tuple_struct(name, len)?))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let depth = self.enter(2)?;
        let inner = self.inner.serialize_tuple_variant(name, index, variant, len)?;
        Ok(Open { variant: Some(variant), ..Self::open(self.trail, depth, inner) })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let (depth, position) = (self.enter(1)?, self.trail.length.get());
        let inner = self.inner.serialize_map(len)?;
        Ok(Open { map: Some(position), ..Self::open(self.trail, depth, inner) })
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        if name == RAW_VALUE {
            return self.serialize_raw(name, len);
        }
        let depth = self.enter(1)?;
        Ok(Self::open(self.trail, depth, self.inner.serialize_struct(name, len)?))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let depth = self.enter(2)?;
        let inner = self.inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Open { variant: Some(variant), ..Self::open(self.trail, depth, inner) })
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A list, a map or a struct that is not complete yet.
pub(super) struct Open<'a, C> {
    inner: C,
    trail: &'a Trail,
    /// The position of the next element or entry.
    next: usize,
    /// The enum variant whose content it is.
    variant: Option<&'static str>,
    /// The parent of its fields.
    under: Under,
    /// The depth of its fields.
    depth: u8,
    /// The position of a map that has shown no key of user data yet.
    map: Option<usize>,
}

impl<C> Open<'_, C> {
    /// Writes one part; if that fails, records its step.
    fn part<T: ?Sized, E>(
        &mut self,
        value: &T,
        write: impl FnOnce(&mut C, &Checked<'_, T>) -> Result<(), E>,
        step: impl FnOnce(usize) -> PathStep,
    ) -> Result<(), E> {
        let value = Checked { value, trail: self.trail, under: self.under, depth: self.depth };
        let position = self.next;
        self.next += 1;
        write(&mut self.inner, &value).inspect_err(|_| self.passed(step(position)))
    }

    /// Notes that the keys of this map are user data.
    fn has_user_keys(&mut self) {
        if let Some(position) = self.map.take() {
            self.trail.add_map(position);
        }
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
        self.has_user_keys();
        let key = Checked { value: key, trail: self.trail, under: Under::Key, depth: self.depth };
        self.inner.serialize_key(&key).inspect_err(|_| self.passed(PathStep::Entry(self.next)))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.part(value, |inner, value| inner.serialize_value(value), PathStep::Entry)
    }

    fn serialize_entry<K, V>(&mut self, key: &K, value: &V) -> Result<(), C::Error>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        if !is_field::<K>() {
            self.has_user_keys();
        }
        let step = |position| field_name(key).map_or(PathStep::Entry(position), PathStep::Field);
        let key = Checked { value: key, trail: self.trail, under: Under::Key, depth: self.depth };
        self.part(value, |inner, value| inner.serialize_entry(&key, value), step)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// Returns true if a key of this type is the name of a field: a struct that flattens another is written as a map.
///
/// Derived code then passes the field's name as a bare `str`, whereas the keys of maps are of an owned type or behind
/// one more reference. Where this guess fails, a path shows a position in place of a name.
fn is_field<K: ?Sized>() -> bool {
    std::any::type_name::<K>() == std::any::type_name::<str>()
}

/// Returns the key if it is the name of a field.
fn field_name<K: Serialize + ?Sized>(key: &K) -> Option<String> {
    if !is_field::<K>() {
        return None;
    }
    serde_json::to_value(key).ok()?.as_str().map(str::to_owned)
}
