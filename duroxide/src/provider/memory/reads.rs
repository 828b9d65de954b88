//! Reads for people, deleting and pruning.

use std::cmp::Reverse;

use super::state::{Instance, State, has_code, serves};
use super::*;

/// Events on a page of history.
const PAGE: usize = 1000;

impl State {
    pub(super) fn history(&self, execution: &ExecutionId, after: EventId) -> HistoryPage {
        let instance = self.instances.get(&execution.instance).filter(|i| i.identity().matches(execution.identity));
        let events = instance.and_then(|i| i.executions.get(&execution.number)).map_or(&[][..], |e| &e.events);
        let from = events.partition_point(|event| event.id <= after);
        let rest = events.get(from..).unwrap_or_default();
        HistoryPage { events: rest.iter().take(PAGE).cloned().collect(), more: rest.len() > PAGE }
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
        let mut parked = self.activities_of(id, None).into_iter();
        let parked = || parked.find_map(|activity| self.activities.get(&activity)?.parked.clone());
        InstanceRecord {
            execution: instance.current(id),
            name: instance.name.clone(),
            version: instance.version.clone(),
            status: instance.status,
            labels: instance.labels.clone(),
            parent: instance.parent.clone(),
            created_at: instance.created_at,
            updated_at: instance.updated_at,
            finished_at: instance.finished_at,
            last_event: instance.last_event(),
            outcome: None,
            suspension: instance.suspension.clone().or_else(parked),
            owner: instance.owner,
            unclaimed: None,
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
            let waits = a.owner.is_none() && a.parked.is_none();
            let served =
                handlers().any(|h| h.activities.contains(&a.name) && serves(h.tags.as_deref(), a.tag.as_ref()));
            let tag = a.tag.as_ref().map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            let what = || format!("activity {}{tag}", a.name);
            let since = since(a.ready).filter(|_| waits && !served)?;
            Some(Unclaimed { what: what(), since })
        });
        itself.into_iter().chain(activities).min_by_key(|unclaimed| unclaimed.since)
    }

    pub(super) fn list(&self, filter: &Filter, page: &Page) -> InstancePage {
        let mut found: Vec<_> = self.instances.iter().filter(|(_, instance)| matches(filter, instance)).collect();
        found.sort_unstable_by_key(|(id, instance)| (Reverse(instance.created_at), *id));
        let behind = |(id, instance): &(&InstanceId, &Instance)| {
            let after = page.after.as_ref();
            after.is_none_or(|a| (Reverse(instance.created_at), *id) > (Reverse(a.created_at), &a.instance))
        };
        let rest: Vec<_> = found.into_iter().filter(behind).take(page.limit.saturating_add(1)).collect();
        let shown = rest.get(..page.limit).unwrap_or(&rest);
        let last = shown.last().filter(|_| rest.len() > shown.len());
        InstancePage {
            instances: shown.iter().map(|(id, instance)| self.brief(id, instance)).collect(),
            next: last.map(|(id, i)| PageToken { created_at: i.created_at, instance: (*id).clone() }),
        }
    }

    pub(super) fn delete(&mut self, id: &InstanceId) -> Result<(), DeleteError> {
        let status = self.instances.get(id).ok_or(DeleteError::NotFound)?.status;
        if !status.is_finished() {
            return Err(DeleteError::Live(status));
        }
        self.remove_instance(id);
        Ok(())
    }

    pub(super) fn prune(&mut self, filter: &Filter, before: Timestamp, limit: usize) -> u64 {
        let matching = || self.instances.iter().filter(|(_, instance)| matches(filter, instance));
        let mut finished: Vec<_> =
            matching().filter_map(|(id, i)| Some((i.finished_at.filter(|at| *at < before)?, id.clone()))).collect();
        finished.sort_unstable();
        finished.truncate(limit);
        let mut removed = 0;
        for (_, id) in finished {
            removed += self.instances.get(&id).map_or(0, |instance| instance.executions.len() as u64);
            self.remove_instance(&id);
        }
        let mut continued = Vec::new();
        for (id, instance) in self.instances.iter().filter(|(_, instance)| matches(filter, instance)) {
            for (number, execution) in &instance.executions {
                let at = execution.continued_at.filter(|at| *at < before);
                // A detached activity still needs the event that scheduled it.
                let needed = || !self.activities_of(id, Some(*number)).is_empty();
                continued.extend(at.filter(|_| !needed()).map(|at| (at, id.clone(), *number)));
            }
        }
        continued.sort_unstable();
        continued.truncate(limit);
        for (_, id, number) in continued {
            let instance = self.instances.get_mut(&id);
            removed += u64::from(instance.is_some_and(|instance| instance.executions.remove(&number).is_some()));
        }
        removed
    }
}

fn matches(filter: &Filter, instance: &Instance) -> bool {
    filter.name.as_ref().is_none_or(|name| *name == instance.name)
        && (filter.statuses.is_empty() || filter.statuses.contains(&instance.status))
        && filter.labels.iter().all(|(key, value)| instance.labels.get(key) == Some(value))
        && filter.created_from.is_none_or(|from| instance.created_at >= from)
        && filter.created_before.is_none_or(|before| instance.created_at < before)
        && filter
            .parent
            .as_ref()
            .is_none_or(|parent| instance.parent.as_ref().is_some_and(|p| p.execution.instance == *parent))
}
