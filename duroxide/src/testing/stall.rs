//! Detects that nothing can happen in a test, and says for what its instances wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::VirtualClock;
use crate::error::Suspension;
use crate::history::{Decision, EventKind, HistoryEvent, Input};
use crate::id::{CallId, EventId, ExecutionId};
use crate::provider::{Admin, Filter, InstanceRecord, MemoryProvider, Page, Provider, ProviderError};

/// The number of unfinished instances that a reason describes.
const DESCRIBED: usize = 20;

/// Fails the waits of a test once nothing could happen for a time, by the clock of tokio.
pub(super) async fn watch(clock: VirtualClock, provider: MemoryProvider, limit: Duration) {
    loop {
        let change = clock.stalled().await;
        // Another task of the test, which the clock does not know, may be about to send an event.
        tokio::time::sleep(limit).await;
        if clock.is_unchanged_since(change) {
            let instances = unfinished(&provider).await.unwrap_or_else(|error| vec![error.to_string()]);
            let reason = "nothing can happen in this test: it waits for an instance, all runtimes are idle, and no timer is \
                          pending";
            let reason = instances.iter().fold(reason.to_owned(), |reason, line| format!("{reason}\n- {line}"));
            clock.fail_stalled(change, &reason);
        }
    }
}

/// Describes the unfinished instances, each in one line.
async fn unfinished(provider: &MemoryProvider) -> Result<Vec<String>, ProviderError> {
    let (mut lines, mut page) = (Vec::new(), Page::new(DESCRIBED));
    loop {
        let found = provider.list(&Filter::default(), &page).await?;
        for record in found.instances.iter().filter(|record| !record.status.is_finished()) {
            if lines.len() == DESCRIBED {
                lines.push("further instances".to_owned());
                return Ok(lines);
            }
            lines.push(format!("{} ({}) {}", record.execution.instance, record.name, state(provider, record).await?));
        }
        match found.next {
            Some(next) => page = page.after(next),
            None => return Ok(lines),
        }
    }
}

async fn state(provider: &MemoryProvider, record: &InstanceRecord) -> Result<String, ProviderError> {
    if let Some(json) = &record.suspension {
        let reason =
            serde_json::from_str::<Suspension>(json).map_or_else(|_| String::new(), |reason| reason.to_string());
        return Ok(format!("is suspended: {reason}"));
    }
    if let Some(unclaimed) = &record.unclaimed {
        return Ok(format!("waits for a runtime with {}", unclaimed.what));
    }
    let waits = open_waits(&record.execution, &history(provider, &record.execution).await?);
    Ok(if waits.is_empty() { "waits".to_owned() } else { format!("waits for {}", waits.join(", ")) })
}

async fn history(provider: &MemoryProvider, execution: &ExecutionId) -> Result<Vec<HistoryEvent>, ProviderError> {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(EventId(0), |event: &HistoryEvent| event.id);
        let page = provider.history(execution, after).await?;
        events.extend(page.events.into_iter().filter_map(|row| HistoryEvent::try_from(row).ok()));
        if !page.more {
            return Ok(events);
        }
    }
}

/// Returns the calls and events for which an execution waits, without running its code.
fn open_waits(execution: &ExecutionId, history: &[HistoryEvent]) -> Vec<String> {
    let (mut calls, mut events) = (BTreeMap::new(), BTreeMap::<CallId, &str>::new());
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::ActivityScheduled(activity)) => {
                calls.insert(activity.call, format!("activity `{}`", activity.name));
            }
            EventKind::Decision(Decision::ChildScheduled(child)) => {
                calls.insert(child.call, format!("orchestration {} (`{}`)", child.instance_in(execution), child.name));
            }
            EventKind::Decision(Decision::TimerCreated { call, due }) => {
                calls.insert(*call, format!("a timer that is due at {due}"));
            }
            EventKind::Decision(Decision::EventAwaited { call, name }) => {
                events.insert(*call, name);
            }
            EventKind::Decision(Decision::CallDropped { call }) => {
                calls.remove(call);
                events.remove(call);
            }
            EventKind::Decision(_) => {}
            EventKind::Input(Input::EventRaised { name, .. }) => {
                // The oldest wait takes it.
                let wait = events.iter().find(|(_, awaited)| *awaited == name).map(|(call, _)| *call);
                wait.and_then(|call| events.remove(&call));
            }
            EventKind::Input(input) => {
                input.call().and_then(|call| calls.remove(&call));
            }
        }
    }
    calls.into_values().chain(events.into_values().map(|name| format!("event `{name}`"))).collect()
}
