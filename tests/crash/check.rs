//! Checks the database and the ledger after all kills.

use std::collections::{HashMap, HashSet};

use duroxide::Registry;
use duroxide::prelude::*;
use duroxide::provider::{Filter, InstanceStatus};
use duroxide::testing::check_history;
use support::outcomes::each_outcome_once;

use crate::ledger::SharedFolder;
use crate::orders::{Order, OrderError, process_order};

/// The numbers of checked records.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: usize,
    /// Recorded outcomes of activities.
    pub(crate) outcomes: usize,
    /// Runs of activities: at least one for each outcome.
    pub(crate) effects: usize,
}

/// Checks that each order has one result and its effects, and that nothing is left over.
pub(crate) async fn check_orders(folder: &SharedFolder, orders: u32) -> Seen {
    assert_no_remains(folder);
    let ledger = folder.ledger();
    let effects = effects(&ledger);
    let client = folder.client();
    let mut seen = Seen { effects: ledger.iter().filter(|line| line[0] == "effect").count(), ..Seen::default() };
    for number in 0..orders {
        let results: Vec<_> =
            ledger.iter().filter(|line| line[0] == "result" && line[1] == Order::id(number)).collect();
        assert_eq!(results.len(), 1, "order {number} has one result: {results:?}");
        let (steps, end) = match process_order::handle(&client, Order::id(number)).result().await {
            Ok(steps) => (steps, "sent"),
            Err(OutcomeError::Failed(OrderError::NotSent(steps))) => (steps, "refunded"),
            Err(error) => panic!("order {number}: {error:?}"),
        };
        assert_eq!(end, if Order::cannot_be_sent(number) { "refunded" } else { "sent" });
        assert_eq!((results[0][2].as_str(), &results[0][3..]), (end, &*steps));
        assert_eq!(steps.iter().collect::<HashSet<_>>().len(), steps.len(), "each step once: {steps:?}");
    }
    let list = client.list(&Filter::default(), usize::MAX).await.unwrap().instances;
    let invoices = (0..orders).filter(|number| Order::has_invoice(*number)).count();
    assert_eq!(list.len(), orders as usize + invoices);
    for status in list {
        let id = status.execution.instance.as_str();
        assert!(matches!(status.status, InstanceStatus::Completed | InstanceStatus::Failed), "{status:?}");
        let handle = client.handle(id);
        for number in 1..=status.execution.number {
            let history = handle.history_of(number).await.unwrap();
            assert_eq!(check_history(&Registry::discover(), &history), Ok(()), "{id}, execution {number}");
            let keys = each_outcome_once(&history, &format!("{}/{number}", status.execution.identity));
            seen.events += history.len();
            seen.outcomes += keys.len();
            for (key, returned) in keys {
                assert!(effects.contains_key(&key), "{key} was recorded, but its activity has not run");
                assert_eq!(returned.unwrap_or_else(|| key.clone()), key);
            }
        }
    }
    seen
}

/// Returns the activity and order of each idempotency key.
fn effects(ledger: &[Vec<String>]) -> HashMap<String, String> {
    let mut effects = HashMap::new();
    for line in ledger.iter().filter(|line| line[0] == "effect") {
        let effect = effects.entry(line[1].clone()).or_insert_with(|| line[2].clone());
        assert_eq!(*effect, line[2], "two calls have the key {}", line[1]);
    }
    effects
}

pub(crate) fn assert_no_remains(folder: &SharedFolder) {
    let database = rusqlite::Connection::open(folder.database()).unwrap();
    for rows in [
        "duroxide_messages",
        "duroxide_activities",
        "duroxide_cancellations",
        "duroxide_nodes",
        "duroxide_instances WHERE owner IS NOT NULL OR ready_at IS NOT NULL OR finished_at IS NULL",
    ] {
        let count: i64 = database.query_row(&format!("SELECT count(*) FROM {rows}"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{rows}");
    }
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let files = std::fs::read_dir(folder.disk()).unwrap();
    let locks = files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("-node-"));
    assert_eq!(locks.count(), 0, "lock files of dead nodes are left");
}
