//! Requests of clients.

use super::fixture::*;
use super::list;
use crate::history::Parent;
use crate::id::{CallId, CommitId};
use crate::provider::*;

list![
    a_start_is_kept_with_all_its_parts,
    a_start_that_is_sent_again_is_done_already,
    a_taken_id_is_an_error,
    a_start_with_attach_finds_the_instance,
    a_finished_instance_is_replaced,
    an_eager_start_without_a_lease_is_queued,
    a_message_that_is_sent_again_is_one_message,
    a_message_to_no_live_instance_is_refused,
    a_refused_message_that_was_resent_is_refused_for_good,
    resuming_a_running_instance_does_nothing,
    an_instance_is_terminated_regardless_of_its_owner,
    a_suspended_instance_is_terminated,
    a_termination_of_another_state_conflicts,
    an_unread_message_is_dropped,
    bad_submissions_do_not_harm_their_neighbours;
    with_admin:
    a_start_that_is_sent_again_after_the_removal_starts_nothing,
    a_refused_start_that_was_resent_starts_nothing_later,
    a_repeated_termination_does_not_touch_a_later_instance,
];

async fn a_start_is_kept_with_all_its_parts(world: World) {
    let new = NewInstance {
        version: Some(v1()),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        parent: Some(Parent { execution: execution("p", 3), call: CallId(4) }),
        ..new_instance("i")
    };
    world.start_new(new.clone()).await;
    let record = world.record("i").await;
    assert_eq!((&record.name, &record.version, &record.labels), (&new.name, &new.version, &new.labels));
    assert_eq!((record.execution, record.parent), (execution("i", 1), new.parent));
    assert_eq!((record.status, record.created_at, record.finished_at), (InstanceStatus::Running, at(1), None));
}

async fn a_start_that_is_sent_again_is_done_already(world: World) {
    let new = world.start("i").await;
    for policy in [IfExists::Error, IfExists::Attach, IfExists::Replace] {
        let again = world.submit(start(new.clone(), policy, None)).await;
        assert_eq!(again, Ok(unowned("i")));
    }
    let node = world.join().await;
    assert_eq!(node.acquire(want(at(3))).await.instances[0].messages.len(), 1);
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    let again = world.submit(start(new, IfExists::Replace, None)).await;
    assert_eq!(again, Ok(unowned("i")));
    assert_eq!(world.record("i").await.status, InstanceStatus::Completed, "a start runs once");
}

async fn a_start_that_is_sent_again_after_the_removal_starts_nothing(world: World) {
    let node = world.join().await;
    let finish = async |new: &NewInstance| {
        node.turn(turn_of(new, ending("i", 1, 0, completed()))).await.expect("finish");
    };
    let again = |new: &NewInstance| world.submit(start(new.clone(), IfExists::Replace, Some(node.lease)));
    let written = |started: Result<Submitted, _>| started.is_ok_and(|submitted| submitted.written);
    let first = world.start_owned(&node, "i").await;
    finish(&first).await;
    let second = eager(another("i"));
    assert!(written(again(&second).await));
    finish(&second).await;
    assert!(written(again(&first).await), "it was replaced");
    assert_eq!(world.record("i").await.execution, second.first_execution());
    world.delete("i").await;
    assert!(written(again(&second).await), "it was deleted");
    assert!(world.find("i").await.is_none());
}

/// Marks a submission as sent before, without an answer.
fn resent(mut submission: Submission) -> Submission {
    submission.mark_resent();
    submission
}

async fn a_refused_start_that_was_resent_starts_nothing_later(world: World) {
    let node = world.join().await;
    let refused = Err(SubmitError::Exists(InstanceStatus::Running));
    let answer = |started: Result<Submitted, _>| started.map(|started| started.written);
    for (policy, answered) in
        [(IfExists::Error, refused.clone()), (IfExists::Replace, refused), (IfExists::Attach, Ok(false))]
    {
        let name = format!("{policy:?}");
        world.start_owned(&node, &name).await;
        let first = start(another(&name), policy, None);
        for _ in 0..2 {
            assert_eq!(answer(world.submit(resent(first.clone())).await), answered);
        }
        node.turn(ending(&name, 1, 0, completed())).await.expect("finish");
        world.delete(&name).await;
        assert_eq!(answer(world.submit(first).await), answered, "the first request arrives late");
        assert!(world.find(&name).await.is_none());
    }
}

async fn a_taken_id_is_an_error(world: World) {
    world.start("i").await;
    for policy in [IfExists::Error, IfExists::Replace] {
        let taken = world.submit(start(another("i"), policy, None)).await;
        assert_eq!(taken, Err(SubmitError::Exists(InstanceStatus::Running)));
    }
}

async fn a_start_with_attach_finds_the_instance(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let attached = world.submit(start(another("i"), IfExists::Attach, None)).await;
    assert_eq!(attached, Ok(Submitted { written: false, ..node.owned("i") }));
}

