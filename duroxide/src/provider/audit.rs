//! The audit: records of actions from outside.

use std::fmt;

use super::PageToken;
use crate::clock::Timestamp;
use crate::error::shortened_to;
use crate::id::{AuditId, BatchId, InstanceId};

/// A record of one action. It is written with the effect of the action, in one transaction, and outlives its instance.
///
/// [`AuditEntry::new`] cuts the texts that exceed their limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id. An entry that is written again, because the request was repeated, is written once.
    pub id: AuditId,
    /// The time of the action, by the clock of the client.
    pub time: Timestamp,
    /// The person or program that acted. At most 256 bytes.
    pub actor: String,
    /// The way of the request, such as `cli`, `web` or `api`. At most 64 bytes.
    pub via: Option<String>,
    /// The action: `start`, `raise`, `cancel`, `terminate`, `suspend`, `wake`, `resume`, `drop message`, `delete`, `erase`,
    /// `reset`, `fork`, `import`, `prune`, `bulk`, or one that [`Client::record_action`](crate::Client::record_action) names. At most 64 bytes.
    pub action: String,
    /// The instance that it concerned, if it concerned one.
    pub instance: Option<InstanceId>,
    /// The reason of the request; if it has none, that of the note. At most 4 KiB.
    pub reason: Option<String>,
    /// The subject of the action, for example the name of an event. At most 4 KiB.
    pub detail: Option<String>,
    /// The batch that it was part of.
    pub batch: Option<BatchId>,
}

impl AuditEntry {
    /// The limit of the actor, in bytes.
    pub(crate) const MAX_ACTOR: usize = 256;
    const MAX_WORD: usize = 64;
    const MAX_TEXT: usize = 4096;

    /// Makes an entry of an actor, without an instance and further texts.
    #[must_use]
    pub fn new(time: Timestamp, actor: impl AsRef<str>, action: impl AsRef<str>) -> Self {
        Self {
            id: AuditId::new(),
            time,
            actor: text(Self::MAX_ACTOR, actor.as_ref()),
            via: None,
            action: text(Self::MAX_WORD, action.as_ref()),
            instance: None,
            reason: None,
            detail: None,
            batch: None,
        }
    }

    /// Sets the way of the request.
    #[must_use]
    pub fn via(self, via: Option<&str>) -> Self {
        Self { via: via.map(|via| text(Self::MAX_WORD, via)), ..self }
    }

    /// Sets the instance.
    #[must_use]
    pub fn instance(self, instance: Option<&InstanceId>) -> Self {
        Self { instance: instance.cloned(), ..self }
    }

    /// Sets the reason.
    #[must_use]
    pub fn reason(self, reason: Option<&str>) -> Self {
        Self { reason: reason.map(|reason| text(Self::MAX_TEXT, reason)), ..self }
    }

    /// Sets the subject of the action.
    #[must_use]
    pub fn detail(self, detail: Option<&str>) -> Self {
        Self { detail: detail.map(|detail| text(Self::MAX_TEXT, detail)), ..self }
    }

    /// Sets the batch.
    #[must_use]
    pub fn batch(self, batch: Option<BatchId>) -> Self {
        Self { batch, ..self }
    }
}

/// Cuts a text to its limit. Not every database stores the character zero.
fn text(limit: usize, text: &str) -> String {
    shortened_to(limit, &text.replace('\0', "\u{fffd}"))
}

impl fmt::Display for AuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.time, self.actor, self.action)?;
        self.instance.iter().try_for_each(|instance| write!(f, " {instance}"))?;
        self.detail.iter().try_for_each(|detail| write!(f, " ({detail})"))?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// A filter of entries. All fields that are set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// The instance. It need not exist.
    pub instance: Option<InstanceId>,
    /// The actor.
    pub actor: Option<String>,
    /// The action.
    pub action: Option<String>,
    /// The batch.
    pub batch: Option<BatchId>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub before: Option<Timestamp>,
}

impl AuditQuery {
    /// Returns true if an entry matches.
    pub(crate) fn matches(&self, entry: &AuditEntry) -> bool {
        self.instance.as_ref().is_none_or(|instance| entry.instance.as_ref() == Some(instance))
            && self.actor.as_ref().is_none_or(|actor| entry.actor == *actor)
            && self.action.as_ref().is_none_or(|action| entry.action == *action)
            && self.batch.is_none_or(|batch| entry.batch == Some(batch))
            && self.from.is_none_or(|from| entry.time >= from)
            && self.before.is_none_or(|before| entry.time < before)
    }
}

/// A part of the audit, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// The token of the next page, unless all entries have been searched. The next page may be empty.
    pub next: Option<PageToken>,
    /// False if the time limit was reached before the page was full: `next` continues the search.
    pub complete: bool,
}
