//! The locks of sessions, by which the death of a process is seen before the lease of its node is over.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use duroxide::id::NodeId;
use duroxide::prelude::*;
use duroxide::provider::{Handlers, NodeInfo, NodeReport, Provider};
use support::postgres::Cluster;
use support::schema::Schema;

/// A lease that no test waits for.
const LONG: Duration = Duration::from_secs(3600);
/// The time in which a process that has died is taken over, with room for a busy machine.
const SOON: Duration = Duration::from_secs(180);

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

/// Waits until a query returns true.
async fn until(server: &tokio_postgres::Client, query: &str) {
    let reached = async { while !server.query_one(query, &[]).await.expect("query").get::<_, bool>(0) {} };
    if tokio::time::timeout(SOON, reached).await.is_err() {
        let nodes = "SELECT coalesce(json_agg(n), '[]')::text FROM nodes n";
        let nodes: String = server.query_one(nodes, &[]).await.expect("query").get(0);
        panic!("{query}: {nodes}");
    }
}

/// A process with a node, killed on drop.
struct Process(Child);

impl Process {
    fn start(cluster: &Cluster, schema: &Schema) -> Self {
        let variables = [
            ("CHAOS_SCHEMA", schema.name().to_owned()),
            ("CHAOS_URL", cluster.url()),
            ("CHAOS_EFFECTS_URL", cluster.url()),
            ("CHAOS_LEASE", LONG.as_millis().to_string()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
        command.envs(variables).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_is_taken_over_long_before_its_lease_ends() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "killed");
    let server = connect(&cluster.url()).await;
    let effects = "CREATE TABLE effects (key text PRIMARY KEY, step text NOT NULL, runs integer NOT NULL DEFAULT 1);
        CREATE TABLE payments (key text NOT NULL, step text NOT NULL)";
    server.batch_execute(effects).await.expect("create");
    let client = Client::new(schema.connect());
    server.batch_execute(&schema.within("")).await.expect("choose the schema");
    let mut processes = [Process::start(&cluster, &schema), Process::start(&cluster, &schema)];
    until(&server, "SELECT count(session_on) = 2 FROM nodes").await;
    // It sleeps for seconds after its first activities.
    let order = serde_json::json!({ "number": 4, "parcels": 1, "steps": [] });
    let handle = client.start("chaos_order", "order-4", &order).await.expect("start");
    let owner = "SELECT n.name FROM live l JOIN nodes n ON n.epoch = l.owner WHERE l.last_event > 4";
    let name: String = loop {
        if let Some(row) = server.query_opt(owner, &[]).await.expect("query") {
            break row.get(0);
        }
    };
    let process = processes.iter_mut().find(|process| name.ends_with(&format!(" {}", process.0.id())));
    let process = process.unwrap_or_else(|| panic!("{name} is one of them"));
    process.0.kill().expect("kill");
    let killed = Instant::now();
    until(&server, "SELECT bool_or(crashed) FROM nodes").await;
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

/// Waits until the provider that runs has looked at the sessions of others as often since now.
async fn until_looked(cluster: &Cluster, times: usize) {
    let looks = || cluster.log().matches("AS outbox,").count();
    let before = looks();
    let looked = async {
        while looks() < before + times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, looked).await.expect("it looks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_a_dead_session_keeps_its_lease() {
    let Some(cluster) = Cluster::start(&[("log_statement", "all")]) else { return };
    let schema = Schema::new(&cluster.url(), "living");
    let server = connect(&cluster.url()).await;
    let observer = schema.connect();
    server.batch_execute(&schema.within("")).await.expect("choose the schema");
    let living = schema.connect();
    let lease = living.join(&info()).await.expect("join");
    let watching = observer.join(&info()).await.expect("join");
    observer.renew(&watching, &NodeReport::default()).await.expect("renew");
    until(&server, "SELECT count(session_on) = 2 FROM nodes").await;
    // The connection that listens is lost: its process locks again, by itself.
    for _ in 0..3 {
        let listening =
            "SELECT array_agg(pid)::text FROM pg_stat_activity WHERE application_name = 'duroxide listening'";
        let last: String = server.query_one(listening, &[]).await.expect("query").get(0);
        server
            .execute(&format!("SELECT pg_terminate_backend(pid) FROM unnest('{last}'::integer[]) pid"), &[])
            .await
            .expect("end");
        let locked = format!(
            "SELECT count(*) = 2 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'advisory' AND a.application_name = 'duroxide listening' AND a.pid <> ALL ('{last}'::integer[])"
        );
        until(&server, &locked).await;
        until(&server, "SELECT count(session_on) = 2 FROM nodes").await;
    }
    // Nothing is concluded from a lock that is held, from the end of a session that was withdrawn, and from one on another
    // server, from before a restart or the promotion of a standby.
    let long_ago = "released_at = now() - interval '1 hour'";
    let here = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";
    for session in [long_ago, &format!("{long_ago}, session_on = NULL")] {
        server
            .execute(&format!("UPDATE nodes SET {session} WHERE epoch = {}", lease.epoch), &[])
            .await
            .expect("update");
        until_looked(&cluster, 2).await;
    }
    drop(living);
    until(&server, "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'duroxide listening'").await;
    let update = format!("UPDATE nodes SET {long_ago}, session_on = {here} + 1 WHERE epoch = {}", lease.epoch);
    server.execute(&update, &[]).await.expect("update");
    until_looked(&cluster, 2).await;
    let both = server.query_one("SELECT count(*) = 2 FROM nodes WHERE NOT dead", &[]).await.expect("query");
    assert!(both.get::<_, bool>(0));
    // A session on this server that has died.
    let update = format!("UPDATE nodes SET session_on = {here} WHERE epoch = {}", lease.epoch);
    server.execute(&update, &[]).await.expect("update");
    until(&server, "SELECT count(*) = 1 FROM nodes WHERE NOT dead").await;
}
