//! Nodes that leave, die and join again.

use std::sync::Arc;

use super::fixture::*;
use super::list;
use crate::id::CommitId;
use crate::provider::*;

list![
    epochs_grow,
    a_renewal_returns_how_long_the_lease_holds,
    a_renewal_returns_the_other_members,
    a_node_that_leaves_frees_its_items,
    a_dead_node_is_taken_over,
    a_dead_node_cannot_write,
    a_join_takes_over_the_dead,
    a_node_that_joins_again_has_lost_its_first_lease,
    a_node_that_joins_again_has_not_crashed,
    a_node_that_joins_again_is_not_suspected,
    progress_resets_the_crash_count,
    only_items_in_flight_have_crashed,
    an_item_that_crashes_often_is_claimed_alone,
    an_item_that_crashes_often_is_due_later,
    an_item_that_crashes_alone_is_suspect,
    an_item_that_did_not_crash_alone_is_not_suspect,
    resuming_resets_the_crash_count;
    with_admin:
    nodes_are_listed,
];

async fn epochs_grow(world: World) {
    let (first, second) = (world.join().await, world.join().await);
    assert!(second.lease.epoch > first.lease.epoch);
    second.provider.leave(&second.lease).await.expect("leave");
    assert!(world.join().await.lease.epoch > second.lease.epoch, "also after the last one has left");
    assert_eq!(second.renew().await, Renewal::Lost);
    assert!(first.holds().await);
}

async fn a_renewal_returns_how_long_the_lease_holds(world: World) {
    let node = world.join().await;
    let Renewal::Held { valid_for, others } = node.renew().await else { panic!("the lease is lost") };
    assert!(!valid_for.is_zero());
    assert_eq!(others, Others::default());
}

async fn a_renewal_returns_the_other_members(world: World) {
    let (node, second, third) = (world.join().await, world.join().await, world.join().await);
    let stranger = world.join_as(&info("another build")).await;
    let others = async || match node.renew().await {
        Renewal::Held { others, .. } => others,
        Renewal::Lost => panic!("the lease is lost"),
    };
    let waiting = |waiting_turns| NodeReport { waiting_turns, ..NodeReport::default() };
    assert_eq!(others().await, Others { nodes: 3, peers: 2, waiting_turns: 0 });
    second.renew_with(&waiting(5)).await;
    third.renew_with(&waiting(7)).await;
    node.renew_with(&waiting(100)).await;
    stranger.renew_with(&waiting(1000)).await;
    assert_eq!(others().await, Others { nodes: 3, peers: 2, waiting_turns: 12 });
    second.provider.leave(&second.lease).await.expect("leave");
    assert_eq!(others().await, Others { nodes: 2, peers: 1, waiting_turns: 7 });
    third.die();
    assert_eq!(others().await, Others { nodes: 1, peers: 0, waiting_turns: 0 });
}

async fn a_node_that_leaves_frees_its_items(world: World) {
    let node = with_activity(&world, "i").await;
    world.send("i", message("unread")).await.expect("send");
    node.provider.leave(&node.lease).await.expect("leave");
    let acquired = world.join().await.acquire(want(at(3))).await;
    assert_eq!((acquired.instances.len(), acquired.instances[0].crashes), (1, 0));
    assert_eq!((acquired.activities.len(), acquired.activities[0].crashes), (1, 0));
    assert_eq!(node.commit(outcome(tenure("i", 1, 0))).await, Err(CommitError::Fenced));
}

/// Kills a node that owns an activity and an instance with an unread message. Returns its lease and another node.
async fn after_a_crash(world: &World) -> (Lease, Member) {
    let node = with_activity(world, "i").await;
    world.send("i", message("unread")).await.expect("send");
    let survivor = world.join().await;
    let lease = node.die();
    assert!(survivor.holds().await);
    (lease, survivor)
}

async fn a_dead_node_is_taken_over(world: World) {
    let (_, survivor) = after_a_crash(&world).await;
    assert_eq!(world.record("i").await.owner, None);
    let acquired = survivor.acquire(want(at(3))).await;
    assert_eq!((acquired.instances.len(), acquired.instances[0].crashes), (1, 1));
    assert_eq!((acquired.activities.len(), acquired.activities[0].crashes), (1, 1));
    assert_eq!(acquired.activities[0].attempt, 1, "a crash is not an attempt");
    assert!(!acquired.instances[0].suspect && !acquired.activities[0].suspect);
}

