//! Claims whose answer is lost, and requests that arrive late or twice.

use std::sync::Arc;

use futures_util::future::join_all;

use super::fixture::*;
use super::list;
use crate::provider::*;

list![
    a_claim_is_counted_once,
    concurrent_requests_claim_each_item_once,
    concurrent_requests_of_a_lease_make_one_claim,
    a_claim_with_a_lost_answer_is_returned_again,
    a_repeated_claim_leaves_out_items_that_were_released,
    a_repeated_claim_brings_each_instance_once,
    a_late_request_claims_nothing,
    a_claim_of_another_lease_is_not_repeated,
    a_request_of_a_lease_that_was_lost_claims_nothing,
];

/// Leaves an instance and an activity without an owner.
async fn leave_work(world: &World, node: &Member) {
    schedule(world, node, "i", new_activity(1, 2)).await;
    world.start("j").await;
}

async fn a_claim_is_counted_once(world: World) {
    let node = world.join().await;
    assert_eq!(node.acquire(want(at(3))).await.claim, 0, "an answer without new items");
    leave_work(&world, &node).await;
    let first = node.acquire(want(at(3))).await;
    assert_eq!((first.claim, first.instances[0].claim, first.activities[0].claim), (1, 1, 1));
    assert_eq!(node.acquire(want(at(3))).await.claim, 1, "nothing was left to claim");
    world.start("k").await;
    let second = node.acquire(want(at(3))).await;
    assert_eq!((second.claim, names(&second), second.instances[0].claim), (2, vec!["k"], 2));
    assert_eq!(node.load("j").await.claim, 1, "an item keeps its claim");
}

async fn concurrent_requests_claim_each_item_once(world: World) {
    let names: Vec<_> = (0..60).map(|n| format!("i{n}")).collect();
    let starts = names.iter().map(|name| start(new_instance(name), IfExists::Error, None)).collect();
    assert!(world.provider.submit(starts).await.expect("submit").iter().all(Result::is_ok));
    let nodes = [world.join().await, world.join().await, world.join().await];
    let mut claimed = Vec::new();
    while claimed.len() < names.len() {
        let answers = join_all(nodes.iter().map(|node| node.acquire(Want { instances: 7, ..want(at(3)) }))).await;
        for (node, answer) in nodes.iter().zip(answers) {
            for instance in answer.instances {
                let name = instance.execution.instance.to_string();
                assert_eq!(world.record(&name).await.owner, Some(node.lease.epoch), "{name}");
                claimed.push(name);
            }
        }
    }
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), names.len());
}

async fn concurrent_requests_of_a_lease_make_one_claim(world: World) {
    let node = world.join().await;
    let kinds = ["flow", "other"];
    let both: Arc<[_]> = kinds.map(|kind| (kind.to_owned(), v1())).into();
    for n in 0..10 {
        let round = kinds.map(|kind| NewInstance { name: kind.to_owned(), ..new_instance(&format!("{kind}-{n}")) });
        for new in &round {
            world.start_new(new.clone()).await;
        }
        let claim = node.mail().await.claim;
        let of = |kind: &str| Want { orchestrations: Arc::new([(kind.to_owned(), v1())]), claim, ..want(at(3)) };
        let answers = join_all(kinds.map(|kind| node.request(of(kind)))).await;
        let mut owned = Vec::new();
        for NewInstance { instance, .. } in &round {
            if world.record(instance.as_str()).await.owner.is_some() {
                owned.push(instance.as_str());
            }
        }
        for answer in answers.iter().filter(|answer| answer.claim != claim) {
            let mut names = names(answer);
            names.sort_unstable();
            assert_eq!((answer.claim, &names), (claim + 1, &owned), "the answer holds all items of the claim");
        }
        // The first request receives the claim again, and the second one claims the rest.
        for _ in 0..2 {
            node.acquire(Want { orchestrations: both.clone(), ..want(at(3)) }).await;
        }
    }
}

async fn a_claim_with_a_lost_answer_is_returned_again(world: World) {
    let node = world.join().await;
    leave_work(&world, &node).await;
    assert_eq!(node.request(want(at(3))).await.claim, 1);
    world.start("k").await;
    for _ in 0..3 {
        let again = node.request(want(at(3))).await;
        assert_eq!((again.claim, names(&again)), (1, vec!["j"]), "no new item is claimed");
        assert_eq!(data(&again.instances[0].messages), ["start"]);
        let tenures: Vec<_> = again.activities.iter().map(tenure_of).collect();
        assert_eq!(tenures, [tenure("i", 1, 1)]);
        assert!(again.next_due.is_some_and(|due| due <= at(3)), "there may be more");
    }
    let next = node.request(Want { claim: 1, ..want(at(3)) }).await;
    assert_eq!((next.claim, names(&next), next.activities.len()), (2, vec!["k"], 0));
}

async fn a_repeated_claim_leaves_out_items_that_were_released(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    leave_work(&world, &node).await;
    let first = node.request(want(at(3))).await;
    node.commit(retry(tenure_of(&first.activities[0]), 3)).await.expect("retry");
    node.commit(Write::ReleaseInstance { execution: execution("j", 1), claim: 1 }).await.expect("release");
    let taken = other.acquire(want(at(3))).await;
    assert_eq!((names(&taken), taken.activities.len()), (vec!["j"], 1));
    let again = node.request(want(at(3))).await;
    assert_eq!((again.claim, names(&again), again.activities.len()), (1, vec![], 0));
}

async fn a_repeated_claim_brings_each_instance_once(world: World) {
    let node = world.join().await;
    world.start("i").await;
    node.request(want(at(3))).await;
    world.send("i", message("mail")).await.expect("send");
    for heard in [None, Some(1)] {
        let load = vec![Load { instance: id("i"), heard }];
        let again = node.request(Want { load, ..want(at(3)) }).await;
        assert_eq!(names(&again), ["i"], "although the instance has mail and is loaded");
        assert_eq!(data(&again.instances[0].messages), ["start", "mail"]);
    }
}

async fn a_late_request_claims_nothing(world: World) {
    let node = world.join().await;
    for name in ["a", "b", "c"] {
        world.start(name).await;
        if name != "c" {
            assert_eq!(names(&node.acquire(want(at(3))).await), [name]);
        }
    }
    for claim in [0, 1] {
        let late = node.request(Want { claim, ..want(at(3)) }).await;
        assert_eq!((late.claim, names(&late)), (2, vec!["b"]), "the last claim is repeated");
    }
    assert_eq!(world.record("c").await.owner, None);
    assert_eq!(names(&node.acquire(want(at(3))).await), ["c"]);
}

async fn a_claim_of_another_lease_is_not_repeated(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    world.start("i").await;
    assert_eq!(names(&node.request(want(at(3))).await), ["i"]);
    world.start("j").await;
    let taken = other.acquire(want(at(3))).await;
    assert_eq!((taken.claim, names(&taken)), (1, vec!["j"]));
    assert_eq!(names(&node.request(want(at(3))).await), ["i"]);
}

async fn a_request_of_a_lease_that_was_lost_claims_nothing(world: World) {
    let info = info("a");
    let first = world.join_as(&info).await;
    world.start("i").await;
    first.request(want(at(3))).await;
    let again = first.provider.join(&info).await.expect("join again");
    let lost = first.request(want(at(3))).await;
    assert_eq!((names(&lost), lost.activities.len()), (vec![], 0));
    let taken = first.provider.acquire(&again, want(at(3))).await.expect("acquire");
    assert_eq!((taken.claim, names(&taken)), (1, vec!["i"]), "a lease counts its own claims");
}
