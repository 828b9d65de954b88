//! Detects that nothing can happen in a test, and says for what its instances wait.

use std::sync::Arc;
use std::time::Duration;

use super::VirtualClock;
use crate::client::{OpenWait, Waiting, open_waits};
use crate::error::Suspension;
use crate::history::HistoryEvent;
use crate::id::{EventId, ExecutionId};
use crate::provider::{Filter, InstanceRecord, Page, Provider, ProviderError};

/// The number of unfinished instances that a reason describes.
const DESCRIBED: usize = 20;

/// Fails the waits of a test once nothing could happen for a time, by the clock of tokio.
pub(super) async fn watch(clock: VirtualClock, provider: Arc<dyn Provider>, limit: Duration) {
    loop {
        let change = clock.stalled().await;
        // Another task of the test, which the clock does not know, may be about to send an event.
        tokio::time::sleep(limit).await;
        if clock.is_unchanged_since(change) {
            let instances = unfinished(&*provider).await.unwrap_or_else(|error| vec![error.to_string()]);
            let reason = "nothing can happen in this test: it waits for an instance, all runtimes are idle, and no timer is \
                          pending";
            let reason = instances.iter().fold(reason.to_owned(), |reason, line| format!("{reason}\n- {line}"));
            clock.fail_stalled(change, &reason);
        }
    }
}

/// Describes the unfinished instances, each in one line.
async fn unfinished(provider: &dyn Provider) -> Result<Vec<String>, ProviderError> {
    let (mut lines, mut page) = (Vec::new(), Page::new(DESCRIBED));
    loop {
        let Some(admin) = provider.admin() else { return Ok(lines) };
        let found = admin.list(&Filter::default(), &page).await?;
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

async fn state(provider: &dyn Provider, record: &InstanceRecord) -> Result<String, ProviderError> {
    if let Some(json) = &record.suspension {
        let reason =
            serde_json::from_str::<Suspension>(json).map_or_else(|_| String::new(), |reason| reason.to_string());
        return Ok(format!("is suspended: {reason}"));
    }
    if let Some(unclaimed) = &record.unclaimed {
        return Ok(format!("waits for a runtime with {}", unclaimed.what));
    }
    let waits = open_waits(&record.execution, &history(provider, &record.execution).await?);
    let waits: Vec<_> = waits.into_iter().map(described).collect();
    Ok(if waits.is_empty() { "waits".to_owned() } else { format!("waits for {}", waits.join(", ")) })
}

async fn history(provider: &dyn Provider, execution: &ExecutionId) -> Result<Vec<HistoryEvent>, ProviderError> {
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

/// Describes an open wait.
fn described(wait: OpenWait) -> String {
    match wait.operation {
        Waiting::Activity { name, .. } => format!("activity `{name}`"),
        Waiting::Child { instance, name } => format!("orchestration {instance} (`{name}`)"),
        Waiting::Timer { due } => format!("a timer that is due at {due}"),
        Waiting::Event { name } => format!("event `{name}`"),
    }
}
