//! The reason why a value is refused, and the path of the refused part.

use std::fmt;

use super::path::{PathStep, show};
use super::redact::redact_ser_error;
use super::strict::RAW_VALUE;

/// The reason of a refusal, and the path of the refused part.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// From the inside out.
    pub(super) path: Vec<PathStep>,
}

impl Refusal {
    /// Returns a path such as `order.items[3].price`; empty if the value as a whole is refused.
    pub(super) fn path(&self) -> String {
        // Serde presents a raw value, in which no other part can be, as a struct. The user's type is none.
        let steps = match self.path.split_first() {
            Some((PathStep::Field(name), outer)) if name == RAW_VALUE => outer,
            _ => &self.path,
        };
        show(steps.iter().rev())
    }

    /// Returns the reason, with the remedy.
    pub(super) fn reason(&self) -> String {
        self.reason.to_string()
    }
}

#[derive(Debug)]
pub(super) enum Reason {
    NotFinite,
    SomeNull,
    Key,
    TooDeep,
    /// The value's own `Serialize` failed, with this redacted message.
    Own(String),
}

impl Reason {
    /// Returns the reason of an error that this module did not raise.
    pub(super) fn of(error: &serde_json::Error) -> Self {
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
            Self::TooDeep => {
                "the value is nested more than 127 levels deep, and could not be read; store a flat form, such as a \
                 list whose elements refer to others by index"
            }
            Self::Own(message) => message,
        })
    }
}
