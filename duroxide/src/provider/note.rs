//! The note with which a client acts for a person or a program.

use super::AuditEntry;
use crate::error::shortened_to;
use crate::id::BatchId;

/// The author of actions from outside, and their reason: see [`Client::with_note`](crate::Client::with_note).
///
/// ```
/// use duroxide::client::Note;
///
/// let note = Note::by("ana").reason("the gateway is being moved").via("cli");
/// assert_eq!((note.actor.as_str(), note.via.as_deref()), ("ana", Some("cli")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// The person or program that acts. At most 256 bytes.
    pub actor: String,
    /// The reason of the actions that have none of their own. At most 4 KiB.
    pub reason: Option<String>,
    /// The way of the requests, such as `cli`, `web` or `api`. At most 64 bytes.
    pub via: Option<String>,
    /// The batch that the actions are part of.
    pub batch: Option<BatchId>,
}

impl Note {
    /// Returns a note of an actor. A text that is longer than its limit is cut, and says so.
    pub fn by(actor: impl AsRef<str>) -> Self {
        let actor = shortened_to(AuditEntry::MAX_ACTOR, actor.as_ref());
        Self { actor, reason: None, via: None, batch: None }
    }

    /// Sets the reason.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Sets the way of the requests.
    #[must_use]
    pub fn via(self, via: impl Into<String>) -> Self {
        Self { via: Some(via.into()), ..self }
    }

    /// Sets the batch.
    #[must_use]
    pub fn batch(self, batch: BatchId) -> Self {
        Self { batch: Some(batch), ..self }
    }
}