async fn a_finished_instance_is_replaced(world: World) {
    let node = with_activity(&world, "i").await;
    node.turn(ending("i", 1, 2, Then::Finish { status: InstanceStatus::Failed })).await.expect("finish");
    let taken = world.submit(start(another("i"), IfExists::Error, None)).await;
    assert_eq!(taken, Err(SubmitError::Exists(InstanceStatus::Failed)));
    let new = another("i");
    let replaced = world.submit(start(new.clone(), IfExists::Replace, None)).await;
    assert_eq!(replaced, Ok(Submitted { identity: Some(new.start.id.into()), ..unowned("i") }));
    let record = world.record("i").await;
    assert_eq!((record.status, record.outcome), (InstanceStatus::Running, None));
    assert!(world.history("i", 1).await.is_empty());
}

async fn an_eager_start_without_a_lease_is_queued(world: World) {
    let node = world.join().await;
    let started = world.submit(start(eager(new_instance("a")), IfExists::Error, None)).await;
    assert_eq!(started, Ok(unowned("a")));
    node.provider.leave(&node.lease).await.expect("leave");
    let started = world.submit(start(eager(new_instance("b")), IfExists::Error, Some(node.lease))).await;
    assert_eq!(started, Ok(unowned("b")));
    assert_eq!(world.join().await.acquire(want(at(3))).await.instances.len(), 2);
}

async fn a_message_that_is_sent_again_is_one_message(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let sent = message("hello");
    assert_eq!(world.send("i", sent.clone()).await, Ok(Submitted { number: Some(2), ..node.owned("i") }));
    assert_eq!(world.send("i", sent.clone()).await, Ok(node.owned("i")), "while it is unread");
    assert_eq!(data(&node.load("i").await.messages), ["start", "hello"]);
    node.turn(Turn { consumed: vec![sent.id], ..ending("i", 1, 0, Then::Continue) }).await.expect("turn");
    assert_eq!(world.send("i", sent.clone()).await, Ok(node.owned("i")), "once it is read");
    assert_eq!(data(&node.load("i").await.messages), ["start"]);
    world.send("i", message("unread")).await.expect("send");
    node.turn(ending("i", 1, 1, completed())).await.expect("finish");
    assert!(world.send("i", sent).await.is_ok(), "once the instance has finished");
}

async fn a_message_to_no_live_instance_is_refused(world: World) {
    let node = world.join().await;
    assert_eq!(world.send("none", message("hello")).await, Err(SubmitError::NotFound));
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, Then::Finish { status: InstanceStatus::Cancelled })).await.expect("finish");
    let refused = world.send("i", message("hello")).await;
    assert_eq!(refused, Err(SubmitError::Finished(InstanceStatus::Cancelled)));
}

async fn a_refused_message_that_was_resent_is_refused_for_good(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "finished").await;
    node.turn(ending("finished", 1, 0, completed())).await.expect("finish");
    for (name, refused) in
        [("none", SubmitError::NotFound), ("finished", SubmitError::Finished(InstanceStatus::Completed))]
    {
        let sent = Submission::Send(send_request(name, message("late")));
        for _ in 0..2 {
            assert_eq!(world.submit(resent(sent.clone())).await, Err(refused.clone()));
        }
        world.submit(start(another(name), IfExists::Replace, None)).await.expect("another takes the id");
        assert_eq!(world.submit(sent).await, Err(refused), "the first request arrives late");
    }
    let instances = node.acquire(want(at(3))).await.instances;
    assert_eq!(instances.iter().map(|instance| instance.messages.len()).collect::<Vec<_>>(), [1, 1]);
}

async fn resuming_a_running_instance_does_nothing(world: World) {
    assert_eq!(world.resume("none").await, Err(SubmitError::NotFound));
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let nothing = |answer| Ok(Submitted { written: false, ..answer });
    assert_eq!(world.resume("i").await, nothing(node.owned("i")));
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    assert_eq!(world.resume("i").await, nothing(unowned("i")));
}

fn terminate(id: CommitId, turn: Turn) -> Submission {
    Submission::Terminate { id, turn: Box::new(turn) }
}

fn terminated(name: &str, number: u64, after: u64) -> Turn {
    ending(name, number, after, Then::Finish { status: InstanceStatus::Terminated })
}

async fn an_instance_is_terminated_regardless_of_its_owner(world: World) {
    let node = with_activity(&world, "i").await;
    world.start("parent").await;
    let turn = Turn { messages: vec![outgoing("parent", "it has ended")], ..terminated("i", 1, 2) };
    let commit = CommitId::new();
    for _ in 0..2 {
        let done = world.submit(terminate(commit, turn.clone())).await;
        assert_eq!(done, Ok(unowned("i")));
    }
    let record = world.record("i").await;
    assert_eq!((record.status, record.owner), (InstanceStatus::Terminated, None));
    assert_eq!(node.turn(ending("i", 1, 2, Then::Continue)).await, Err(CommitError::Fenced));
    let told = node.acquire(want(at(3))).await;
    assert_eq!(told.cancelled, [activity_id("i", 1, 1)], "also for the node that owned the instance");
    assert_eq!(data(&told.instances[0].messages), ["start", "it has ended"]);
    let late = world.submit(terminate(CommitId::new(), terminated("i", 1, 3))).await;
    assert_eq!(late, Err(SubmitError::Finished(InstanceStatus::Terminated)));
}

