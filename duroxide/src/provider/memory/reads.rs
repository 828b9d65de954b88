//! Reads of instances and histories, deleting and pruning.

use super::state::{Activity, Instance, State, has_code, serves};
use super::*;
use crate::error::ErrorCode;

/// The most events in a page of history.
const PAGE: usize = 1000;

impl State {
    pub(super) fn history(&self, execution: &ExecutionId, after: EventId) -> HistoryPage {
        let instance = self.instances.get(&execution.instance).filter(|i| i.identity() == execution.identity);
        let events = instance.and_then(|i| i.executions.get(&execution.number)).map_or(&[][..], |e| &e.events);
        let from = events.partition_point(|event| event.id <= after);
        let rest = events.get(from..).unwrap_or_default();
        HistoryPage { events: rest.iter().take(PAGE).cloned().collect(), more: rest.len() > PAGE }
    }

    pub(super) fn previews(&self, execution: &ExecutionId, query: &HistoryQuery) -> EventPreviews {
        let instance = self.instances.get(&execution.instance).filter(|i| i.identity() == execution.identity);
        let events = instance.and_then(|i| i.executions.get(&execution.number)).map_or(&[][..], |e| &e.events);
        let (limit, preview) = query.bounds();
        let (part, more) = match query.part {
            HistoryPart::After(after) => {
                let rest = &events[events.partition_point(|event| event.id <= after)..];
                (&rest[..rest.len().min(limit)], rest.len() > limit)
            }
            HistoryPart::Before(before) => {
                let rest = &events[..events.partition_point(|event| event.id < before)];
                (&rest[rest.len().saturating_sub(limit)..], rest.len() > limit)
            }
        };
        EventPreviews { events: part.iter().map(|row| EventPreview::of(row, preview)).collect(), more }
    }

    pub(super) fn message_previews(&self, id: &InstanceId) -> Option<MessagePreviews> {
        let instance = self.instances.get(id)?;
        let first = self.queued(instance).take(MessagePreviews::LIMIT);
        let messages = first.map(|message| MessagePreview::of(&message.row, message.stored_at)).collect();
        Some(MessagePreviews { messages, more: instance.messages.len() > MessagePreviews::LIMIT })
    }

    pub(super) fn record(&self, id: &InstanceId) -> Option<InstanceRecord> {
        let instance = self.instances.get(id)?;
        let mut record = self.brief(id, instance);
        if instance.status.is_finished() {
            record.outcome = instance.executions.get(&instance.execution).and_then(|e| e.events.last()).cloned();
        }
        record.unclaimed = self.unclaimed(id, instance);
        Some(record)
    }

    fn brief(&self, id: &InstanceId, instance: &Instance) -> InstanceRecord {
        let suspended = instance.status == InstanceStatus::Suspended;
        let paused = instance.paused.as_ref().map(|pause| pause.reason.clone());
        let parked = || self.parked(id).and_then(|activity| activity.rejected.clone());
        InstanceRecord {
            execution: instance.current(id),
            name: instance.name.clone(),
            version: instance.version.clone(),
            status: self.shown_status(id, instance),
            labels: instance.labels.clone(),
            parent: instance.parent.clone(),
            created_at: instance.created_at,
            updated_at: instance.updated_at,
            finished_at: instance.finished_at,
            last_event: instance.last_event(),
            outcome: None,
            waits: instance.waits.clone(),
            cause: instance.cause.clone(),
            suspension: if suspended { paused.or_else(|| instance.suspension.clone()) } else { parked() },
            owner: instance.owner,
            unclaimed: None,
            damaged: None,
        }
    }

    /// Returns the first parked activity of an instance.
    fn parked(&self, id: &InstanceId) -> Option<&Activity> {
        let mut activities = self.activities_of(id, None).into_iter();
        activities.find_map(|id| self.activities.get(&id).filter(|activity| activity.parked))
    }

    /// Returns the status of an instance as it is shown: an instance with a parked activity is suspended, although its
    /// code may continue.
    pub(super) fn shown_status(&self, id: &InstanceId, instance: &Instance) -> InstanceStatus {
        match instance.status {
            InstanceStatus::Running if self.parked(id).is_some() => InstanceStatus::Suspended,
            status => status,
        }
    }