async fn a_dead_node_cannot_write(world: World) {
    let (dead, survivor) = after_a_crash(&world).await;
    for write in [
        Write::Turn(Box::new(ending("i", 1, 2, Then::Continue))),
        outcome(tenure("i", 1, 0)),
        retry(tenure("i", 1, 0), 1),
        Write::ReleaseInstance { execution: execution("i", 1), claim: 0 },
    ] {
        let result = survivor.commit_with(&dead, CommitId::new(), write.clone()).await;
        assert_eq!(result, Err(CommitError::Fenced), "{write:?}");
    }
    assert_eq!(survivor.provider.renew(&dead, &NodeReport::default()).await.expect("renew"), Renewal::Lost);
    let nothing = survivor.provider.acquire(&dead, want(at(3))).await.expect("acquire");
    assert!(nothing.instances.is_empty() && nothing.activities.is_empty());
}

async fn a_join_takes_over_the_dead(world: World) {
    let node = with_activity(&world, "i").await;
    node.die();
    let acquired = world.join().await.acquire(want(at(3))).await;
    assert_eq!((acquired.activities.len(), acquired.activities[0].crashes), (1, 1));
}

async fn a_node_that_joins_again_has_lost_its_first_lease(world: World) {
    let node = info("a");
    let first = world.join_as(&node).await;
    schedule(&world, &first, "i", NewActivity { eager: true, ..new_activity(1, 2) }).await;
    let again = first.provider.join(&node).await.expect("join again");
    assert!(again.epoch > first.lease.epoch);
    assert_eq!(first.renew().await, Renewal::Lost);
    assert_eq!(first.turn(ending("i", 1, 2, Then::Continue)).await, Err(CommitError::Fenced));
    let acquired = first.provider.acquire(&again, want(at(3))).await.expect("acquire");
    assert_eq!((acquired.activities.len(), acquired.activities[0].crashes), (1, 0), "it has not died");
    assert!(world.nodes().await.is_none_or(|nodes| nodes.len() == 1));
}

async fn a_node_that_joins_again_has_not_crashed(world: World) {
    let node = info("a");
    let first = world.join_as(&node).await;
    schedule(&world, &first, "i", NewActivity { eager: true, ..new_activity(1, 2) }).await;
    world.send("i", message("unread")).await.expect("send");
    let survivor = world.join().await;
    first.die();
    assert!(survivor.holds().await);
    let again = world.join_as(&node).await;
    let acquired = again.acquire(want(at(3))).await;
    assert_eq!((acquired.instances.len(), acquired.instances[0].crashes), (1, 0));
    assert_eq!((acquired.activities.len(), acquired.activities[0].crashes), (1, 0));
    again.die();
    let acquired = world.join().await.acquire(want(at(3))).await;
    assert_eq!(acquired.activities[0].crashes, 1, "it has died now");
}

async fn a_node_that_joins_again_is_not_suspected(world: World) {
    world.start("i").await;
    crash_often(&world).await;
    let alone = Want { alone: true, ..want(at(3)) };
    for _ in QUARANTINE..CRASH_LIMIT - 1 {
        let node = world.join().await;
        assert_eq!(node.acquire(alone.clone()).await.instances.len(), 1);
        node.die();
    }
    let node = info("a");
    let last = world.join_as(&node).await;
    assert_eq!(last.acquire(alone.clone()).await.instances.len(), 1);
    let survivor = world.join().await;
    last.die();
    assert!(survivor.holds().await);
    world.join_as(&node).await;
    let acquired = survivor.acquire(alone).await.instances;
    assert_eq!((acquired[0].crashes, acquired[0].suspect), (CRASH_LIMIT - 1, false));
}

async fn progress_resets_the_crash_count(world: World) {
    let (_, survivor) = after_a_crash(&world).await;
    let acquired = survivor.acquire(want(at(3))).await;
    assert_eq!(acquired.instances[0].crashes, 1);
    survivor.turn(ending("i", 1, 2, Then::Continue)).await.expect("turn");
    survivor.commit(retry(tenure_of(&acquired.activities[0]), 1)).await.expect("retry");
    survivor.release("i").await;
    let acquired = survivor.acquire(want(at(3))).await;
    assert_eq!((acquired.instances[0].crashes, acquired.activities[0].crashes), (0, 0));
}

async fn only_items_in_flight_have_crashed(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "idle").await;
    node.turn(Turn { consumed: vec![new.start.id], ..ending("idle", 1, 0, Then::Continue) }).await.expect("turn");
    let mut delayed = NewInstance { eager: true, ..new_instance("later") };
    delayed.start.visible_at = Some(at(9_000_000_000)); // in the year 2255, after the take-over by any clock
    world.submit(start(delayed, IfExists::Error, Some(node.lease))).await.expect("start");
    node.die();
    let survivor = world.join().await;
    world.send("idle", message("wake up")).await.expect("send");
    let acquired = survivor.acquire(want(at(9_000_000_001))).await.instances;
    assert_eq!(acquired.iter().map(|instance| instance.crashes).collect::<Vec<_>>(), [0, 0]);
}

