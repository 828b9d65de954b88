//! Messages: their numbers, their order and their times.

use futures_util::future::{join, join_all};

use super::fixture::*;
use super::list;
use crate::id::{CallId, MessageId};
use crate::message::Lane;
use crate::provider::*;

list![
    messages_are_numbered_without_gaps,
    concurrent_messages_show_no_gap,
    a_message_with_a_time_has_no_number,
    a_repeated_message_keeps_its_number,
    a_new_execution_continues_the_numbers,
    messages_come_in_order,
    a_clock_that_is_set_back_changes_no_order,
    a_delayed_message_comes_before_later_arrivals,
    a_delayed_start_waits,
    a_cancelled_timer_is_removed,
    a_message_with_all_its_parts_comes_back,
];

fn numbers(instance: &AcquiredInstance) -> Vec<Option<u64>> {
    instance.messages.iter().map(|message| message.number).collect()
}

async fn messages_are_numbered_without_gaps(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let new = world.start_owned(&node, "i").await;
    world.start_owned(&other, "j").await;
    assert_eq!(world.send("i", message("two")).await, Ok(Submitted { number: Some(2), ..node.owned("i") }));
    let to_both = vec![outgoing("i", "three"), outgoing("j", "of j"), outgoing("i", "four")];
    let sent = other.turn(Turn { messages: to_both, ..ending("j", 1, 0, Then::Continue) }).await.expect("turn");
    assert_eq!(sent.messages, [node.placed("i", 3), other.placed("j", 2), node.placed("i", 4)]);
    let refused = Turn { messages: vec![outgoing("i", "no")], ..ending("j", 1, 7, Then::Continue) };
    assert_eq!(other.turn(refused).await, Err(CommitError::Conflict));
    // The numbers of messages that were read and removed are not reused.
    let read = Turn { consumed: vec![new.start.id], messages: vec![outgoing("i", "five")], ..turn("i", 1, 0) };
    assert_eq!(node.turn(read).await.expect("turn").messages, [node.placed("i", 5)]);
    let loaded = node.load("i").await;
    assert_eq!(data(&loaded.messages), ["two", "three", "four", "five"]);
    assert_eq!((numbers(&loaded), loaded.arrivals), (vec![Some(2), Some(3), Some(4), Some(5)], 5));
    node.release("i").await;
    assert_eq!(world.send("i", message("six")).await, Ok(unowned("i")), "only an owner needs the number");
    let claimed = other.acquire(want(at(3))).await.instances;
    assert_eq!((numbers(&claimed[0]).last(), claimed[0].arrivals), (Some(&Some(6)), 6));
}

