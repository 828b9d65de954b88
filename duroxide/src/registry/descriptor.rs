//! Descriptions of annotated functions: the macros submit one for each, and
//! [`Registry::discover`](super::Registry::discover) collects those of all linked crates.

use std::fmt;
use std::panic::Location;

use super::Entry;
use crate::activity::{ActivityFn, BlockingActivityFn};
use crate::orchestration::OrchestrationFn;

/// The source location of an annotated function, or of a registration by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The package.
    pub crate_name: &'static str,
    /// The module.
    pub module: &'static str,
    /// The file.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
    /// The first line of its documentation.
    pub doc: &'static str,
}

impl Place {
    /// Returns the place of the caller, for a registration by hand.
    #[track_caller]
    pub(super) fn caller() -> Self {
        let caller = Location::caller();
        Self { crate_name: "", module: "", file: caller.file(), line: caller.line(), doc: "" }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The type of an annotated function with a body; [`Registry::with`](super::Registry::with) takes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an annotated function with a body",
    note = "annotate it with `#[activity]` or `#[orchestration]`; what implements the traits by hand is added with \
            `with_activity`, `with_blocking_activity` or `with_orchestration`"
)]
pub trait Annotated: 'static {
    /// The description of the function.
    const DESCRIPTOR: Descriptor;
}

/// The description of an annotated function, collected from every linked crate. Made by the macros.
pub struct Descriptor {
    pub(super) place: Place,
    make: fn(Place) -> Entry,
}

inventory::collect!(Descriptor);

impl Descriptor {
    /// Describes an async activity.
    pub const fn activity<A: ActivityFn>(place: Place) -> Self {
        Self { place, make: Entry::activity::<A> }
    }

    /// Describes a blocking activity.
    pub const fn blocking_activity<A: BlockingActivityFn>(place: Place) -> Self {
        Self { place, make: Entry::blocking_activity::<A> }
    }

    /// Describes an orchestration.
    pub const fn orchestration<O: OrchestrationFn>(place: Place) -> Self {
        Self { place, make: Entry::orchestration::<O> }
    }

    pub(super) fn entry(&self) -> Entry {
        (self.make)(self.place)
    }
}
