//! Requests and looks beside many activities with a tag that no node serves.

use std::sync::Arc;

use duroxide::id::{CallId, CommitId, EventId};
use duroxide::provider::*;
use futures_util::future::select_all;
use support::postgres::Cluster;
use support::schema::Schema;

use crate::together::{at, info, start};

/// The most entries of the indexes of the activities, and rows of their table, that all requests together may read.
const ENTRIES: i64 = 1_000;

/// 20,000 activities that have no owner and the tag `nowhere`: half of them are ready at once, half since a time, and one of
/// four is in quarantine. Behind them come one without a tag, one with the tag `served`, and one with this tag that is not
/// due yet.
const BACKLOG: &str = "
    INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, attempt, ready_at, claim, crashes, alone,
        suspect, parked)
    SELECT 1000000, 1, n, 1, 'work', 'nowhere', false, 1, CASE n % 2 WHEN 0 THEN n ELSE n - (1::bigint << 62) END, 0,
        CASE WHEN n % 4 > 1 THEN 3 ELSE 0 END, false, false, false
    FROM generate_series(1, 20000) AS n;
    INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, attempt, ready_at, claim, crashes, alone,
        suspect, parked)
    VALUES (1000000, 1, 20001, 1, 'work', NULL, false, 1, 30001, 0, 0, false, false, false),
        (1000000, 1, 20002, 1, 'work', 'served', false, 1, 30002, 0, 0, false, false, false),
        (1000000, 1, 20003, 1, 'work', 'served', false, 1, 2000000000, 0, 0, false, false, false);
    INSERT INTO instances (seq, id, identity, format, name, status, execution, last_event, created_at, updated_at)
    VALUES (1000000, 'i', gen_random_uuid(), 1, 'flow', 'running', 1, 1, 1, 1)";

/// All that was read of the table, with and without an index.
const READ: &str = "
    SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'activities')::bigint
        + (SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'activities')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backlog_of_an_unserved_tag_is_not_read() {
    // A server of its own, whose counters no other test changes.
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "tags");
    let provider = schema.connect();
    let cases = [(Some(vec!["served".to_owned()]), 2), (Some(Vec::new()), 0), (None, 8)];
    let mut nodes = Vec::new();
    for (tags, expected) in cases {
        let node = Node::join(&provider, tags).await;
        // Plans are made on empty tables, and kept. A join may read all activities.
        node.claim(&provider, 0).await;
        nodes.push((node, expected));
    }
    schema.execute(BACKLOG);
    for (node, expected) in nodes {
        node.claim(&provider, expected).await;
    }
    drop(provider);
    let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    // The counters of a session are complete once it has ended.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'duroxide%'";
    while client.query_one(open, &[]).await.expect("query").get::<_, i64>(0) > 0 {}
    let read: i64 = client.query_one(READ, &[]).await.expect("query").get(0);
    assert!((8..ENTRIES).contains(&read), "{read} entries were read");
}

struct Node {
    lease: Lease,
    tags: Option<Vec<String>>,
}

impl Node {
    async fn join(provider: &dyn Provider, tags: Option<Vec<String>>) -> Self {
        let handlers = Handlers { activities: vec!["work".to_owned()], tags: tags.clone(), ..Handlers::default() };
        let lease = provider.join(&NodeInfo { handlers, ..info() }).await.expect("join");
        Self { lease, tags }
    }

    fn want(&self, claim: u64) -> Want {
        Want {
            activities: vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 8 }],
            tags: self.tags.clone().map(Into::into),
            claim,
            ..Want::new(at(1_000))
        }
    }

    /// Claims twice, the second time also those in quarantine. There are either none, or those of the backlog.
    async fn claim(&self, provider: &dyn Provider, expected: usize) {
        let (tags, want) = (&self.tags, self.want(0));
        let acquired = provider.acquire(&self.lease, want.clone()).await.expect("acquire");
        assert_eq!(acquired.activities.len(), expected, "{tags:?}");
        let alone = Want { claim: acquired.claim, alone: true, ..want };
        let acquired = provider.acquire(&self.lease, alone).await.expect("acquire");
        assert_eq!(acquired.activities.len(), usize::from(expected == 8), "{tags:?}: one is claimed alone");
        if expected == 2 {
            assert_eq!(acquired.next_due, Some(at(2_000)), "the next one with a served tag");
        }
    }
}

/// The activities of the test, each of which one of two nodes takes.
const TAKEN: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_beside_a_backlog_is_told_to_one_node() {
    let settings = [("log_statement", "all"), ("log_line_prefix", "'%a '")];
    let Some(cluster) = Cluster::start(&settings) else { return };
    let schema = Schema::new(&cluster.url(), "beside");
    let (mut nodes, mut claims) = (Vec::new(), [0, 0]);
    for _ in 0..2 {
        let provider = schema.connect();
        let node = Node::join(&provider, Some(vec!["served".to_owned()])).await;
        nodes.push((provider.wakeups().subscribe(), provider, node));
    }
    let provider = schema.connect();
    let lease = provider.join(&info()).await.expect("join");
    provider.acquire(&lease, Want::new(at(3))).await.expect("it has read the members");
    let (owned, submission) = start("owned", Some(lease));
    provider.submit(vec![submission]).await.expect("submit").remove(0).expect("started");
    schema.execute(BACKLOG);
    schema.execute("DELETE FROM activities WHERE call > 20000");
    // After a while, the sender looks whether its work was taken.
    let mut looks = cluster.follow_log("SELECT t.n FROM unnest($1::text[], $2::text[]) WITH ORDINALITY");
    for n in 0..TAKEN {
        let activity = NewActivity::new(CallId(n), EventId(n + 1), "work");
        let turn = Turn { activities: vec![activity], ..Turn::new(owned.first_execution(), EventId(n), at(2)) };
        let event = EventRow { id: EventId(n + 1), ..event() };
        let write = Write::Turn(Box::new(Turn { events: vec![event], ..turn }));
        let commit = Arc::new(Commit { id: CommitId::new(), write });
        provider.commit(&lease, vec![commit]).await.expect("commit").remove(0).expect("committed");
        let mut is_taken = false;
        while !is_taken {
            let signals = nodes.iter_mut().map(|(signals, ..)| Box::pin(signals.changed()));
            let (_, told, _) = select_all(signals).await;
            let (_, provider, node) = &nodes[told];
            let acquired = provider.acquire(&node.lease, node.want(claims[told])).await.expect("acquire");
            claims[told] = acquired.claim;
            is_taken = !acquired.activities.is_empty();
        }
        looks.recv().await.expect("the server runs");
    }
    let sent =
        cluster.log().lines().filter(|line| line.contains("\"changed\"") && line.contains("\"work\":true")).count();
    let most = usize::try_from(TAKEN * 3 / 2).expect("small");
    // A node of a busy machine may be so late that another one is told.
    assert!(sent < most, "{sent} notifications of {TAKEN} activities");
}

fn event() -> EventRow {
    let (id, payload) = (EventId(1), duroxide::Payload::NULL);
    EventRow { id, time: at(1), decision: true, format: 1, data: "1".to_owned(), payload, at: None }
}
