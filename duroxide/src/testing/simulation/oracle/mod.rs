//! The checks of the stored state at the end of a run.

mod activities;
mod children;
mod continue_as_new;
mod histories;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::Record;
use super::world::World;
use crate::history::{Decision, EventKind, HistoryEvent, Started};
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::provider::{Admin, Filter, InstanceRecord, Page, Provider, ProviderError};
use crate::registry::{Kind, Registry};
use crate::replay::Leftovers;

/// A stored execution, which has ended.
struct Ended {
    events: Vec<HistoryEvent>,
    /// The unread inputs that a replay of its history leaves.
    leftovers: Leftovers,
}

/// The stored state.
#[derive(Default)]
struct Stored {
    instances: BTreeMap<InstanceId, InstanceRecord>,
    executions: BTreeMap<ExecutionId, Ended>,
}

/// Checks the stored state against the record of the run and the guarantees of the library.
pub(super) async fn check(world: &Arc<World>, registry: &Registry) -> Result<Vec<String>, ProviderError> {
    let mut found = Vec::new();
    let instances = all_instances(world).await?;
    let mut stored = Stored { instances, executions: BTreeMap::new() };
    every_instance_is_there_and_ended(&world.record(), &stored, &mut found);
    nothing_is_left(world, &mut found);
    for id in world.storage.visible().all_executions() {
        let rows = all_events(world, &id).await?;
        if world.record().histories.get(&id).is_none_or(|committed| *committed != rows) {
            found.push(format!("{id}: its history differs from the committed events"));
        }
        let events: Result<Vec<HistoryEvent>, _> = rows.into_iter().map(HistoryEvent::try_from).collect();
        match events.map_err(|e| e.to_string()).and_then(|events| ended(registry, &id, events)) {
            Ok(ended) => drop(stored.executions.insert(id, ended)),
            Err(reason) => found.push(format!("{id}: its history does not replay: {reason}")),
        }
    }
    histories::check(&stored, &world.record(), &mut found);
    continue_as_new::check(&stored, &world.record(), &mut found);
    children::check(&stored, &world.record(), &mut found);
    activities::check(&stored, &world.record(), &mut found);
    Ok(found)
}

/// Returns all instances, with their outcomes.
pub(super) async fn all_instances(world: &World) -> Result<BTreeMap<InstanceId, InstanceRecord>, ProviderError> {
    let mut instances = BTreeMap::new();
    let mut page = Page::new(1_000);
    loop {
        let listed = world.storage.visible().list(&Filter::default(), &page).await?;
        for record in listed.instances {
            let id = record.execution.instance;
            instances.extend(world.storage.visible().instance(&id).await?.map(|record| (id, record)));
        }
        page.after = listed.next;
        if page.after.is_none() {
            return Ok(instances);
        }
    }
}

async fn all_events(world: &World, id: &ExecutionId) -> Result<Vec<crate::provider::EventRow>, ProviderError> {
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map_or(EventId(0), |row: &crate::provider::EventRow| row.id);
        let page = world.storage.visible().history(id, after).await?;
        rows.extend(page.events);
        if !page.more {
            return Ok(rows);
        }
    }
}

/// Replays the history of an execution that has ended.
fn ended(registry: &Registry, id: &ExecutionId, events: Vec<HistoryEvent>) -> Result<Ended, String> {
    let terminated = |event: &HistoryEvent| matches!(event.kind, EventKind::Decision(Decision::Terminated { .. }));
    if started(&events).is_none() && events.iter().all(terminated) {
        // It was terminated before its first turn.
        return Ok(Ended { events, leftovers: Leftovers::default() });
    }
    let without_states = |entry: &crate::registry::Entry| entry.kind() == Kind::Orchestration;
    let lookup = registry.lookup_of(without_states);
    let replayed = super::super::history_check::replay(&lookup, id.clone(), &events);
    let leftovers = replayed.map_err(|fault| fault.0.to_string())?.close();
    Ok(Ended { events, leftovers })
}

fn started(events: &[HistoryEvent]) -> Option<&Started> {
    match &events.first()?.kind {
        EventKind::Input(crate::history::Input::Started(started)) => Some(started),
        _ => None,
    }
}

fn every_instance_is_there_and_ended(record: &Record, stored: &Stored, found: &mut Vec<String>) {
    for (id, seen) in &record.instances {
        match stored.instances.get(id) {
            None => found.push(format!("{id}: it was started, and does not exist")),
            Some(there) if !there.status.is_finished() => found.push(format!("{id}: it is {}", there.status)),
            Some(there) if there.status != seen.status => {
                found.push(format!("{id}: it is {}, and was committed as {}", there.status, seen.status));
            }
            Some(_) => {}
        }
    }
    let unknown = stored.instances.keys().filter(|id| !record.instances.contains_key(*id));
    found.extend(unknown.map(|id| format!("{id}: it was never started")));
}

pub(super) fn nothing_is_left(world: &World, found: &mut Vec<String>) {
    let left = world.storage.visible().left();
    found.extend(left.messages.iter().map(|to| format!("{to}: a message to it is left")));
    found.extend(left.activities.iter().map(|id| format!("{id}: the activity is left")));
    found.extend(orphans(world));
}

/// Returns a finding for each item whose owner is not a member, so that no node runs it and no take-over frees it.
pub(super) fn orphans(world: &World) -> impl Iterator<Item = String> + use<> {
    let orphans = world.storage.visible().orphans().into_iter();
    orphans.map(|(item, epoch)| format!("{item} is orphaned: it belongs to epoch {epoch}, which has ended"))
}