async fn a_suspended_instance_is_terminated(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(Turn { then: suspended(), ..turn("i", 1, 0) }).await.expect("suspend");
    assert!(world.submit(terminate(CommitId::new(), terminated("i", 1, 0))).await.is_ok());
    let record = world.record("i").await;
    assert_eq!((record.status, record.suspension), (InstanceStatus::Terminated, None));
}

async fn a_termination_of_another_state_conflicts(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, Then::Continue)).await.expect("turn");
    for turn in [terminated("i", 1, 0), terminated("i", 2, 1)] {
        assert_eq!(world.submit(terminate(CommitId::new(), turn)).await, Err(SubmitError::Conflict));
    }
    let none = world.submit(terminate(CommitId::new(), terminated("none", 1, 0))).await;
    assert_eq!(none, Err(SubmitError::NotFound));
    assert_eq!(world.record("i").await.status, InstanceStatus::Running);
}

async fn a_repeated_termination_does_not_touch_a_later_instance(world: World) {
    let commit = CommitId::new();
    world.start("i").await;
    let terminate = || terminate(commit, terminated("i", 1, 0));
    assert_eq!(world.submit(terminate()).await, Ok(unowned("i")));
    assert_eq!(world.record("i").await.status, InstanceStatus::Terminated);
    world.delete("i").await;
    assert_eq!(world.submit(terminate()).await, Ok(Submitted { identity: None, ..unowned("i") }));
    let node = world.join().await;
    let new = eager(another("i"));
    world.submit(start(new.clone(), IfExists::Error, Some(node.lease))).await.expect("start");
    let later = Submitted { identity: Some(new.start.id.into()), ..node.owned("i") };
    assert_eq!(world.submit(terminate()).await, Ok(later), "the answer shows the instance that has the id");
    assert_eq!(world.record("i").await.status, InstanceStatus::Running);
}

async fn an_unread_message_is_dropped(world: World) {
    let drop = async |name: &str, message| world.submit(Submission::Drop { instance: id(name), message }).await;
    let nothing = |answer| Ok(Submitted { written: false, ..answer });
    let (bad, good) = (message("bad"), message("good"));
    assert_eq!(drop("none", bad.id).await, Err(SubmitError::NotFound));
    let new = world.start("i").await;
    for sent in [&bad, &good] {
        world.send("i", sent.clone()).await.expect("send");
    }
    let answer = MessageRow { call: Some(CallId(1)), execution: Some(1), ..message("answer") };
    let node = world.join().await;
    world.start_owned(&node, "other").await;
    let send = Outgoing { message: answer.clone(), ..outgoing("i", "") };
    node.turn(Turn { messages: vec![send], ..ending("other", 1, 0, Then::Continue) }).await.expect("turn");
    for kept in [new.start.id, answer.id] {
        assert_eq!(drop("i", kept).await, nothing(unowned("i")), "the instance would wait for it forever");
    }
    assert_eq!(drop("i", bad.id).await, Ok(unowned("i")));
    assert_eq!(drop("i", bad.id).await, nothing(unowned("i")), "it is gone");
    assert_eq!(world.send("i", bad.clone()).await, Ok(unowned("i")), "a request that is sent again");
    let claimed = node.acquire(want(at(3))).await;
    assert_eq!(data(&claimed.instances[0].messages), ["start", "good", "answer"]);
    // The owner may have received the message: its turn is refused.
    assert_eq!(drop("i", good.id).await, Ok(node.owned("i")));
    let reads = Turn { consumed: vec![good.id], ..ending("i", 1, 0, Then::Continue) };
    assert_eq!(node.turn(reads).await, Err(CommitError::Conflict));
    assert_eq!(data(&node.load("i").await.messages), ["start", "answer"]);
}

async fn bad_submissions_do_not_harm_their_neighbours(world: World) {
    let start = |new| start(new, IfExists::Error, None);
    let send = Submission::Send(send_request("none", message("x")));
    let entries = vec![start(new_instance("a")), send, start(another("a")), start(new_instance("b"))];
    let results = world.provider.submit(entries).await.expect("submit");
    let taken = Err(SubmitError::Exists(InstanceStatus::Running));
    let expected = [Ok(unowned("a")), Err(SubmitError::NotFound), taken, Ok(unowned("b"))];
    assert_eq!(results, expected);
    assert!(world.find("b").await.is_some());
}