async fn concurrent_messages_show_no_gap(world: World) {
    const EACH: u64 = 20;
    let owner = world.join().await;
    world.start_owned(&owner, "i").await;
    let senders = [world.join().await, world.join().await, world.join().await];
    let send = async |sender: &Member| {
        let local = world.through(sender);
        let sent = join_all((0..EACH).map(|n| local.send("i", message(&n.to_string())))).await;
        sent.into_iter().map(|sent| sent.expect("send").number.expect("a number")).collect::<Vec<_>>()
    };
    let last = EACH * senders.len() as u64 + 1;
    let watch = async || {
        loop {
            let loaded = owner.load("i").await;
            let seen: Vec<_> = numbers(&loaded).into_iter().flatten().filter(|n| *n <= loaded.arrivals).collect();
            assert_eq!(seen, (1..=loaded.arrivals).collect::<Vec<_>>(), "an answer holds all numbers up to the last");
            if loaded.arrivals == last {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let (sent, ()) = join(join_all(senders.iter().map(send)), watch()).await;
    let mut given = sent.concat();
    given.sort_unstable();
    assert_eq!(given, (2..=last).collect::<Vec<_>>());
}

async fn a_message_with_a_time_has_no_number(world: World) {
    let node = world.join().await;
    let mut delayed = eager(new_instance("i"));
    delayed.start.visible_at = Some(at(2));
    let started = world.submit(start(delayed, IfExists::Error, Some(node.lease))).await;
    assert_eq!(started, Ok(node.owned("i")));
    let timer = MessageRow { visible_at: Some(at(5)), ..message("timer") };
    let messages = vec![Outgoing { message: timer, ..outgoing("i", "") }, outgoing("i", "one")];
    let sent = node.turn(Turn { messages, ..ending("i", 1, 0, Then::Continue) }).await.expect("turn").messages;
    let epoch = node.lease.epoch;
    assert_eq!(sent, [Placement::Owned { epoch, identity: identity("i"), number: None }, node.placed("i", 1)]);
    let loaded = node.load("i").await;
    assert_eq!(data(&loaded.messages), ["start", "one", "timer"]);
    assert_eq!((numbers(&loaded), loaded.arrivals), (vec![None, Some(1), None], 1));
}

async fn a_repeated_message_keeps_its_number(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let sent = message("two");
    assert_eq!(world.send("i", sent.clone()).await, Ok(Submitted { number: Some(2), ..node.owned("i") }));
    world.send("i", message("three")).await.expect("send");
    assert_eq!(world.send("i", sent).await, Ok(node.owned("i")), "the first request has numbered the message");
    let loaded = node.load("i").await;
    assert_eq!((numbers(&loaded), loaded.arrivals), (vec![Some(1), Some(2), Some(3)], 3));
}

async fn a_new_execution_continues_the_numbers(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    world.send("i", message("two")).await.expect("send");
    let next = MessageRow { lane: Lane::Start, execution: Some(2), ..message("next") };
    let messages = vec![Outgoing { message: next, ..outgoing("i", "") }];
    let turn = Turn { messages, ..ending("i", 1, 0, Then::ContinueAsNew { version: None }) };
    assert_eq!(node.turn(turn).await.expect("continue").messages, [node.placed("i", 3)]);
    let loaded = node.load("i").await;
    assert_eq!((loaded.execution.number, loaded.arrivals), (2, 3));
}

async fn messages_come_in_order(world: World) {
    let node = world.join().await;
    world.start("i").await;
    let lane = |lane, data| MessageRow { lane, ..message(data) };
    let due = |n, data| MessageRow { visible_at: Some(at(n)), ..message(data) };
    let sent = [message("b"), lane(Lane::Carried, "a"), due(4, "e"), due(3, "d"), message("c")];
    for message in sent {
        world.send("i", message).await.expect("send");
    }
    let acquired = node.acquire(want(at(9))).await.instances;
    assert_eq!(data(&acquired[0].messages), ["start", "a", "b", "c", "d", "e"]);
}

async fn a_clock_that_is_set_back_changes_no_order(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    for (time, data) in [(9, "a"), (3, "b"), (6, "c"), (8, "d")] {
        world.send_at(at(time), "i", message(data)).await.expect("send");
    }
    let in_order = ["start", "a", "b", "c", "d"];
    assert_eq!(data(&node.mail().await.instances[0].messages), in_order, "mail");
    assert_eq!(data(&node.load("i").await.messages), in_order, "a load");
    assert_eq!(data(&node.load_after("i", Some(2)).await.messages), ["b", "c", "d"], "a load after a number");
    node.release("i").await;
    let taken = node.acquire(want(at(10))).await;
    assert_eq!(data(&taken.instances[0].messages), in_order, "a claim");
}

async fn a_delayed_message_comes_before_later_arrivals(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    world.start_owned(&node, "j").await;
    let due = |n, data| MessageRow { visible_at: Some(at(n)), ..message(data) };
    for message in [due(9, "due 9"), due(5, "due 5"), due(4, "due 4")] {
        world.send("i", message.clone()).await.expect("send");
        world.send("j", MessageRow { id: MessageId::new(), ..message }).await.expect("send");
    }
    // The clock of the last sender was set back: its message still follows the one before.
    for (time, data) in [(3, "at 3"), (8, "at 8"), (4, "at 4")] {
        world.send_at(at(time), "i", message(data)).await.expect("send");
    }
    // The clocks of the senders to one instance have no effect on another.
    world.send_at(at(4), "j", message("at 4")).await.expect("send");
    let in_order = ["start", "at 3", "due 4", "due 5", "at 8", "at 4", "due 9"];
    assert_eq!(data(&node.load("i").await.messages), in_order);
    assert_eq!(data(&node.load("j").await.messages), ["start", "due 4", "at 4", "due 5", "due 9"]);
    node.release("i").await;
    assert_eq!(data(&find(&node.acquire(want(at(10))).await, "i").messages), in_order);
}

async fn a_delayed_start_waits(world: World) {
    let node = world.join().await;
    let mut new = new_instance("i");
    new.start.visible_at = Some(at(10));
    world.start_new(new).await;
    world.send("i", MessageRow { visible_at: Some(at(20)), ..message("later") }).await.expect("send");
    let early = node.acquire(want(at(9))).await;
    assert_eq!((names(&early), early.next_due), (vec![], Some(at(10))));
    let acquired = node.acquire(want(at(10))).await;
    assert_eq!(data(&acquired.instances[0].messages), ["start", "later"]);
    assert_eq!(acquired.next_due, None, "the owner itself waits for the times of its messages");
}

async fn a_cancelled_timer_is_removed(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let timer = |call, data| {
        let message =
            MessageRow { visible_at: Some(at(10)), call: Some(CallId(call)), execution: Some(1), ..message(data) };
        Outgoing { message, ..outgoing("i", "") }
    };
    let first = Turn {
        consumed: vec![new.start.id],
        messages: vec![timer(1, "one"), timer(2, "two")],
        ..ending("i", 1, 0, Then::Continue)
    };
    node.turn(first).await.expect("turn");
    let second = Turn { cancelled_messages: vec![CallId(1), CallId(7)], ..ending("i", 1, 1, Then::Continue) };
    node.turn(second).await.expect("a call without a timer is not an error");
    assert_eq!(data(&node.load("i").await.messages), ["two"]);
}

async fn a_message_with_all_its_parts_comes_back(world: World) {
    let node = world.join().await;
    let name = "żółw 🐢 'quoted\" %_\\ ;--";
    world.start(name).await;
    let sent = MessageRow {
        lane: Lane::Carried,
        execution: Some(1),
        call: Some(CallId(7)),
        visible_at: Some(at(2)),
        format: 3,
        data: "{\"ключ\":\"…\"}".to_owned(),
        payload: text("⚑"),
        ..message("")
    };
    world.send(name, sent.clone()).await.expect("send");
    let acquired = node.acquire(want(at(3))).await.instances;
    assert_eq!(acquired[0].execution, execution(name, 1));
    assert_eq!(acquired[0].messages[1], sent);
}
