//! The nodes that are told of work, and the processes that are told of ends.

use std::time::Duration;

use duroxide::provider::{Lease, Provider, Want};
use duroxide_postgres::PostgresProvider;
use futures_util::FutureExt;
use support::postgres::Cluster;
use support::schema::Schema;
use tokio::sync::{mpsc, watch};

use crate::together::{id, info, send, start, want};
use crate::{PgNumber, pg_sum, process, schema};

const NODES: usize = 4;
const STARTS: usize = 20;
/// Enough for everything that is not lost.
const SOON: Duration = Duration::from_secs(60);

/// A node of a process of its own, which is told of work.
struct Node {
    provider: PostgresProvider,
    lease: Lease,
    signals: watch::Receiver<u64>,
}

impl Node {
    /// Joins, and waits until nothing but work signals the node.
    async fn join(schema: &Schema) -> Self {
        let provider = schema.connect();
        let lease = provider.join(&info()).await.expect("join");
        let mut signals = provider.wakeups().subscribe();
        while tokio::time::timeout(Duration::from_secs(1), signals.changed()).await.is_ok() {}
        Self { provider, lease, signals }
    }

    /// Claims work whenever it is told of some. Reports the number of instances each time.
    async fn claim(mut self, claimed: mpsc::UnboundedSender<usize>) {
        let mut claim = 0;
        while self.signals.changed().await.is_ok() {
            let acquired = self.provider.acquire(&self.lease, Want { claim, ..want() }).await.expect("acquire");
            claim = acquired.claim;
            if claimed.send(acquired.instances.len()).is_err() {
                return;
            }
        }
    }
}

/// Opens the schema as a process without a node, which knows the members.
async fn connect(schema: &Schema) -> PostgresProvider {
    let provider = schema.connect();
    // Such a read also returns the members.
    assert!(provider.instance(&id("none")).await.expect("read").is_none());
    provider
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_without_an_owner_wakes_one_node() {
    let Some(schema) = schema("one") else { return };
    let (claimed, mut claims) = mpsc::unbounded_channel();
    for _ in 0..NODES {
        tokio::spawn(Node::join(&schema).await.claim(claimed.clone()));
    }
    let client = connect(&schema).await;
    let mut signals = 0;
    for n in 0..STARTS {
        client.submit(vec![start(&format!("i-{n}"), None).1]).await.expect("submit").remove(0).expect("started");
        let taken = async {
            let mut taken = 0;
            while taken == 0 {
                taken += claims.recv().await.expect("the nodes live");
                signals += 1;
            }
        };
        tokio::time::timeout(SOON, taken).await.expect("it is taken");
    }
    // A node of a busy machine may be so late that another one is told.
    assert!(signals < 2 * STARTS, "{signals} signals for {STARTS} starts and {NODES} nodes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_wakes_the_owner_alone() {
    let Some(schema) = schema("owner") else { return };
    let mut nodes = [Node::join(&schema).await, Node::join(&schema).await];
    let client = connect(&schema).await;
    let owned = start("i", Some(nodes[0].lease)).1;
    nodes[0].provider.submit(vec![owned]).await.expect("submit").remove(0).expect("started");
    for n in 0..STARTS {
        client.submit(vec![send("i", n)]).await.expect("submit").remove(0).expect("sent");
        let told = tokio::time::timeout(SOON, nodes[0].signals.changed()).await;
        told.expect("the owner is told").expect("the provider lives");
    }
    let is_told = |node: &Node| node.signals.has_changed().expect("the provider lives");
    assert!(!is_told(&nodes[1]), "another node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_not_taken_is_told_to_more_nodes() {
    let settings = [("log_statement", "all"), ("log_line_prefix", "'%a '")];
    let Some(cluster) = Cluster::start(&settings) else { return };
    let schema = Schema::new(&cluster.url(), "more");
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Node::join(&schema).await);
    }
    let client = connect(&schema).await;
    client.submit(vec![start("i", None).1]).await.expect("submit").remove(0).expect("started");
    // The nodes that each notification of work names; none: all.
    let told = |log: &str| -> Vec<Option<usize>> {
        let sent = log.lines().filter_map(|line| Some(line.split_once("\"changed\"")?.1));
        let named = |sent: &str| Some(sent.split_once("\"to\":[")?.1.split(']').next()?.split(',').count());
        sent.filter(|sent| sent.contains("\"work\":true")).map(named).collect()
    };
    let all_are_told = cluster.until_log(|log| told(log).last() == Some(&None));
    tokio::time::timeout(SOON, all_are_told).await.expect("all nodes are told at last");
    assert_eq!(told(&cluster.log()), [Some(1), Some(1), Some(2), None]);
    // It is found once.
    let node = &nodes[0];
    assert_eq!(node.provider.acquire(&node.lease, want()).await.expect("acquire").instances.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_is_told_only_to_processes_that_watch_it() {
    let Some(schema) = schema("ends") else { return };
    let runtime = process(schema.connect()).start().await.expect("start");
    let mut handles = Vec::new();
    for n in 0..2 {
        handles.push(pg_sum::start(&runtime.client(), format!("i-{n}"), 1).await.expect("start"));
    }
    let (one, other) = (Node::join(&schema).await.provider, Node::join(&schema).await.provider);
    let mut first = one.wakeups().watch(&id("i-0"));
    let mut unregistered = other.wakeups().watch(&id("i-0"));
    let mut second = other.wakeups().watch(&id("i-1"));
    assert!(one.watch(&id("i-0")).await.expect("read").is_some());
    assert!(other.watch(&id("i-1")).await.expect("read").is_some());
    for (handle, watch) in handles.iter().zip([&mut first, &mut second]) {
        handle.raise(PgNumber(1)).await.expect("raise");
        let end = tokio::time::timeout(SOON, watch.changed()).await.expect("it is told");
        assert!(end.is_some(), "the end is read for all watches");
    }
    // A notification of the first end would have come before that of the second.
    assert!(unregistered.changed().now_or_never().is_none());
    schema.execute("DO $$ BEGIN ASSERT (SELECT count(*) = 0 FROM watches), 'a row remains'; END $$");
    runtime.shutdown().await.expect("shutdown");
}
