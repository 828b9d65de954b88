//! Messages: their order, their times, and that each is read once.

use super::fixture::*;
use super::list;
use crate::id::{CallId, MessageId};
use crate::message::Lane;
use crate::provider::*;

list![
    messages_come_in_order,
    a_clock_that_is_set_back_changes_no_order,
    a_delayed_message_comes_before_what_arrived_later,
    a_delayed_message_waits,
    a_message_is_handed_on_to_the_owner,
    the_cursor_hands_on_what_is_new,
    whoever_hands_over_is_told_what_the_owner_has_to_ask_for,
    a_delayed_message_reaches_an_owned_instance_in_time,
    a_timer_is_taken_back,
    a_message_with_all_its_parts_comes_back,
];

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
    let found = node.acquire(want(at(10))).await;
    assert_eq!(data_for("i", &found), in_order, "to the owner");
    let loaded = node.acquire(Want { load: vec![id("i")], cursor: found.cursor, ..want(at(10)) }).await;
    assert_eq!(data(&loaded.instances[0].messages), in_order, "to the owner, who has lost them");
    node.release("i").await;
    let taken = node.acquire(Want { cursor: found.cursor, ..want(at(10)) }).await;
    assert_eq!(data(&taken.instances[0].messages), in_order, "with the instance");
}

async fn a_delayed_message_comes_before_what_arrived_later(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    world.start_owned(&node, "j").await;
    let due = |n, data| MessageRow { visible_at: Some(at(n)), ..message(data) };
    for message in [due(9, "due 9"), due(5, "due 5"), due(4, "due 4")] {
        world.send("i", message.clone()).await.expect("send");
        world.send("j", MessageRow { id: MessageId::new(), ..message }).await.expect("send");
    }
    // The last was sent with a clock that had been set back: it follows the one before.
    for (time, data) in [(3, "at 3"), (8, "at 8"), (4, "at 4")] {
        world.send_at(at(time), "i", message(data)).await.expect("send");
    }
    // Clocks of those who send to others are of no concern.
    world.send_at(at(4), "j", message("at 4")).await.expect("send");
    let found = node.acquire(want(at(10))).await;
    assert_eq!(data_for("i", &found), ["start", "at 3", "due 4", "due 5", "at 8", "at 4", "due 9"]);
    assert_eq!(data_for("j", &found), ["start", "due 4", "at 4", "due 5", "due 9"]);
    let loaded = node.acquire(Want { load: vec![id("i")], cursor: found.cursor, ..want(at(10)) }).await;
    assert_eq!(data(&loaded.instances[0].messages), data_for("i", &found));
}

/// What was handed on to an instance.
fn data_for<'a>(instance: &str, acquired: &'a Acquired) -> Vec<&'a str> {
    let messages = acquired.messages.iter().filter(|(to, _)| *to == id(instance));
    messages.map(|(_, message)| message.data.as_str()).collect()
}

async fn a_delayed_message_waits(world: World) {
    let node = world.join().await;
    let mut new = new_instance("i");
    new.start.visible_at = Some(at(10));
    world.start_new(new).await;
    let early = node.acquire(want(at(9))).await;
    assert!(early.instances.is_empty());
    assert_eq!(early.next_due, Some(at(10)));
    world.send("i", MessageRow { visible_at: Some(at(20)), ..message("later") }).await.expect("send");
    let acquired = node.acquire(want(at(10))).await;
    assert_eq!(data(&acquired.instances[0].messages), ["start"]);
    let then = node.acquire(Want { cursor: acquired.cursor, ..want(at(11)) }).await;
    assert_eq!(then.next_due, Some(at(20)), "also once it is owned");
}

async fn a_message_is_handed_on_to_the_owner(world: World) {
    let (owner, other) = (world.join().await, world.join().await);
    world.start_owned(&owner, "i").await;
    let sent = world.send("i", message("hello")).await;
    assert_eq!(sent, Ok(Submitted { owner: Some(owner.lease.epoch), execution: 1, written: true, last_found: None }));
    assert!(other.acquire(want(at(3))).await.messages.is_empty());
    let messages = owner.acquire(want(at(3))).await.messages;
    assert!(messages.iter().any(|(instance, message)| *instance == id("i") && message.data == "hello"));
}

