//! Connections through a pooler.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{Filter, InstanceStatus, Page};
use duroxide_postgres::{PostgresOptions, PostgresProvider};
use support::pooler::Pooler;
use support::schema::Schema;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::transactional::pg_pays;
use crate::{pg_chain, process, schema};

/// The instances that another process starts, one after another.
const STARTS: u32 = 12;
/// Enough for as many polls of a process that hears nothing, and not for those of one that relies on notifications.
const ENOUGH: Duration = Duration::from_secs(30);

/// Returns the address of the server. One that is given by a URL may be reached by a socket only.
fn server() -> Option<SocketAddr> {
    support::postgres::server()?.split('@').nth(1)?.split('/').next()?.parse().ok()
}

fn pooler(mode: &str) -> Option<Pooler> {
    Pooler::start(server()?, mode)
}

async fn run_from_elsewhere(client: &Client) {
    for n in 0..STARTS {
        let handle = pg_chain::start(client, format!("i-{n}"), 3).await.expect("start");
        assert_eq!(handle.result().await.expect("completed"), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_notifications_are_replaced_by_polls() {
    let Some(schema) = schema("unheard") else { return };
    let Some(pooler) = pooler("transaction") else { return };
    let mut warnings = warnings();
    let options = schema.options().listen_url(pooler.url());
    let provider = PostgresProvider::connect_with(options).await.expect("connect");
    let runtime = process(provider).start().await.expect("start");
    let client = Client::new(schema.connect());
    let test = async {
        let is_named = |warnings: &Vec<String>| {
            warnings.iter().filter(|warning| warning.contains("unheard") && warning.contains("listen_url")).count() == 1
        };
        warnings.wait_for(is_named).await.expect("the subscriber is not dropped");
        run_from_elsewhere(&client).await;
        assert!(is_named(&warnings.borrow()), "one warning: {:?}", warnings.borrow());
    };
    tokio::time::timeout(ENOUGH, test).await.expect("in time");
    runtime.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooler_in_session_mode_is_a_direct_way() {
    let Some(schema) = schema("session") else { return };
    let Some(pooler) = pooler("session") else { return };
    let provider = async || PostgresProvider::connect_with(schema.options_at(&pooler.url())).await.expect("connect");
    let runtime = process(provider().await).start().await.expect("start");
    let client = Client::new(provider().await);
    tokio::time::timeout(ENOUGH, run_from_elsewhere(&client)).await.expect("in time");
    runtime.shutdown().await.expect("shutdown");
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooler_that_loses_statements_is_refused() {
    let Some(schema) = schema("pooled") else { return };
    let Some(pooler) = pooler("transaction") else { return };
    let refused = PostgresProvider::connect_with(schema.options_at(&pooler.url())).await;
    let error = refused.expect_err("it keeps no session");
    assert!(!error.is_retryable() && error.to_string().contains("max_prepared_statements"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooler_in_transaction_mode_needs_no_session() {
    // A pooler that is not found: each transaction has the session of its connection.
    let Some(direct) = schema("transactions") else { return };
    works_without_sessions(&direct, direct.options().pooled()).await;
    let Some(schema) = schema("found") else { return };
    if let Some(pooler) = server().and_then(Pooler::start_with_statements) {
        works_without_sessions(&schema, schema.options_at(&pooler.url())).await;
    }
}

async fn works_without_sessions(schema: &Schema, options: PostgresOptions) {
    let mut warnings = warnings();
    let provider = async || PostgresProvider::connect_with(options.clone()).await.expect("connect");
    let runtime = process(provider().await).start().await.expect("start");
    let is_named = |warnings: &Vec<String>| {
        warnings.iter().any(|warning| warning.contains(schema.name()) && warning.contains("sends its settings"))
    };
    warnings.wait_for(is_named).await.expect("the subscriber is not dropped");
    let client = Client::new(provider().await);
    tokio::time::timeout(ENOUGH, run_from_elsewhere(&client)).await.expect("in time");
    schema.execute("CREATE TABLE effects (n integer)");
    let (effects, how) = (format!("{}.effects", schema.name()), "works".to_owned());
    let paid = pg_pays::start(&client, "pays", effects, how).await.expect("start");
    assert_eq!(paid.result().await.expect("completed"), 1);
    let listed = client.list(&Filter::default(), Page::new(100)).await.expect("list");
    assert_eq!(listed.instances.len(), STARTS as usize + 1);
    let handle = client.handle("i-0");
    assert!(!handle.history().await.expect("history").is_empty());
    let inspection = client.inspect("i-0").await.expect("inspect");
    assert_eq!(inspection.status.status, InstanceStatus::Completed);
    handle.delete().await.expect("delete");
    runtime.shutdown().await.expect("shutdown");
}

/// Returns the warnings of this process from now on.
fn warnings() -> watch::Receiver<Vec<String>> {
    static WARNINGS: OnceLock<watch::Sender<Vec<String>>> = OnceLock::new();
    let warnings = WARNINGS.get_or_init(|| {
        let warnings = watch::Sender::new(Vec::new());
        // The provider logs in a thread of its own.
        let subscriber = tracing_subscriber::registry().with(Warnings(warnings.clone()));
        tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
        warnings
    });
    warnings.subscribe()
}

struct Warnings(watch::Sender<Vec<String>>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.send_modify(|warnings| warnings.push(text.0));
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
