//! Roles with no more rights than they need, and the migrations of the one that owns the schema.

use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::{Admin, AuditEntry, Dimension, Page, Provider, Subject};
use duroxide::{Filter, RuntimeOptions, Timestamp};
use duroxide_postgres::{PostgresOptions, PostgresProvider};
use support::postgres::Cluster;
use tokio_postgres::NoTls;

use crate::{PgNumber, pg_chain, pg_sum, process};

/// Enough for everything that is not lost.
const SOON: Duration = Duration::from_secs(60);

/// Returns the statements of the page that begin with these words.
fn statements(begin: &str) -> &'static str {
    let page = include_str!("../../docs/postgres.md");
    let block = page.split("```sql\n").find(|block| block.starts_with(begin)).expect("the page has it");
    block.split("```").next().expect("it ends")
}

fn options(cluster: &Cluster, role: &str) -> PostgresOptions {
    PostgresOptions::new(cluster.url().replace("postgres@", &format!("{role}@")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_of_the_page_suffice() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let (admin, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("connect");
    tokio::spawn(connection);
    admin.batch_execute(statements("CREATE ROLE")).await.expect("the statements of the page");
    let connect = async |role| PostgresProvider::connect_with(options(&cluster, role)).await;
    let early = connect("shop").await.expect_err("there is no table yet");
    assert!(!early.is_retryable() && early.to_string().contains("PostgresProvider::migrate"), "{early}");
    for _ in 0..2 {
        PostgresProvider::migrate(options(&cluster, "shop_owner")).await.expect("migrate");
    }
    admin.batch_execute(statements("GRANT INSERT")).await.expect("the right to watch");
    let provider = connect("shop").await.expect("connect");
    let runtime = process(provider.clone()).options(RuntimeOptions::new()).start().await.expect("start");
    let reader = connect("shop_reader").await.expect("connect");
    tokio::time::timeout(SOON, works(&runtime, &provider, &reader, &cluster)).await.expect("nothing hangs");
    runtime.shutdown().await.expect("shutdown");
    let log = cluster.log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("permission denied")).collect();
    // The first start, and the write of the reader.
    assert!(refused.iter().all(|line| line.contains("schema duroxide") || line.contains("table")), "{refused:#?}");
    for table in ["nodes", "watches"] {
        assert!(!log.contains(&format!("permission denied for table {table}")), "{refused:#?}");
    }
}

/// Notes the limits under which each table is created or altered.
const NOTE: &str = "
    CREATE TABLE limits (of_statements text, of_locks text);
    CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.limits VALUES (current_setting('statement_timeout'), current_setting('lock_timeout'));
    END $$;
    CREATE EVENT TRIGGER note ON ddl_command_start WHEN tag IN ('CREATE INDEX', 'ALTER TABLE') EXECUTE FUNCTION note()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migration_may_take_long_but_not_wait_long() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let (admin, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("connect");
    tokio::spawn(connection);
    admin.batch_execute(NOTE).await.expect("note");
    PostgresProvider::migrate(options(&cluster, "postgres")).await.expect("migrate");
    let limits = admin.query("SELECT DISTINCT of_statements, of_locks FROM limits", &[]).await.expect("query");
    let limits: Vec<(&str, &str)> = limits.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(limits, [("0", "1s")]);
}

/// The waits for the lock on migrations, by their begin.
const WAITS: &str = "SELECT coalesce(max(query_start::text), '') FROM pg_stat_activity
    WHERE application_name = 'duroxide planned' AND wait_event_type = 'Lock' AND wait_event = 'advisory'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_waits_for_the_migration_of_another_process() {
    let Some(cluster) = Cluster::start(&[("log_lock_waits", "on"), ("deadlock_timeout", "'5ms'")]) else { return };
    let (admin, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.expect("connect");
    tokio::spawn(connection);
    // A lock on the migrations of the schema `duroxide`, whose name gives its class.
    let class =
        "duroxide".bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    admin.batch_execute(&format!("SELECT pg_advisory_lock({}, -1)", class.cast_signed())).await.expect("lock");
    let mut waits = cluster.follow_log("still waiting for");
    let mut start = Box::pin(PostgresProvider::connect_with(options(&cluster, "postgres")));
    let mut begins = Vec::new();
    tokio::select! {
        _ = &mut start => panic!("another process migrates"),
        waited = waits.recv() => waited.expect("the server runs"),
    }
    // Twice as long as a migration waits for the lock of a table.
    for limit in [Duration::ZERO, Duration::from_secs(2)] {
        assert!(tokio::time::timeout(limit, &mut start).await.is_err(), "another process migrates");
        begins.push(admin.query_one(WAITS, &[]).await.expect("query").get::<_, String>(0));
    }
    assert!(!begins[0].is_empty() && begins[0] == begins[1], "one wait: {begins:?}");
    admin.batch_execute("SELECT pg_advisory_unlock_all()").await.expect("unlock");
    start.await.expect("connect");
}

/// Uses each table as the role that runs, and reads each as the role that reads.
async fn works(runtime: &Runtime, provider: &PostgresProvider, reader: &PostgresProvider, cluster: &Cluster) {
    let client = runtime.client();
    let watched = pg_sum::start(&client, "watched", 2).label("team", "blue").await.expect("start");
    let reads = Client::new(reader.clone()).with_retry_time(Duration::ZERO);
    let result = pg_sum::handle(&reads, "watched");
    let result = tokio::spawn(async move { result.result().await });
    watched.raise(PgNumber(1)).await.expect("raise");
    let (mut user, connection) = tokio_postgres::connect(&options(cluster, "shop").url, NoTls).await.expect("connect");
    tokio::spawn(connection);
    let mut tx = user.transaction().await.expect("begin");
    let started = pg_chain::start(&client, "within", 1).within(&mut tx).await.expect("start");
    let _ = watched.raise(PgNumber(2)).within(&mut tx).await.expect("raise");
    tx.commit().await.expect("commit");
    assert_eq!(started.committed().result().await.expect("completed"), 0);
    assert_eq!(result.await.expect("no panic").expect("completed"), 3);
    let cancelled = pg_sum::start(&client, "cancelled", 1).await.expect("start");
    cancelled.suspend("for now").await.expect("suspend");
    cancelled.resume().await.expect("resume");
    cancelled.cancel("not needed").await.expect("cancel");
    cancelled.wait().await.expect("it ends");
    let (filter, page, now) = (Filter::default(), Page::new(10), Timestamp::from_micros(i64::MAX));
    provider.record(&[AuditEntry::new(Timestamp::from_micros(1), "ana", "login")]).await.expect("record");
    for provider in [provider, reader] {
        assert_eq!(provider.list(&filter, &page).await.expect("list").instances.len(), 3);
        assert_eq!(provider.nodes().await.expect("nodes").len(), 1);
        provider.groups(Subject::Instances, &filter, &[Dimension::Name], SOON).await.expect("groups");
        provider.departed_nodes(9).await.expect("departed");
        provider.builds().await.expect("builds");
        provider.rows(watched.id().expect("a good id")).await.expect("rows");
        provider.activities(watched.id().expect("a good id")).await.expect("activities");
        provider.audit(&Default::default(), &page).await.expect("audit");
    }
    assert_eq!(reads.handle("watched").history().await.expect("history").len(), 6);
    let refused = pg_chain::start(&reads, "refused", 1).await.expect_err("it may only read").to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    provider.prune_audit(now, 9).await.expect("prune the audit");
    assert_eq!(provider.prune(&filter, now, &page).await.expect("prune").executions, 3);

    assert!(provider.instance(watched.id().expect("a good id")).await.expect("read").is_none());
}