async fn the_cursor_hands_on_what_is_new(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let first = node.acquire(want(at(3))).await;
    assert_eq!(first.messages.len(), 1);
    // What is read and removed must not make the next one look old.
    node.turn(Turn { consumed: vec![new.start.id], ..ending("i", 1, 0, Then::Go) }).await.expect("turn");
    world.send("i", message("next")).await.expect("send");
    let second = node.acquire(Want { cursor: first.cursor, ..want(at(3)) }).await;
    let found: Vec<_> = second.messages.iter().map(|(_, message)| message.data.as_str()).collect();
    assert_eq!(found, ["next"]);
    let third = node.acquire(Want { cursor: second.cursor, ..want(at(3)) }).await;
    assert!(third.messages.is_empty());
    assert_eq!(third.cursor, second.cursor);
}

async fn whoever_hands_over_is_told_what_the_owner_has_to_ask_for(world: World) {
    let (owner, other) = (world.join().await, world.join().await);
    world.start_owned(&owner, "i").await;
    let send = async |node: Option<&Member>, message: MessageRow| {
        let lease = node.map(|node| node.lease);
        let sent = world
            .submit(Submission::Send { to: id("i"), message, lease, time: at(2), again: false })
            .await
            .expect("send");
        assert_eq!(sent.owner, Some(owner.lease.epoch));
        sent.last_found
    };
    let found = owner.acquire(want(at(3))).await.cursor.arrival;
    assert_eq!(send(Some(&owner), message("a")).await, None, "nothing but what was handed over");
    send(Some(&other), message("b")).await;
    let last = send(Some(&owner), message("c")).await.expect("one came from elsewhere");
    assert!(last > found, "it was not found yet");
    let found = owner.acquire(want(at(3))).await.cursor.arrival;
    assert!(last <= found, "now it is");
    let again = message("d");
    assert_eq!(send(Some(&owner), again.clone()).await, Some(last));
    send(None, message("e")).await;
    let last = send(Some(&owner), again).await.expect("a message that is sent again is told, too");
    assert!(last > found);
    assert!(last <= owner.acquire(want(at(3))).await.cursor.arrival);
}

async fn a_delayed_message_reaches_an_owned_instance_in_time(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let timer = MessageRow { visible_at: Some(at(10)), call: Some(CallId(1)), ..message("timer") };
    let out = Outgoing { to: id("i"), message: timer };
    node.turn(Turn { messages: vec![out], ..ending("i", 1, 0, Then::Go) }).await.expect("turn");
    let early = node.acquire(want(at(5))).await;
    assert!(early.messages.iter().all(|(_, message)| message.data != "timer"));
    assert_eq!(early.next_due, Some(at(10)));
    let due = node.acquire(Want { cursor: early.cursor, ..want(at(10)) }).await;
    let found: Vec<_> = due.messages.iter().map(|(_, message)| message.data.as_str()).collect();
    assert_eq!(found, ["timer"]);
    let after = node.acquire(Want { cursor: due.cursor, ..want(at(11)) }).await;
    assert!(after.messages.is_empty() && after.next_due.is_none());
}

async fn a_timer_is_taken_back(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    let timer = |call, data| {
        let message =
            MessageRow { visible_at: Some(at(10)), call: Some(CallId(call)), execution: Some(1), ..message(data) };
        Outgoing { to: id("i"), message }
    };
    let first = Turn {
        consumed: vec![new.start.id],
        messages: vec![timer(1, "one"), timer(2, "two")],
        ..ending("i", 1, 0, Then::Go)
    };
    node.turn(first).await.expect("turn");
    let second = Turn { cancelled_messages: vec![CallId(1), CallId(7)], ..ending("i", 1, 1, Then::Go) };
    node.turn(second).await.expect("it is no error when one is not there");
    node.release("i").await;
    let acquired = node.acquire(want(at(11))).await.instances;
    assert_eq!(data(&acquired[0].messages), ["two"]);
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
