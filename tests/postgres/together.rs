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

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a good id")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn info() -> NodeInfo {
    NodeInfo {
        id: NodeId::new(),
        name: "test".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers { orchestrations: vec![("flow".to_owned(), Version::new(1, 0, 0))], ..Handlers::default() },
        lease_time: Duration::from_secs(3600),
    }
}

fn want() -> Want {
    let orchestrations = Arc::new([("flow".to_owned(), Version::new(1, 0, 0))]);
    Want { orchestrations, instances: 1000, ..Want::new(at(100)) }
}

fn start(name: &str, lease: Option<Lease>) -> (NewInstance, Submission) {
    let new = NewInstance { eager: lease.is_some(), ..NewInstance::new(id(name), "flow", MessageRow::new("start")) };
    let request = StartRequest { new: new.clone(), if_exists: IfExists::Error, lease, time: at(1), resent: false };
    (new, Submission::Start(request))
}

fn send(name: &str, n: usize) -> Submission {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_created_for_a_node_that_leaves_is_not_orphaned() {
    let Some(schema) = schema("orphans") else { return };
    let (provider, other) = (schema.connect(), schema.connect());
    for round in 0..10 {
        let lease = provider.join(&info()).await.expect("join");
        let create = async |n: usize| {
            let (new, submission) = start(&format!("i-{round}-{n}"), Some(lease));
            if n.is_multiple_of(2) {
                return provider.submit(vec![submission]).await.map(drop);
            }
            // A first turn, which starts a child.
            let child = NewInstance { eager: true, ..start(&format!("c-{round}-{n}"), None).0 };
            let child = NewChild { new: child, accepted: None, if_taken: MessageRow::new("\"taken\"") };
            let turn = Turn::new(new.first_execution(), EventId(0), at(1));
            let turn = Turn { creates: Some(Box::new(new)), starts: vec![child], ..turn };
            let commit = Commit { id: CommitId::new(), write: Write::Turn(Box::new(turn)) };
            provider.commit(&lease, vec![Arc::new(commit)]).await.map(drop)
        };
        let created = join_all((0..20).map(create));
        let (created, left) = tokio::join!(created, other.leave(&lease));
        left.expect("leave");
        assert!(created.into_iter().all(|created| created.is_ok()));
    }
    let page = Page::new(1000);
    let listed = other.list(&Filter::default(), &page).await.expect("list").instances;
    let orphans: Vec<_> = listed.iter().filter(|record| record.owner.is_some()).collect();
    assert!(orphans.is_empty(), "{orphans:#?}");
}

#[tokio::test]
async fn nodes_that_were_silent_in_an_outage_get_time_to_renew() {
    let Some(schema) = schema("silence") else { return };
    let (first, second) = (schema.connect(), schema.connect());
    let leases = [first.join(&info()).await.expect("join"), second.join(&info()).await.expect("join")];
    let holds = async |provider: &duroxide_postgres::PostgresProvider, lease: &Lease| {
        matches!(provider.renew(lease).await.expect("renew"), Renewal::Held { .. })
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
