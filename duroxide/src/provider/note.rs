//! The note with which a client acts for a person or a program.

use crate::error::shortened_to;

/// The author of an action from outside, and the way by which it came.
///
/// ```
/// use duroxide::client::Note;
///
/// let note = Note::by("ana").via("cli").because("the gateway is down");
/// assert_eq!(note.actor, "ana");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// The person or program that acts. At most 256 bytes.
    pub actor: String,
    /// The way by which the action came, such as the name of a tool. At most 256 bytes.
    pub via: Option<String>,
    /// The reason, if the action itself has none. At most 4 KiB.
    pub reason: Option<String>,
    /// The batch that the action belongs to. At most 256 bytes.
    pub batch: Option<String>,
}

impl Note {
    const MAX_NAME: usize = 256;
    const MAX_REASON: usize = 4096;

    /// Returns a note of an actor. A text that is longer than its limit is cut, and says so.
    pub fn by(actor: impl AsRef<str>) -> Self {
        Self { actor: shortened_to(Self::MAX_NAME, actor.as_ref()), via: None, reason: None, batch: None }
    }

    /// Sets the way by which the action came.
    #[must_use]
    pub fn via(self, via: impl AsRef<str>) -> Self {
        Self { via: Some(shortened_to(Self::MAX_NAME, via.as_ref())), ..self }
    }

    /// Sets the reason.
    #[must_use]
    pub fn because(self, reason: impl AsRef<str>) -> Self {
        Self { reason: Some(shortened_to(Self::MAX_REASON, reason.as_ref())), ..self }
    }

    /// Sets the batch that the action belongs to.
    #[must_use]
    pub fn in_batch(self, batch: impl AsRef<str>) -> Self {
        Self { batch: Some(shortened_to(Self::MAX_NAME, batch.as_ref())), ..self }
    }
}
