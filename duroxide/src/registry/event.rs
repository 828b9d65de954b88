//! The types of events: they are found by name, as functions are.

use std::any::TypeId;

use super::Place;

/// The description of an annotated event, collected from every linked crate. Made by the macro.
pub struct EventType {
    place: Place,
    name: &'static str,
    /// Returns the identity of the type. A function, since `TypeId::of` is not a constant.
    type_id: fn() -> TypeId,
}

inventory::collect!(EventType);

impl EventType {
    /// Describes an event.
    pub const fn new<E: 'static>(name: &'static str, place: Place) -> Self {
        Self { place, name, type_id: TypeId::of::<E> }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Describes the names that several of these types have.
    pub(super) fn duplicates<'e>(events: impl Iterator<Item = &'e Self>) -> Vec<String> {
        let mut events: Vec<_> = events.collect();
        events.sort_by_key(|event| (event.name, event.place.file, event.place.line));
        let same_name = events.chunk_by(|a, b| a.name == b.name);
        same_name.filter(|group| group.iter().any(|event| event.is_other_type(group[0]))).map(describe).collect()
    }

    fn is_other_type(&self, other: &Self) -> bool {
        (self.type_id)() != (other.type_id)()
    }
}

fn describe(group: &[&EventType]) -> String {
    let (name, number) = (group[0].name, group.len());
    let places: Vec<_> = group.iter().map(|event| event.place.to_string()).collect();
    format!(
        "event `{name}` is the name of {number} types: {}; rename all but one (`name = \"..\"`), or leave the name out of \
         this check (`Registry::except`) if no instance receives both",
        places.join(", ")
    )
}
