//! The locks of sessions, by which the death of a process is seen before the lease of its node is over.

use std::process::Command;
use std::time::{Duration, Instant};

use duroxide::id::NodeId;
use duroxide::provider::{Handlers, Lease, NodeInfo, NodeReport, Provider};
use support::postgres::Cluster;
use support::schema::Schema;
use tokio_postgres::Client;

use crate::changes::Changes;
use crate::node_process::{NodeProcess, PROGRAM, create_effects, order};

/// A lease that no test waits for.
const LONG: Duration = Duration::from_secs(3600);
/// The time in which a process that has died is taken over, with room for a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// True if both nodes show the locks of their sessions.
const BOTH_LOCKED: &str = "SELECT count(session_on) = 2 FROM nodes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_is_taken_over_long_before_its_lease_ends() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "killed");
    let client = duroxide::Client::new(schema.connect());
    let followed = ["INSERT OR UPDATE ON nodes", "INSERT OR UPDATE ON live"];
    let mut changes = Changes::follow(&cluster.url(), &schema, &followed).await;
    create_effects(&changes.server).await;
    let process = || NodeProcess::start(Command::new(PROGRAM), &cluster.url(), &schema, LONG);
    let mut processes = [process(), process()];
    changes.until_within(SOON, BOTH_LOCKED).await;
    let handle = client.start("chaos_order", "order-4", &order()).await.expect("start");
    let is_owned = "FROM live l JOIN nodes n ON n.epoch = l.owner WHERE l.last_event > 4";
    changes.until_within(SOON, &format!("SELECT count(*) > 0 {is_owned}")).await;
    let owner = changes.server.query_one(&format!("SELECT n.name {is_owned}"), &[]).await.expect("query");
    let name: String = owner.get(0);
    let process = processes.iter_mut().find(|process| name.ends_with(&format!(" {}", process.id())));
    let process = process.unwrap_or_else(|| panic!("{name} is one of them"));
    process.kill();
    let killed = Instant::now();
    changes.until_within(SOON, "SELECT bool_or(crashed) FROM nodes").await;
    println!("taken over after {:.1} s", killed.elapsed().as_secs_f64());
    let steps = handle.result().await.expect("completed");
    assert_eq!(steps.as_array().map(Vec::len), Some(4));
    drop(processes);
}

fn info() -> NodeInfo {
    NodeInfo {
        id: NodeId::new(),
        name: "test".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers::default(),
        lease_time: LONG,
        details: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_joins_after_a_renewal_is_taken_over() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "late");
    let observer = schema.connect();
    let mut changes = Changes::follow(&cluster.url(), &schema, &["INSERT OR UPDATE ON nodes"]).await;
    let watching = observer.join(&info()).await.expect("join");
    // There is no other node yet, and the next renewal is due long after the test.
    observer.renew(&watching, &NodeReport::default()).await.expect("renew");
    let dies = schema.connect();
    dies.join(&info()).await.expect("join");
    changes.until_within(SOON, BOTH_LOCKED).await;
    drop(dies);
    changes.until_within(SOON, "SELECT bool_or(crashed) FROM nodes").await;
}

/// Waits until the provider that runs has looked at the sessions of others twice since now.
async fn until_looked(cluster: &Cluster) {
    let mut looks = cluster.follow_log("AS outbox,");
    for _ in 0..2 {
        tokio::time::timeout(SOON, looks.recv()).await.expect("it looks").expect("the server runs");
    }
}

/// Waits until the lock of the session of a node is free.
async fn until_released(server: &Client, lease: Lease) {
    // A class of locks is shown without its sign. The lock is taken as soon as it is free, and released again.
    let wait = "SELECT pg_advisory_unlock(class, key) FROM (
            SELECT class, key, pg_advisory_lock(class, key) FROM (
                SELECT ((classid::bigint # 2147483648) - 2147483648)::integer AS class, objid::bigint::integer AS key
                FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = $1::bigint & 2147483647 AND mode = 'ExclusiveLock'
                OFFSET 0) held
            OFFSET 0) taken";
    let epoch = lease.epoch.0.cast_signed();
    tokio::time::timeout(SOON, server.query(wait, &[&epoch])).await.expect("it is released").expect("query");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_a_dead_session_keeps_its_lease() {
    let Some(cluster) = Cluster::start(&[("log_statement", "all")]) else { return };
    let schema = Schema::new(&cluster.url(), "living");
    let observer = schema.connect();
    let mut changes = Changes::follow(&cluster.url(), &schema, &["INSERT OR UPDATE ON nodes"]).await;
    let living = schema.connect();
    let lease = living.join(&info()).await.expect("join");
    observer.join(&info()).await.expect("join");
    changes.until_within(SOON, BOTH_LOCKED).await;
    // The connection that listens is lost: its process locks again, by itself.
    for _ in 0..3 {
        let listening =
            "SELECT array_agg(pid)::text FROM pg_stat_activity WHERE application_name = 'duroxide listening'";
        let last: String = changes.server.query_one(listening, &[]).await.expect("query").get(0);
        changes
            .server
            .execute(&format!("SELECT pg_terminate_backend(pid) FROM unnest('{last}'::integer[]) pid"), &[])
            .await
            .expect("end");
        let locked = format!(
            "SELECT ({BOTH_LOCKED}) AND count(*) = 2 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'advisory' AND a.application_name = 'duroxide listening' AND a.pid <> ALL ('{last}'::integer[])"
        );
        changes.until_within(SOON, &locked).await;
    }
    // Nothing is concluded from a lock that is held, from the end of a session that was withdrawn, and from one on another
    // server, from before a restart or the promotion of a standby.
    let long_ago = "released_at = now() - interval '1 hour'";
    let here = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
    let update = async |server: &Client, session: &str| {
        let update = format!("UPDATE nodes SET {session} WHERE epoch = {}", lease.epoch);
        server.execute(&update, &[]).await.expect("update");
    };
    for session in [long_ago, &format!("{long_ago}, session_on = NULL")] {
        update(&changes.server, session).await;
        until_looked(&cluster).await;
    }
    drop(living);
    until_released(&changes.server, lease).await;
    update(&changes.server, &format!("{long_ago}, session_on = {here} + 1")).await;
    until_looked(&cluster).await;
    let both = changes.server.query_one("SELECT count(*) = 2 FROM nodes WHERE NOT dead", &[]).await.expect("query");
    assert!(both.get::<_, bool>(0));
    // A session on this server that has died.
    update(&changes.server, &format!("session_on = {here}")).await;
    changes.until_within(SOON, "SELECT count(*) = 1 FROM nodes WHERE NOT dead").await;
}