    fn unclaimed(&self, id: &InstanceId, instance: &Instance) -> Option<Unclaimed> {
        let handlers = || self.nodes.values().filter(|node| !node.dead).map(|node| &node.info.handlers);
        let version = instance.version.as_ref();
        let since = |ready: Ready| Some(ready.since(self.latest)).filter(|since| *since <= self.latest);
        let itself = instance.ready.and_then(since);
        let itself = itself.filter(|_| !handlers().any(|h| has_code(&h.orchestrations, &instance.name, version)));
        let itself = itself.map(|since| {
            let version = version.map(|v| format!(" {v}")).unwrap_or_default();
            Unclaimed { what: format!("orchestration {}{version}", instance.name), since }
        });
        let activities = self.activities_of(id, None).into_iter().filter_map(|activity| {
            let a = self.activities.get(&activity)?;
            let waits = a.owner.is_none() && !a.parked;
            let served =
                handlers().any(|h| h.activities.contains(&a.name) && serves(h.tags.as_deref(), a.tag.as_ref()));
            let tag = a.tag.as_ref().map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            let what = || format!("activity {}{tag}", a.name);
            let since = since(a.ready).filter(|_| waits && !served)?;
            Some(Unclaimed { what: what(), since })
        });
        itself.into_iter().chain(activities).min_by_key(|unclaimed| unclaimed.since)
    }

    /// Lists instances. There is no time limit: a search takes as long as copying the page.
    pub(super) fn list(&self, filter: &Filter, page: &Page) -> Result<InstancePage, ProviderError> {
        let before = page.after.as_ref().map_or(Ok(i64::MAX), |token| token.arrival("list instances"))?;
        let mut behind: Vec<_> = self.instances.iter().filter(|(_, instance)| instance.arrival < before).collect();
        behind.sort_unstable_by_key(|(_, instance)| std::cmp::Reverse(instance.arrival));
        let mut answer = InstancePage { instances: Vec::new(), next: None, searched: 0, complete: true };
        let mut last = before;
        for (id, instance) in behind {
            if self.matches(filter, id, instance) {
                if answer.instances.len() >= page.limit.max(1) {
                    answer.next = Some(PageToken::of_arrival(last));
                    break;
                }
                answer.instances.push(self.brief(id, instance));
                last = instance.arrival;
            }
            answer.searched += 1;
        }
        Ok(answer)
    }

    pub(super) fn activity_records(&self, id: &InstanceId) -> Option<InstanceActivities> {
        let instance = self.instances.get(id)?;
        let open = self.activities_of(id, None).into_iter().filter_map(|id| {
            let activity = self.activities.get(&id)?;
            Some(ActivityRecord {
                execution: id.execution.number,
                call: id.call,
                name: activity.name.clone(),
                tag: activity.tag.clone(),
                attempt: activity.attempt,
                ready: activity.owner.is_none().then_some(activity.ready),
                owner: activity.owner,
                parked: activity.parked,
                cause: activity.cause.clone(),
            })
        });
        let failed: Vec<_> = instance.executions.values().flat_map(|e| e.attempts.values()).cloned().collect();
        let skipped = failed.len().saturating_sub(InstanceActivities::LIMIT);
        let failed = failed.into_iter().skip(skipped).collect();
        Some(InstanceActivities { open: open.take(InstanceActivities::LIMIT).collect(), failed })
    }

    pub(super) fn delete(&mut self, id: &InstanceId) -> Result<(), DeleteError> {
        let status = self.instances.get(id).ok_or(DeleteError::NotFound)?.status;
        if !status.is_finished() {
            return Err(DeleteError::Live(status));
        }
        self.remove_instance(id);
        Ok(())
    }

    pub(super) fn prune(&mut self, filter: &Filter, before: Timestamp, batch: &Page) -> Result<Pruned, ProviderError> {
        let after = batch.after.as_ref().map_or(Ok(0), |token| token.arrival("prune instances"))?;
        let mut due = Vec::new();
        for (id, instance) in &self.instances {
            if instance.arrival > after && self.matches(filter, id, instance) {
                let due_of = self.prunable(id, instance, before);
                due.extend(due_of.into_iter().map(|execution| (instance.arrival, execution, id.clone())));
            }
        }
        due.sort_unstable();
        let limit = batch.limit.max(1);
        // The next batch begins with the instance of the first remaining entry.
        let next = due.get(limit).map(|(arrival, ..)| PageToken::of_arrival(arrival - 1));
        due.truncate(limit);
        let mut executions = 0;
        for (_, execution, id) in due {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            match execution {
                Some(number) => executions += u64::from(instance.executions.remove(&number).is_some()),
                None => {
                    executions += instance.executions.len() as u64;
                    self.remove_instance(&id);
                }
            }
        }
        Ok(Pruned { executions, next })
    }

