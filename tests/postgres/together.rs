//! Requests that concern one item, from several processes at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use duroxide::id::{CommitId, EventId, NodeId};
use duroxide::provider::*;
use duroxide::{InstanceId, Timestamp};
use futures_util::future::join_all;
use semver::Version;

use crate::schema;

pub(crate) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a good id")
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

pub(crate) fn info() -> NodeInfo {
    NodeInfo {
        id: NodeId::new(),
        name: "test".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers { orchestrations: vec![("flow".to_owned(), Version::new(1, 0, 0))], ..Handlers::default() },
        lease_time: Duration::from_secs(3600),
        details: Default::default(),
    }
}

pub(crate) fn want() -> Want {
    let orchestrations = Arc::new([("flow".to_owned(), Version::new(1, 0, 0))]);
    Want { orchestrations, instances: 1000, ..Want::new(at(100)) }
}

pub(crate) fn start(name: &str, lease: Option<Lease>) -> (NewInstance, Submission) {
    let new = NewInstance { eager: lease.is_some(), ..NewInstance::new(id(name), "flow", MessageRow::new("start")) };
    let request = StartRequest { new: new.clone(), if_exists: IfExists::Error, lease, time: at(1), resent: false };
    (new, Submission::Start(request))
}

pub(crate) fn send(name: &str, n: usize) -> Submission {
    let message = MessageRow::new(format!("\"{n}\""));
    Submission::Send(SendRequest { to: id(name), message, lease: None, time: at(2), resent: false })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_concurrent_senders_are_numbered_without_gaps() {
    let Some(schema) = schema("numbers") else { return };
    let providers: Vec<_> = (0..4).map(|_| schema.connect()).collect();
    let lease = providers[0].join(&info()).await.expect("join");
    providers[0].submit(vec![start("i", Some(lease)).1]).await.expect("submit");
    let one = async |n: usize| {
        let sent = providers[n % 4].submit(vec![send("i", n)]).await.expect("submit").remove(0);
        sent.expect("sent").number.expect("the instance has an owner")
    };
    let numbers: BTreeSet<u64> = join_all((0..200).map(one)).await.into_iter().collect();
    assert_eq!(numbers, (2..=201).collect(), "the start has number 1");
    // The mail names the instance with all of them.
    let acquired = providers[0].acquire(&lease, Want::new(at(3))).await.expect("acquire");
    assert_eq!(acquired.instances.len(), 1);
    assert_eq!((acquired.instances[0].arrivals, acquired.instances[0].messages.len()), (201, 201));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_claims_take_each_instance_once_with_its_messages() {
    let Some(schema) = schema("claims") else { return };
    let providers: Vec<_> = (0..3).map(|_| schema.connect()).collect();
    let leases = join_all(providers.iter().map(async |provider| provider.join(&info()).await.expect("join"))).await;
    let starts = (0..50).map(|n| start(&format!("i-{n}"), None).1).collect();
    providers[0].submit(starts).await.expect("submit");
    // Messages arrive while the instances are claimed: an answer has all messages up to its last number.
    let senders = join_all((0..150).map(|n| {
        let provider = &providers[n % 3];
        async move { provider.submit(vec![send(&format!("i-{}", n % 50), n)]).await.expect("submit") }
    }));
    let claims = join_all((0..3).map(|n| {
        let (provider, lease) = (&providers[n], leases[n]);
        async move {
            let (mut claim, mut claimed) = (0, Vec::new());
            for _ in 0..20 {
                let acquired = provider.acquire(&lease, Want { claim, ..want() }).await.expect("acquire");
                claim = acquired.claim;
                for instance in acquired.instances {
                    let count = instance.messages.len() as u64;
                    assert_eq!(count, instance.arrivals, "{:?}", instance.execution);
                    if instance.claim == claim {
                        claimed.push(instance.execution);
                    }
                }
            }
            claimed
        }
    }));
    let (sent, claimed) = tokio::join!(senders, claims);
    assert!(sent.into_iter().flatten().all(|sent| sent.is_ok()));
    let claimed: Vec<BTreeSet<_>> = claimed.into_iter().map(|all| all.into_iter().collect()).collect();
    assert_eq!(claimed.iter().map(BTreeSet::len).sum::<usize>(), 50, "each is claimed by one lease");
}

/// A connection of the test itself, which holds up the transactions of a provider.
pub(crate) struct Obstacle(tokio_postgres::Client);

impl Obstacle {
    pub(crate) async fn connect(schema: &support::schema::Schema) -> Self {
        let url = support::postgres::server().expect("there is a server");
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
        tokio::spawn(connection);
        client.batch_execute(&schema.within("")).await.expect("choose the schema");
        Self(client)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.0.batch_execute(sql).await.expect("execute");
    }

    /// Locks a table, so that a transaction which writes to it waits.
    async fn before(schema: &support::schema::Schema, table: &str) -> Self {
        let obstacle = Self::connect(schema).await;
        obstacle.execute(&format!("BEGIN; LOCK TABLE {table} IN SHARE MODE")).await;
        obstacle
    }

    /// Returns the number that a query returns.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.0.query_one(query, &[]).await.expect("query").get(0)
    }

    /// Waits until a query of this database returns true. The state of the locks cannot be awaited.
    pub(crate) async fn until(&self, query: &str) {
        let is_true = async || {
            // The list of sessions is read once per transaction otherwise.
            self.0.query_one("SELECT pg_stat_clear_snapshot()", &[]).await.expect("query");
            self.0.query_one(query, &[]).await.expect("query").get::<_, bool>(0)
        };
        let reached = async { while !is_true().await {} };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the state is reached");
    }

    /// Waits until a transaction of the connection that waits for locks is held up.
    async fn until_held_up(&self, table: &str) {
        let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE NOT l.granted AND a.application_name = 'duroxide waiting' AND l.relation";
        self.until(&format!("{waits} = '{table}'::regclass)")).await;
    }

    pub(crate) async fn remove(&self) {
        self.execute("COMMIT").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_created_for_a_node_that_leaves_is_not_orphaned() {
    let Some(schema) = schema("orphans") else { return };
    let (provider, other) = (schema.connect(), schema.connect());
    let lease = provider.join(&info()).await.expect("join");
    let obstacle = Obstacle::before(&schema, "labels").await;
    let (new, _) = start("i", Some(lease));
    let labels = [("team".to_owned(), "blue".to_owned())].into();
    let new = NewInstance { labels, ..new };
    let request = StartRequest { new, if_exists: IfExists::Error, lease: Some(lease), time: at(1), resent: false };
    // The transaction has found its node among the members, and has not been committed yet, while the node leaves.
    let leaves = async {
        obstacle.until_held_up("labels").await;
        let waits = async {
            let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory')";
            obstacle.until(waits).await;
            obstacle.remove().await;
        };
        let leave = other.leave(&lease);
        tokio::pin!(leave);
        tokio::select! {
            biased;
            left = &mut leave => {
                obstacle.remove().await;
                return left;
            }
            () = waits => (),
        }
        leave.await
    };
    let (created, left) = tokio::join!(provider.submit(vec![Submission::Start(request)]), leaves);
    left.expect("leave");
    created.expect("submit").remove(0).expect("started");
    let record = provider.instance(&id("i")).await.expect("read").expect("it exists");
    assert_eq!(record.owner, None, "no take-over will ever release it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turn_whose_answer_was_lost_is_repeated_without_effect() {
    let Some(schema) = schema("lost") else { return };
    let Some((proxy, url)) = crate::faults::proxy() else { return };
    let options = schema.options_at(&url);
    let provider = duroxide_postgres::PostgresProvider::connect_with(options).await.expect("connect");
    let lease = provider.join(&info()).await.expect("join");
    let (new, submission) = start("i", Some(lease));
    provider.submit(vec![submission]).await.expect("submit").remove(0).expect("started");
    let turn = |last: u64, consumed| {
        let id = EventId(last + 1);
        let (data, payload) = ("{}".to_owned(), duroxide::Payload::NULL);
        let event = EventRow { id, time: at(2), decision: false, format: 1, data, payload, at: None };
        let turn = Turn::new(new.first_execution(), EventId(last), at(2));
        let write = Write::Turn(Box::new(Turn { events: vec![event], consumed, ..turn }));
        Arc::new(Commit { id: CommitId::new(), write })
    };
    // The connection that waits for locks prepares its statements in a first turn: the statements of the second one are on
    // their way together, and only the first of them is held up.
    let first = turn(0, vec![new.start.id]);
    let obstacle = Obstacle::before(&schema, "events").await;
    let goes_on = async {
        obstacle.until_held_up("events").await;
        obstacle.remove().await;
    };
    let (committed, ()) = tokio::join!(provider.commit(&lease, vec![first]), goes_on);
    committed.expect("commit").remove(0).expect("committed");
    let commit = turn(1, Vec::new());
    let obstacle = Obstacle::before(&schema, "events").await;
    let loses = async {
        obstacle.until_held_up("events").await;
        proxy.stall();
        obstacle.remove().await;
        // Its answer is on its way.
        obstacle.until("SELECT last_event = 2 FROM live").await;
        proxy.drop_connections();
        proxy.resume();
    };
    let (committed, ()) = tokio::join!(provider.commit(&lease, vec![commit.clone()]), loses);
    assert!(committed.is_err_and(|error| error.is_retryable()), "the outcome is not known");
    let again = provider.commit(&lease, vec![commit]).await.expect("commit").remove(0).expect("committed");
    assert!(again.repeated);
}

#[tokio::test]
async fn nodes_that_were_silent_in_an_outage_get_time_to_renew() {
    let Some(schema) = schema("silence") else { return };
    let (first, second) = (schema.connect(), schema.connect());
    let leases = [first.join(&info()).await.expect("join"), second.join(&info()).await.expect("join")];
    let holds = async |provider: &duroxide_postgres::PostgresProvider, lease: &Lease| {
        matches!(provider.renew(lease, &NodeReport::default()).await.expect("renew"), Renewal::Held { .. })
    };
    schema.execute("UPDATE nodes SET expires_at = now() - interval '1 hour'");
    for _ in 0..3 {
        assert!(holds(&first, &leases[0]).await);
    }
    assert!(holds(&second, &leases[1]).await, "it is only suspected, and has not been taken over");
    // Suspected for longer than the time of grace, but it has renewed since.
    schema.execute("UPDATE nodes SET suspected_at = now() - interval '1 hour'");
    assert!(holds(&first, &leases[0]).await && holds(&second, &leases[1]).await);
    schema.execute("UPDATE nodes SET suspected_at = now() - interval '1 hour', expires_at = now() - interval '1 hour'");
    assert!(holds(&first, &leases[0]).await, "a renewal comes before the look at others");
    assert!(!holds(&second, &leases[1]).await, "it was silent for the time of grace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_instance_delays_only_its_own_requests() {
    let Some(schema) = schema("locks") else { return };
    let provider = schema.connect();
    provider.submit(vec![start("locked", None).1, start("free", None).1]).await.expect("submit");
    let url = support::postgres::server().expect("there is a server");
    let (user, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    user.batch_execute(&schema.within("BEGIN; SELECT 1 FROM live WHERE id = 'locked' FOR UPDATE")).await.expect("lock");
    let waits = provider.submit(vec![send("locked", 0)]);
    tokio::pin!(waits);
    let passes = async {
        for n in 0..20 {
            provider.submit(vec![send("free", n)]).await.expect("submit").remove(0).expect("sent");
        }
    };
    tokio::select! {
        biased;
        _ = &mut waits => panic!("the instance is locked"),
        () = passes => (),
    }
    user.batch_execute("COMMIT").await.expect("commit");
    waits.await.expect("submit").remove(0).expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_one_call_keep_their_order() {
    let Some(schema) = schema("order") else { return };
    let provider = schema.connect();
    for n in 0..40 {
        let name = format!("i-{n}");
        let (new, submission) = start(&name, None);
        let then = Then::Finish { status: InstanceStatus::Terminated };
        let turn = Turn { then, ..Turn::new(new.first_execution(), EventId(0), at(1)) };
        let end = Submission::Terminate { id: CommitId::new(), turn: Box::new(turn) };
        let new = start(&name, None).0;
        let replace = StartRequest { new, if_exists: IfExists::Replace, lease: None, time: at(1), resent: false };
        // The replacement waits for locks in another lane, where the later entries follow it.
        let entries = vec![submission, end, Submission::Start(replace), send(&name, 1), send(&name, 2)];
        let results = provider.submit(entries).await.expect("submit");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
}
