//! The note with which a client acts for a person or a program.

use crate::error::shortened_to;

/// The author of actions from outside.
///
/// ```
/// use duroxide::client::Note;
///
/// assert_eq!(Note::by("ana").actor, "ana");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// The person or program that acts. At most 256 bytes.
    pub actor: String,
}

impl Note {
    const MAX_ACTOR: usize = 256;

    /// Returns a note of an actor. A name that is longer than the limit is cut, and says so.
    pub fn by(actor: impl AsRef<str>) -> Self {
        Self { actor: shortened_to(Self::MAX_ACTOR, actor.as_ref()) }
    }
}
