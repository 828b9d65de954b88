//! Erases the values of finished instances.

use std::sync::Arc;

use super::audit::Act;
use super::{BulkAction, BulkCall, BulkReport, Client, ClientError, Status};
use crate::error::ErrorCode;
use crate::id::{AuditId, BatchId, EventId, ExecutionId, InstanceId};
use crate::payload::Payload;
use crate::provider::{Filter, Note, Page, RedactRequest, Submission};

/// The actor of an erasure by a client without a note.
const UNNAMED: &str = "unknown";

impl Client {
    /// Prepares the erasure of the values of all finished instances that match a filter: [`Handle::erase`](super::Handle::erase)
    /// on each, with the preview, the rate and the token of a [bulk action](Client::bulk). Live instances are skipped and
    /// counted: repeat the call once they have finished.
    ///
    /// A child does not inherit the labels of its parent. The children of an instance match
    /// [`Filter::parent`]; [`Handle::erase_tree`](super::Handle::erase_tree) follows them to the end.
    ///
    /// Each instance has a receipt of its own; all entries of the audit name [`BulkReport::batch`](super::BulkReport::batch).
    ///
    /// ```
    /// use duroxide::prelude::*;
    /// use duroxide::provider::Filter;
    ///
    /// async fn forget(client: &Client, customer: &str) -> duroxide::Result<()> {
    ///     let labels = [("customer".to_owned(), customer.to_owned())].into();
    ///     let erasure = client.erase(Filter { labels, ..Filter::default() });
    ///     for group in erasure.preview().await?.groups.groups {
    ///         println!("{:?}: {}", group.key, group.count);
    ///     }
    ///     let report = erasure.run().await?;
    ///     println!("batch {}: {} erased, {} still live", report.batch, report.done, report.skipped);
    ///     Ok(())
    /// }
    /// ```
    pub fn erase(&self, filter: Filter) -> BulkCall {
        self.bulk(filter, BulkAction::Erase)
    }

    /// Returns the client with a note, since an erasure is always recorded.
    pub(super) fn noted(&self) -> Self {
        let note = self.note.clone().unwrap_or_else(|| Arc::new(Note::by(UNNAMED)));
        Self { note: Some(note), ..self.clone() }
    }

    /// Erases the descendants of an instance, and then the instance itself.
    pub(super) async fn erase_tree(&self, id: &InstanceId) -> Result<BulkReport, ClientError> {
        let mut client = self.noted();
        let batch = client.note.as_ref().and_then(|note| note.batch).unwrap_or_else(BatchId::new);
        client.note = client.note.map(|note| Arc::new((*note).clone().batch(batch)));
        let root = client.record(id).await?.execution;
        let mut report = BulkReport::new(batch, None);
        let mut parents = vec![root.clone()];
        while let Some(parent) = parents.pop() {
            let children = Filter { parent: Some(parent.instance.clone()), ..Filter::default() };
            let mut page = Page::new(BulkCall::PAGE as usize);
            loop {
                let list = client.list(&children, page.clone()).await?;
                // Another instance may have had the id of the parent.
                let is_child = |status: &Status| {
                    status.parent.as_ref().is_some_and(|known| known.execution.identity == parent.identity)
                };
                let found: Vec<_> = list.instances.into_iter().filter(is_child).collect();
                parents.extend(found.iter().map(|status| status.execution.clone()));
                BulkAction::Erase.apply_to(&client, found, &mut report).await;
                page.after = list.next;
                if report.stopped_by.is_some() {
                    return Ok(report);
                }
                if page.after.is_none() {
                    break;
                }
            }
        }
        let status = client.handle(root.instance.as_str()).status().await?;
        BulkAction::Erase.apply_to(&client, vec![status], &mut report).await;
        Ok(report)
    }

    /// Erases the values of an instance, its last execution first: without its values, no reset can copy the others.
    pub(super) async fn erase_instance(&self, id: &InstanceId) -> Result<AuditId, ClientError> {
        self.check_running(Some(id))?;
        self.admin()?;
        let client = self.noted();
        let record = client.record(id).await?;
        if !record.status.is_finished() {
            return Err(ClientError::live(id, record.status));
        }
        let Some(entry) = client.entry(Act::named("erase"), Some(id)) else {
            unreachable!("the client has a note");
        };
        let mut written = false;
        for number in (1..=record.execution.number).rev() {
            let execution = ExecutionId { number, ..record.execution.clone() };
            let request = RedactRequest { execution, receipt: entry.id };
            // The entry is written once, with the first effect.
            let submission = Submission::Audited {
                entry: Box::new(entry.clone()),
                submission: Box::new(Submission::Redact(request)),
            };
            written |= client.submit(id, submission).await?.written;
        }
        if written {
            tracing::info!(instance = %id, receipt = %entry.id, "values of the instance erased");
            return Ok(entry.id);
        }
        // It was erased before, or the answers to this request were lost: then the tombstones name its entry.
        let page = client.ask(|| client.provider.history(&record.execution, EventId(0))).await?;
        Ok(page.events.first().and_then(|event| event.payload.receipt()).unwrap_or(entry.id))
    }
}

/// Refuses to read an erased value.
pub(super) fn check_erased(instance: &InstanceId, value: &Payload) -> Result<(), ClientError> {
    let Some(receipt) = value.receipt() else { return Ok(()) };
    Err(ClientError::refused(instance, ErrorCode::Erased, format!("its values were erased; the receipt is {receipt}")))
}
