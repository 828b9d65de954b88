//! Replays live instances against the code of a node, before the node joins. Nothing is written.

use std::sync::Arc;

use crate::error::{ErrorCode, Suspension};
use crate::history::HistoryEvent;
use crate::id::{EventId, ExecutionId, InstanceId};
use crate::provider::{
    Admin, EventRow, Filter, HistoryPage, InstanceRecord, InstanceStatus, Page, Provider, ProviderError,
};
use crate::registry::Lookup;
use crate::replay::{Execution, Fault, Function, Replay};

/// The result of a check.
#[derive(Debug, Default)]
pub(crate) struct LiveCheck {
    /// The number of replayed instances.
    pub(crate) checked: usize,
    /// The instances that the code cannot continue, each with the suspension that it would cause.
    pub(crate) incompatible: Vec<(InstanceId, Suspension)>,
}

/// Replays up to `limit` running instances of each orchestration, the newest ones. An instance of a version that the code
/// does not have is left out, since this node will not run it.
///
/// # Errors
/// The storage fails.
pub(crate) async fn check_live(
    provider: &dyn Provider,
    admin: &dyn Admin,
    lookup: &Lookup,
    limit: usize,
) -> Result<LiveCheck, ProviderError> {
    let mut check = LiveCheck::default();
    let mut names: Vec<_> = lookup.orchestrations().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    for name in names {
        for record in newest(admin, name, limit).await? {
            let Some(entry) = lookup.orchestration(&record.name, record.version.as_ref()) else { continue };
            let execution = record.execution;
            let fault = replay(provider, &execution, entry.function.clone()).await?;
            check.checked += 1;
            check.incompatible.extend(fault.map(|fault| (execution.instance, *fault.0)));
        }
    }
    Ok(check)
}

/// Lists the newest running instances of an orchestration.
async fn newest(admin: &dyn Admin, name: String, limit: usize) -> Result<Vec<InstanceRecord>, ProviderError> {
    const PAGE: usize = 500;
    let filter = Filter { name: Some(name), statuses: vec![InstanceStatus::Running], ..Filter::default() };
    let (mut found, mut page) = (Vec::new(), Page::new(limit.min(PAGE)));
    while found.len() < limit {
        let listed = admin.list(&filter, &page).await?;
        // A damaged row is a fault of the storage, not of the code.
        found.extend(listed.instances.into_iter().filter(|record| record.damaged.is_none()));
        match listed.next {
            Some(next) => page = page.after(next),
            None => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Replays the stored history of an execution, page by page. Returns the fault that would suspend it.
async fn replay(
    provider: &dyn Provider,
    execution: &ExecutionId,
    function: Arc<Function>,
) -> Result<Option<Fault>, ProviderError> {
    let mut replay = Replay::new(Box::new(Execution::new(execution.clone(), function, || {})));
    let mut last = EventId(0);
    loop {
        let HistoryPage { events, more } = provider.history(execution, last).await?;
        last = events.last().map_or(last, |event| event.id);
        let replayed = off_the_workers(move || {
            replay.push_page(read(events)?)?;
            if more { Ok(Some(replay)) } else { replay.end().map(|_| None) }
        });
        match replayed.await {
            Ok(Some(continued)) => replay = continued,
            Ok(None) => return Ok(None),
            Err(fault) => return Ok(Some(fault)),
        }
    }
}

fn read(rows: Vec<EventRow>) -> Result<Vec<HistoryEvent>, Fault> {
    let read = rows.into_iter().map(HistoryEvent::try_from).collect::<Result<_, _>>();
    read.map_err(|error| Fault::new(ErrorCode::UnreadableEvent, error.to_string()))
}

/// Runs user code on a thread on which it may take long.
async fn off_the_workers<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(move || crate::telemetry::silenced(run)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The tokio runtime is being shut down, and drops this future.
            Err(_) => std::future::pending().await,
        },
    }
}
