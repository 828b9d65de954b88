//! The origin of the keys in a JSON text: names in the source code, or user data, which no error may show.

use std::sync::Arc;

use super::path::PathStep;

/// The objects of a text whose keys are user data.
#[derive(Clone)]
pub(super) enum Keys {
    /// Any object may be a map.
    Unknown,
    /// All objects are structs and enums.
    Names,
    /// The objects that begin at these positions are maps, all others structs and enums.
    Maps(Arc<Vec<usize>>),
}

impl Keys {
    /// Returns the origin, for the positions of all maps.
    pub(super) fn of_maps(positions: Vec<usize>) -> Self {
        if positions.is_empty() { Self::Names } else { Self::Maps(Arc::new(positions)) }
    }

    /// Returns true if the keys of the object at this position are names.
    pub(super) fn are_names(&self, position: usize) -> bool {
        match self {
            Self::Unknown => false,
            Self::Names => true,
            Self::Maps(positions) => !positions.contains(&position),
        }
    }

    /// Returns the step from an object to one of its members.
    pub(super) fn step(&self, object: usize, key: &str, index: usize) -> PathStep {
        if self.are_names(object) { PathStep::Field(key.to_owned()) } else { PathStep::Entry(index) }
    }
}
