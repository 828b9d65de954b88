//! The audit: records of the actions of clients with a note.

use super::{Client, ClientError};
use crate::clock::Timestamp;
use crate::history::Input;
use crate::id::InstanceId;
use crate::provider::{AuditEntry, AuditPage, AuditQuery, Page, Submission};

/// An action, as the audit names it.
#[derive(Clone, Copy, Default)]
pub(super) struct Act<'a> {
    pub(super) name: &'static str,
    pub(super) reason: Option<&'a str>,
    pub(super) detail: Option<&'a str>,
}

impl<'a> Act<'a> {
    pub(super) fn named(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Returns the action of a message from a client.
    pub(super) fn of(input: &'a Input) -> Self {
        match input {
            Input::CancelRequested { reason, .. } => Self { reason: Some(reason), ..Self::named("cancel") },
            Input::TerminateRequested { reason, .. } => Self { reason: Some(reason), ..Self::named("terminate") },
            Input::EventRaised { name, .. } => Self { detail: Some(name), ..Self::named("raise") },
            Input::EventDropped { .. } => Self::named("drop message"),
            _ => Self::named("send"),
        }
    }
}

impl Client {
    /// Makes the entry of an action, if this client has a note.
    pub(super) fn entry(&self, act: Act<'_>, instance: Option<&InstanceId>) -> Option<AuditEntry> {
        let note = self.note.as_ref()?;
        let entry = AuditEntry::new(self.now(), &note.actor, act.name).via(note.via.as_deref()).instance(instance);
        let reason = act.reason.or(note.reason.as_deref());
        Some(entry.reason(reason).detail(act.detail).batch(note.batch))
    }

    /// Adds the entry of an action to its submission, if this client has a note.
    pub(super) fn audited(&self, act: Act<'_>, submission: Submission) -> Submission {
        match self.entry(act, Some(submission.instance())) {
            Some(entry) => Submission::Audited { entry: Box::new(entry), submission: Box::new(submission) },
            None => submission,
        }
    }

    /// Lists the actions that clients with a note have carried out ([`with_note`](Self::with_note)), newest first. Entries
    /// outlive their instances, until [`prune_audit`](Self::prune_audit) removes them.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::provider::{AuditQuery, MemoryProvider, Page};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let client = Client::new(MemoryProvider::new());
    /// let query = AuditQuery { actor: Some("ana".to_owned()), from: Some(client.now() - days(7)), ..AuditQuery::default() };
    /// let mut page = client.audit(&query, 100).await?;
    /// while let Some(token) = page.next {
    ///     page.entries.iter().for_each(|entry| println!("{entry}"));
    ///     page = client.audit(&query, Page::new(100).after(token)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, it does not keep an audit
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)), or the token is not one of this storage.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn audit(&self, query: &AuditQuery, page: impl Into<Page>) -> Result<AuditPage, ClientError> {
        let (admin, page) = (self.admin()?, page.into());
        self.ask(|| admin.audit(query, &page)).await
    }

    /// Writes an entry of the program to the audit, for an action that this library does not carry out: a login, an export,
    /// a request that was refused. Does nothing if this client has no note.
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, it does not keep an audit
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)), or the runtime of this client has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped, the entry may have been written or not.
    pub async fn record_action(
        &self,
        action: &str,
        instance: Option<&InstanceId>,
        detail: &str,
    ) -> Result<(), ClientError> {
        self.check_running(instance)?;
        let admin = self.admin()?;
        let act = Act { detail: (!detail.is_empty()).then_some(detail), ..Act::default() };
        let Some(entry) = self.entry(act, instance) else { return Ok(()) };
        let entry = AuditEntry { action: AuditEntry::new(entry.time, "", action).action, ..entry };
        self.ask(|| admin.record(std::slice::from_ref(&entry))).await
    }

    /// Writes the entry of an action that was carried out, if this client has a note.
    pub(super) async fn record_done(&self, act: Act<'_>) -> Result<(), ClientError> {
        let Some(entry) = self.entry(act, None) else { return Ok(()) };
        let admin = self.admin()?;
        self.ask(|| admin.record(std::slice::from_ref(&entry))).await
    }

    /// Removes the entries of the audit that are older than a time, in batches of 1,000. Returns their number.
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, it does not keep an audit
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)), or the runtime of this client has stopped.
    /// Entries that were removed before the error stay removed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the removal stops after the current batch.
    pub async fn prune_audit(&self, before: impl Into<Timestamp>) -> Result<u64, ClientError> {
        const BATCH: usize = 1000;
        self.check_running(None)?;
        let (admin, before) = (self.admin()?, before.into());
        let mut removed = 0;
        loop {
            let some = self.ask(|| admin.prune_audit(before, BATCH)).await?;
            removed += some;
            if some < BATCH as u64 {
                return Ok(removed);
            }
        }
    }
}
