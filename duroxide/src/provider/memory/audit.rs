//! The audit.

use super::state::State;
use super::*;

impl State {
    /// Writes an entry, unless it was written before.
    pub(super) fn record_action(&mut self, entry: AuditEntry) {
        if self.audit_ids.insert(entry.id) {
            self.last_audit += 1;
            self.audit.insert(self.last_audit, entry);
        }
    }

    pub(super) fn audit(&self, query: &AuditQuery, page: &Page) -> Result<AuditPage, ProviderError> {
        let before = page.after.as_ref().map_or(Ok(i64::MAX), |token| token.arrival("list the audit"))?;
        let matching = self.audit.range(..before).rev().filter(|(_, entry)| query.matches(entry));
        let found: Vec<_> = matching.take(page.limit.max(1).saturating_add(1)).collect();
        let mut answer = AuditPage { entries: Vec::new(), next: None, complete: true };
        for (number, entry) in found {
            if answer.entries.len() == page.limit.max(1) {
                answer.next = Some(PageToken::of_arrival(number + 1));
                break;
            }
            answer.entries.push(entry.clone());
        }
        Ok(answer)
    }

    pub(super) fn prune_audit(&mut self, before: Timestamp, limit: usize) -> u64 {
        let due =
            self.audit.iter().filter(|(_, entry)| entry.time < before).map(|(number, entry)| (entry.time, *number));
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due.truncate(limit);
        for entry in due.iter().filter_map(|(_, number)| self.audit.remove(number)) {
            self.audit_ids.remove(&entry.id);
        }
        due.len() as u64
    }
}