    /// Returns the prunable parts of an instance: `None` is the whole instance, a number one of its executions.
    fn prunable(&self, id: &InstanceId, instance: &Instance, before: Timestamp) -> Vec<Option<u64>> {
        if instance.finished_at.is_some_and(|at| at < before) {
            return vec![None];
        }
        let continued =
            instance.executions.iter().filter(|(_, execution)| execution.continued_at.is_some_and(|at| at < before));
        // A detached activity still needs the event that scheduled it.
        let unused = |number: &u64| self.activities_of(id, Some(*number)).is_empty();
        continued.map(|(number, _)| *number).filter(unused).map(Some).collect()
    }
}

impl State {
    pub(super) fn matches(&self, filter: &Filter, id: &InstanceId, instance: &Instance) -> bool {
        let has_status = || filter.statuses.contains(&self.shown_status(id, instance));
        (filter.statuses.is_empty() || has_status())
            && matches_otherwise(filter, instance)
            && filter.cause.as_ref().is_none_or(|cause| self.has_cause(id, instance, cause))
            && filter.suspension.is_none_or(|code| self.is_suspended_by(id, instance, code))
            && filter.id_prefix.as_ref().is_none_or(|prefix| id.as_str().starts_with(prefix.as_str()))
            && filter.id_contains.as_ref().is_none_or(|text| id.as_str().contains(text.as_str()))
    }
}

impl State {
    fn activities_with_cause(&self, id: &InstanceId) -> impl Iterator<Item = (&Activity, &str)> {
        let activities = self.activities_of(id, None).into_iter().filter_map(|id| self.activities.get(&id));
        activities.filter_map(|activity| Some((activity, activity.cause.as_deref()?)))
    }

    fn has_cause(&self, id: &InstanceId, instance: &Instance, cause: &str) -> bool {
        instance.cause.as_deref() == Some(cause) || self.activities_with_cause(id).any(|(_, of)| of == cause)
    }

    /// Returns the cause for which an instance is shown as suspended.
    pub(super) fn cause_of_suspension<'a>(&'a self, id: &InstanceId, instance: &'a Instance) -> Option<&'a str> {
        match instance.status {
            InstanceStatus::Suspended => instance.cause.as_deref(),
            InstanceStatus::Running => self.parked(id).and_then(|activity| activity.cause.as_deref()),
            _ => None,
        }
    }

    fn is_suspended_by(&self, id: &InstanceId, instance: &Instance, code: ErrorCode) -> bool {
        let (first, end) = Filter::causes_of(code);
        let is_of = |cause: &str| *first <= *cause && *cause < *end;
        match instance.status {
            InstanceStatus::Suspended => instance.cause.as_deref().is_some_and(is_of),
            InstanceStatus::Running => self.activities_with_cause(id).any(|(a, cause)| a.parked && is_of(cause)),
            _ => false,
        }
    }

    /// Returns the cause of an instance, or else that of its first activity that has one.
    pub(super) fn shown_cause(&self, id: &InstanceId, instance: &Instance) -> Option<String> {
        let of_activity = || self.activities_with_cause(id).next().map(|(_, cause)| cause.to_owned());
        instance.cause.clone().or_else(of_activity)
    }
}

/// Returns true if an instance matches a filter, except for its statuses.
fn matches_otherwise(filter: &Filter, instance: &Instance) -> bool {
    filter.name.as_ref().is_none_or(|name| *name == instance.name)
        && filter.labels.iter().all(|(key, value)| instance.labels.get(key) == Some(value))
        && filter.created_from.is_none_or(|from| instance.created_at >= from)
        && filter.created_before.is_none_or(|before| instance.created_at < before)
        && filter.updated_from.is_none_or(|from| instance.updated_at >= from)
        && filter.updated_before.is_none_or(|before| instance.updated_at < before)
        && filter.waits.as_ref().is_none_or(|waits| instance.waits.as_ref().is_some_and(|w| waits.matches(&w.text)))
        && filter.version.as_ref().is_none_or(|version| instance.version.as_ref() == Some(version))
        && filter.node.is_none_or(|node| instance.owner == Some(node))
        && filter.finished_from.is_none_or(|from| instance.finished_at.is_some_and(|at| at >= from))
        && filter.finished_before.is_none_or(|before| instance.finished_at.is_some_and(|at| at < before))
        && filter
            .parent
            .as_ref()
            .is_none_or(|parent| instance.parent.as_ref().is_some_and(|p| p.execution.instance == *parent))
        && filter
            .parent_identity
            .is_none_or(|of| instance.parent.as_ref().is_some_and(|p| p.execution.identity.matches(of)))
}