async fn an_item_that_crashes_often_is_claimed_alone(world: World) {
    world.start("i").await;
    crash_often(&world).await;
    let node = world.join().await;
    world.start("innocent").await;
    let beside_others = node.acquire(Want { instances: 0, activities: Vec::new(), ..want(at(3)) }).await;
    assert!(beside_others.instances.is_empty());
    let first = node.acquire(Want { alone: true, ..want(at(3)) }).await;
    assert_eq!(first.instances.len(), 1, "the item is claimed alone");
    assert_eq!((&first.instances[0].execution, first.instances[0].crashes), (&execution("i", 1), QUARANTINE));
    assert!(!first.instances[0].suspect);
    let second = node.acquire(want(at(3))).await;
    assert_eq!(second.instances[0].execution, execution("innocent", 1));
}

async fn an_item_that_crashes_often_is_due_later(world: World) {
    let new = new_instance("i");
    let start = MessageRow { visible_at: Some(at(3)), ..new.start.clone() };
    world.start_new(NewInstance { start, ..new }).await;
    crash_often(&world).await;
    let node = world.join().await;
    // The clock of this node shows an earlier time than those of the others.
    let next_due = async |alone| {
        let acquired = node.acquire(Want { alone, ..want(at(1)) }).await;
        assert!(acquired.instances.is_empty());
        acquired.next_due
    };
    assert_eq!((next_due(true).await, next_due(false).await), (Some(at(3)), None));
}

async fn an_item_that_crashes_alone_is_suspect(world: World) {
    let node = world.join().await;
    schedule(&world, &node, "i", new_activity(1, 2)).await;
    node.release("i").await;
    crash_often(&world).await;
    for crashes in QUARANTINE..CRASH_LIMIT {
        let node = world.join().await;
        assert!(node.acquire(want(at(3))).await.activities.is_empty(), "the item is not claimed beside others");
        let alone = node.acquire(Want { alone: true, ..want(at(3)) }).await.activities;
        assert_eq!(alone.iter().map(|it| (it.crashes, it.suspect)).collect::<Vec<_>>(), [(crashes, false)]);
        node.die();
    }
    let node = world.join().await;
    let suspect = node.acquire(want(at(3))).await.activities;
    assert!(suspect[0].suspect, "any node may claim it to park it");
    node.commit(park(tenure_of(&suspect[0]))).await.expect("park");
    world.resume("i").await.expect("resume");
    let resumed = node.acquire(want(at(9))).await.activities;
    assert_eq!((resumed[0].crashes, resumed[0].suspect), (0, false));
}

async fn an_item_that_did_not_crash_alone_is_not_suspect(world: World) {
    world.start("i").await;
    crash_often(&world).await;
    let node = world.join().await;
    assert_eq!(node.acquire(Want { alone: true, ..want(at(3)) }).await.instances.len(), 1);
    node.provider.leave(&node.lease).await.expect("leave");
    let node = world.join().await;
    let acquired = node.acquire(Want { alone: true, ..want(at(3)) }).await.instances;
    assert_eq!((acquired[0].crashes, acquired[0].suspect), (QUARANTINE, false));
    node.turn(ending("i", 1, 0, Then::Continue)).await.expect("progress");
    node.die();
    let acquired = world.join().await.acquire(want(at(3))).await.instances;
    assert_eq!((acquired[0].crashes, acquired[0].suspect), (1, false), "it had made progress before");
}

async fn resuming_resets_the_crash_count(world: World) {
    world.start("i").await;
    crash_often(&world).await;
    let node = world.join().await;
    assert_eq!(node.acquire(Want { alone: true, ..want(at(3)) }).await.instances.len(), 1);
    node.turn(Turn { then: suspended(), ..turn("i", 1, 0) }).await.expect("suspend");
    world.resume("i").await.expect("resume");
    assert_eq!(node.acquire(want(at(9))).await.instances[0].crashes, 0);
}

async fn nodes_are_listed(world: World) {
    let mut info = info("b");
    info.handlers.tags = Some(vec!["gpu".to_owned()]);
    let node = world.join_as(&info).await;
    schedule(&world, &node, "i", NewActivity { eager: true, ..new_activity(1, 2) }).await;
    let nodes = world.admin().nodes().await.expect("nodes");
    assert_eq!(nodes.len(), 1);
    let record = &nodes[0];
    assert_eq!((record.epoch, record.instances, record.activities), (node.lease.epoch, 1, 1));
    assert_eq!((record.info.id, &record.info.name, &record.info.build), (info.id, &info.name, &info.build));
    assert_eq!((&record.info.handlers, record.info.lease_time), (&info.handlers, info.lease_time));
    let _: Arc<dyn Provider> = node.provider.clone();
    node.provider.leave(&node.lease).await.expect("leave");
    assert!(world.admin().nodes().await.expect("nodes").is_empty());
}
