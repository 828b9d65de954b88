//! What clients ask for.

use super::fixture::*;
use super::list;
use crate::history::Parent;
use crate::id::{CallId, CommitId};
use crate::provider::*;

list![
    a_start_is_kept_with_all_its_parts,
    a_start_that_is_sent_again_is_done_already,
    a_taken_id_is_an_error,
    a_taken_id_is_attached_to,
    a_finished_instance_is_replaced,
    an_eager_start_without_a_lease_is_queued,
    a_message_that_is_sent_again_is_one_message,
    a_message_to_no_live_instance_is_refused,
    a_message_that_was_refused_when_sent_again_reaches_nobody_later,
    resuming_a_running_instance_does_nothing,
    an_instance_is_terminated_whoever_owns_it,
    a_suspended_instance_is_terminated,
    a_termination_of_something_else_conflicts,
    bad_submissions_do_not_harm_their_neighbours;
    with_admin:
    a_start_that_comes_again_once_its_instance_is_gone_starts_nothing,
    a_start_that_was_refused_when_sent_again_starts_nothing_later,
    a_termination_that_comes_again_leaves_alone_what_has_the_id_now,
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
        assert_eq!(again, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    }
    let node = world.join().await;
    assert_eq!(node.acquire(want(at(3))).await.instances[0].messages.len(), 1);
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    let again = world.submit(start(new, IfExists::Replace, None)).await;
    assert_eq!(again, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    assert_eq!(world.record("i").await.status, InstanceStatus::Completed, "the same start does not run twice");
}

async fn a_start_that_comes_again_once_its_instance_is_gone_starts_nothing(world: World) {
    let node = world.join().await;
    let finish = async |number| node.turn(ending("i", number, 0, completed())).await.expect("finish");
    let again = |new: &NewInstance| world.submit(start(new.clone(), IfExists::Replace, Some(node.lease)));
    let written = |started: Result<Submitted, _>| started.is_ok_and(|submitted| submitted.written);
    let first = world.start_owned(&node, "i").await;
    finish(1).await;
    let second = NewInstance { eager: true, ..new_instance("i") };
    assert!(written(again(&second).await));
    finish(2).await;
    assert!(written(again(&first).await), "it was replaced");
    assert_eq!(world.record("i").await.execution, execution("i", 2));
    world.delete("i").await;
    assert!(written(again(&second).await), "it was deleted");
    assert!(world.find("i").await.is_none());
}

/// The same as before, without an answer.
fn again(mut submission: Submission) -> Submission {
    submission.repeated();
    submission
}

async fn a_start_that_was_refused_when_sent_again_starts_nothing_later(world: World) {
    let node = world.join().await;
    let refused = Err(SubmitError::Exists(InstanceStatus::Running));
    let attached = Ok((1, false));
    let answer = |started: Result<Submitted, _>| started.map(|started| (started.execution, started.written));
    for (policy, answered) in
        [(IfExists::Error, refused.clone()), (IfExists::Replace, refused), (IfExists::Attach, attached)]
    {
        let name = format!("{policy:?}");
        world.start_owned(&node, &name).await;
        let first = start(new_instance(&name), policy, None);
        for _ in 0..2 {
            assert_eq!(answer(world.submit(again(first.clone())).await), answered);
        }
        node.turn(ending(&name, 1, 0, completed())).await.expect("finish");
        world.delete(&name).await;
        assert_eq!(answer(world.submit(first).await), answered, "the first comes late");
        assert!(world.find(&name).await.is_none());
    }
}

async fn a_taken_id_is_an_error(world: World) {
    world.start("i").await;
    for policy in [IfExists::Error, IfExists::Replace] {
        let taken = world.submit(start(new_instance("i"), policy, None)).await;
        assert_eq!(taken, Err(SubmitError::Exists(InstanceStatus::Running)));
    }
}

async fn a_taken_id_is_attached_to(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let attached = world.submit(start(new_instance("i"), IfExists::Attach, None)).await;
    assert_eq!(
        attached,
        Ok(Submitted { owner: Some(node.lease.epoch), execution: 1, written: false, last_found: None })
    );
}

async fn a_finished_instance_is_replaced(world: World) {
    let node = with_activity(&world, "i").await;
    node.turn(ending("i", 1, 2, Then::Finish { status: InstanceStatus::Failed })).await.expect("finish");
    let taken = world.submit(start(new_instance("i"), IfExists::Error, None)).await;
    assert_eq!(taken, Err(SubmitError::Exists(InstanceStatus::Failed)));
    let replaced = world.submit(start(new_instance("i"), IfExists::Replace, None)).await;
    assert_eq!(replaced, Ok(Submitted { owner: None, execution: 2, written: true, last_found: None }));
    let record = world.record("i").await;
    assert_eq!((record.status, record.outcome), (InstanceStatus::Running, None));
    assert!(world.history("i", 1).await.is_empty());
}

async fn an_eager_start_without_a_lease_is_queued(world: World) {
    let node = world.join().await;
    let eager = |name| NewInstance { eager: true, ..new_instance(name) };
    let started = world.submit(start(eager("a"), IfExists::Error, None)).await;
    assert_eq!(started, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    node.provider.leave(&node.lease).await.expect("leave");
    let started = world.submit(start(eager("b"), IfExists::Error, Some(node.lease))).await;
    assert_eq!(started, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    assert_eq!(world.join().await.acquire(want(at(3))).await.instances.len(), 2);
}

async fn a_message_that_is_sent_again_is_one_message(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let sent = message("hello");
    let held = Ok((Some(node.lease.epoch), 1, true));
    let answer = |sent: Result<Submitted, _>| sent.map(|sent| (sent.owner, sent.execution, sent.written));
    assert_eq!(answer(world.send("i", sent.clone()).await), held);
    assert_eq!(answer(world.send("i", sent.clone()).await), held, "while it is unread");
    let load = || Want { load: vec![id("i")], ..want(at(3)) };
    assert_eq!(data(&node.acquire(load()).await.instances[0].messages), ["start", "hello"]);
    node.turn(Turn { consumed: vec![sent.id], ..ending("i", 1, 0, Then::Go) }).await.expect("turn");
    assert_eq!(answer(world.send("i", sent.clone()).await), held, "once it is read");
    assert_eq!(data(&node.acquire(load()).await.instances[0].messages), ["start"]);
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

async fn a_message_that_was_refused_when_sent_again_reaches_nobody_later(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "finished").await;
    node.turn(ending("finished", 1, 0, completed())).await.expect("finish");
    for (name, refused) in
        [("none", SubmitError::NotFound), ("finished", SubmitError::Finished(InstanceStatus::Completed))]
    {
        let sent = Submission::Send { to: id(name), message: message("late"), lease: None, time: at(2), again: false };
        for _ in 0..2 {
            assert_eq!(world.submit(again(sent.clone())).await, Err(refused.clone()));
        }
        world.submit(start(new_instance(name), IfExists::Replace, None)).await.expect("another takes the id");
        assert_eq!(world.submit(sent).await, Err(refused), "the first comes late");
    }
    let instances = node.acquire(want(at(3))).await.instances;
    assert_eq!(instances.iter().map(|instance| instance.messages.len()).collect::<Vec<_>>(), [1, 1]);
}

async fn resuming_a_running_instance_does_nothing(world: World) {
    assert_eq!(world.resume("none").await, Err(SubmitError::NotFound));
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let nothing = |owner| Ok(Submitted { owner, execution: 1, written: false, last_found: None });
    assert_eq!(world.resume("i").await, nothing(Some(node.lease.epoch)));
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    assert_eq!(world.resume("i").await, nothing(None));
}

fn terminate(id: CommitId, turn: Turn) -> Submission {
    Submission::Terminate { id, turn: Box::new(turn) }
}

fn terminated(name: &str, number: u64, after: u64) -> Turn {
    ending(name, number, after, Then::Finish { status: InstanceStatus::Terminated })
}

async fn an_instance_is_terminated_whoever_owns_it(world: World) {
    let node = with_activity(&world, "i").await;
    world.start("parent").await;
    let turn = Turn { messages: vec![outgoing("parent", "it has ended")], ..terminated("i", 1, 2) };
    let commit = CommitId::new();
    for _ in 0..2 {
        let done = world.submit(terminate(commit, turn.clone())).await;
        assert_eq!(done, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
    }
    let record = world.record("i").await;
    assert_eq!((record.status, record.owner), (InstanceStatus::Terminated, None));
    assert_eq!(node.turn(ending("i", 1, 2, Then::Go)).await, Err(CommitError::Fenced));
    assert_eq!(node.renew().await, Renewal::Held { cancelled: vec![activity_id("i", 1, 1)] });
    let parent = node.acquire(want(at(3))).await.instances;
    assert_eq!(data(&parent[0].messages), ["start", "it has ended"]);
    let late = world.submit(terminate(CommitId::new(), terminated("i", 1, 3))).await;
    assert_eq!(late, Err(SubmitError::Finished(InstanceStatus::Terminated)));
}

async fn a_suspended_instance_is_terminated(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(Turn { then: Then::Suspend { reason: "\"x\"".to_owned() }, ..turn("i", 1, 0) }).await.expect("suspend");
    assert!(world.submit(terminate(CommitId::new(), terminated("i", 1, 0))).await.is_ok());
    let record = world.record("i").await;
    assert_eq!((record.status, record.suspension), (InstanceStatus::Terminated, None));
}

async fn a_termination_of_something_else_conflicts(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    node.turn(ending("i", 1, 0, Then::Go)).await.expect("turn");
    for turn in [terminated("i", 1, 0), terminated("i", 2, 1)] {
        assert_eq!(world.submit(terminate(CommitId::new(), turn)).await, Err(SubmitError::Conflict));
    }
    let none = world.submit(terminate(CommitId::new(), terminated("none", 1, 0))).await;
    assert_eq!(none, Err(SubmitError::NotFound));
    assert_eq!(world.record("i").await.status, InstanceStatus::Running);
}

async fn a_termination_that_comes_again_leaves_alone_what_has_the_id_now(world: World) {
    let commit = CommitId::new();
    for status in [InstanceStatus::Terminated, InstanceStatus::Running] {
        world.submit(start(new_instance("i"), IfExists::Error, None)).await.expect("start");
        let done = world.submit(terminate(commit, terminated("i", 1, 0))).await;
        assert_eq!(done, Ok(Submitted { owner: None, execution: 1, written: true, last_found: None }));
        assert_eq!(world.record("i").await.status, status);
        world.admin().delete(&[id("i")]).await.expect("delete");
    }
}

async fn bad_submissions_do_not_harm_their_neighbours(world: World) {
    let start = |name| start(new_instance(name), IfExists::Error, None);
    let send = Submission::Send { to: id("none"), message: message("x"), lease: None, time: at(2), again: false };
    let results = world.provider.submit(vec![start("a"), send, start("a"), start("b")]).await.expect("submit");
    let written = Ok(Submitted { owner: None, execution: 1, written: true, last_found: None });
    let expected =
        [written.clone(), Err(SubmitError::NotFound), Err(SubmitError::Exists(InstanceStatus::Running)), written];
    assert_eq!(results, expected);
    assert!(world.find("b").await.is_some());
}
