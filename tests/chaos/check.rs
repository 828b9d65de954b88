//! Checks the store and the record of effects.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::PoisonError;
use std::time::Duration;

use duroxide::history::HistoryEvent;
use duroxide::provider::{Filter, InstanceStatus};
use duroxide::testing::check_history;
use duroxide::{Client, Registry};
use duroxide_postgres::{PostgresOptions, PostgresProvider};
use support::outcomes::each_outcome_once;
use tokio_postgres::Error;

use crate::effects::connect;
use crate::orders::{self, Done, Order, chaos_order};
use crate::world::{Harmed, World};

/// The time between two looks. The row of a dead node remains for two minutes.
const LOOK: Duration = Duration::from_secs(1);

/// Watches the store: only nodes that were harmed are taken over, and no instance is suspended. Ends the program otherwise,
/// since the troubles would hide the state that shows the cause.
pub(crate) async fn watch(url: String, schema: &'static str, harmed: Harmed) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(seen) = look(&url, schema).await else { continue };
        let (crashed, suspended) = seen;
        let harmed = harmed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wrong: Vec<_> = crashed.difference(&harmed.into_iter().collect()).copied().collect();
        if !wrong.is_empty() || !suspended.is_empty() {
            print_unfinished(url, schema).await;
            println!("FAILED: taken over without a reason: processes {wrong:?}; suspended: {suspended:?}");
            std::process::exit(1);
        }
    }
}

/// Returns the process ids of the nodes that have crashed, and the suspended instances.
async fn look(url: &str, schema: &str) -> Result<(BTreeSet<u32>, Vec<String>), Error> {
    let client = connect(url).await?;
    let names = client.query(&format!("SELECT name FROM {schema}.nodes WHERE crashed"), &[]).await?;
    let process = |name: String| name.rsplit(' ').next().and_then(|id| id.parse().ok());
    let crashed = names.iter().filter_map(|row| process(row.get(0))).collect();
    let suspended = client.query(&format!("SELECT id FROM {schema}.live WHERE suspended"), &[]).await?;
    Ok((crashed, suspended.iter().map(|row| row.get(0)).collect()))
}

/// Prints what is not finished.
pub(crate) async fn print_unfinished(url: String, schema: &str) {
    let Ok(client) = connect(&url).await else { return };
    for table in ["live", "ready", "activities", "nodes", "mail"] {
        let rows = format!("SELECT to_jsonb(t)::text FROM {schema}.{table} t LIMIT 40");
        for row in client.query(&rows, &[]).await.unwrap_or_default() {
            println!("{table}: {}", row.get::<_, String>(0));
        }
    }
    let messages = format!("SELECT (to_jsonb(t) - 'payload')::text FROM {schema}.messages t LIMIT 40");
    for row in client.query(&messages, &[]).await.unwrap_or_default() {
        println!("messages: {}", row.get::<_, String>(0));
    }
}

/// Checks that each order has one result and its effects, and that nothing is left over.
pub(crate) async fn check(world: &World, results: &BTreeMap<u32, Done>) {
    let server = connect(&world.direct_url()).await.unwrap();
    for rows in ["live", "ready", "messages", "activities", "nodes WHERE NOT dead AND expires_at > now()"] {
        let count = format!("SELECT count(*) FROM {}.{rows}", world.schema());
        let count: i64 = server.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(count, 0, "{rows} is not empty");
    }
    let effects = server.query("SELECT key, step FROM effects", &[]).await.unwrap();
    let mut effects: HashMap<String, String> = effects.iter().map(|row| (row.get(0), row.get(1))).collect();
    let payments = server.query("SELECT key, step FROM payments", &[]).await.unwrap();
    assert_eq!(payments.len(), results.len(), "each order is paid once");
    effects.extend(payments.iter().map(|row| (row.get(0), row.get(1))));
    let runs: i64 = server.query_one("SELECT sum(runs) FROM effects", &[]).await.unwrap().get(0);
    let options = PostgresOptions::new(world.direct_url()).schema(world.schema());
    let client = Client::new(PostgresProvider::connect_with(options).await.unwrap());
    for (number, (steps, sent)) in results {
        let stored = chaos_order::handle(&client, Order::id(*number)).result().await;
        assert_eq!(orders::result(stored, *number), (steps.clone(), *sent), "order {number}");
        assert_eq!(*sent, !Order::cannot_be_sent(*number), "order {number}");
        assert_eq!(steps.iter().collect::<HashSet<_>>().len(), steps.len(), "each step once: {steps:?}");
        for step in steps {
            let effect = effects.get(step).unwrap_or_else(|| panic!("order {number}: {step} has no effect"));
            assert!(effect.ends_with(&format!("-{number}")), "order {number}: {step} is {effect}");
        }
    }
    let (events, outcomes) = check_histories(&client, results.keys().copied().collect(), &effects).await;
    println!("{} orders, {events} events, {outcomes} outcomes of {runs} runs of activities", results.len());
}

/// Checks all histories. Returns the numbers of events and of outcomes.
async fn check_histories(client: &Client, numbers: Vec<u32>, effects: &HashMap<String, String>) -> (usize, usize) {
    let invoices = numbers.iter().filter(|number| Order::has_invoice(**number)).count();
    let list = client.list(&Filter::default(), usize::MAX).await.unwrap().instances;
    assert_eq!(list.len(), numbers.len() + invoices);
    let registry = Registry::discover();
    let (mut events, mut outcomes) = (0, 0);
    for status in list {
        let id = status.execution.instance.as_str();
        assert!(matches!(status.status, InstanceStatus::Completed | InstanceStatus::Failed), "{status:?}");
        for number in 1..=status.execution.number {
            let history: Vec<HistoryEvent> = client.handle(id).history_of(number).await.unwrap();
            assert_eq!(check_history(&registry, &history), Ok(()), "{id}, execution {number}");
            let keys = each_outcome_once(&history, &format!("{}/{number}", status.execution.identity));
            (events, outcomes) = (events + history.len(), outcomes + keys.len());
            for (key, returned) in keys {
                assert!(effects.contains_key(&key), "{key} was recorded, but its activity has not run");
                assert_eq!(returned.unwrap_or_else(|| key.clone()), key);
            }
        }
    }
    (events, outcomes)
}
