//! The audit of actions from outside.

use super::fixture::*;
use super::list;
use crate::clock::Timestamp;
use crate::id::{BatchId, CommitId};
use crate::provider::*;

list![
    an_action_and_its_entry_are_written_together,
    an_action_without_an_effect_leaves_no_entry,
    an_entry_is_written_once,
    a_removal_and_its_entry_are_written_together,
    entries_are_found_by_each_part_of_a_query,
    entries_come_newest_first_page_by_page,
    entries_are_pruned_by_age,
];

fn entry(time: Timestamp, actor: &str, action: &str) -> AuditEntry {
    AuditEntry::new(time, actor, action)
}

fn audited(entry: &AuditEntry, submission: Submission) -> Submission {
    Submission::Audited { entry: Box::new(entry.clone()), submission: Box::new(submission) }
}

async fn found(world: &World, query: &AuditQuery) -> Vec<AuditEntry> {
    let page = world.admin().audit(query, &Page::new(100)).await.expect("list the audit");
    assert!(page.complete && page.next.is_none());
    page.entries
}

async fn all(world: &World) -> Vec<AuditEntry> {
    found(world, &AuditQuery::default()).await
}

async fn an_action_and_its_entry_are_written_together(world: World) {
    let full = entry(at(1), "ana", "start").via(Some("cli")).instance(Some(&id("i"))).reason(Some("because"));
    let full = full.detail(Some("flow")).batch(Some(BatchId::new()));
    let started = world.submit(audited(&full, start(new_instance("i"), IfExists::Error, None))).await;
    assert_eq!(started, Ok(unowned("i")));
    let raised = entry(at(2), "ben", "raise").instance(Some(&id("i")));
    let sent = world.submit(audited(&raised, Submission::Send(send_request("i", message("hello"))))).await;
    assert_eq!(sent, Ok(unowned("i")));
    assert_eq!(all(&world).await, [raised, full]);
}

async fn an_action_without_an_effect_leaves_no_entry(world: World) {
    world.start("i").await;
    for submission in [
        start(another("i"), IfExists::Error, None),
        start(another("i"), IfExists::Attach, None),
        Submission::Send(send_request("none", message("hello"))),
        Submission::Resume { instance: id("i"), time: at(2) },
        Submission::Wake(WakeRequest { id: CommitId::new(), instance: id("i"), call: None, time: at(2) }),
    ] {
        let submitted = world.submit(audited(&entry(at(2), "ana", "act"), submission)).await;
        assert!(submitted.is_err() || submitted.is_ok_and(|submitted| !submitted.written));
    }
    assert_eq!(all(&world).await, []);
}

async fn an_entry_is_written_once(world: World) {
    world.start("i").await;
    let entry = entry(at(2), "ana", "raise");
    let submission = audited(&entry, Submission::Send(send_request("i", message("hello"))));
    for _ in 0..2 {
        assert!(world.submit(submission.clone()).await.is_ok_and(|submitted| submitted.written));
    }
    let mut resent = submission;
    resent.mark_resent();
    assert!(world.submit(resent).await.is_ok());
    world.admin().record(std::slice::from_ref(&entry)).await.expect("record");
    assert_eq!(all(&world).await, [entry]);
}

async fn a_removal_and_its_entry_are_written_together(world: World) {
    let node = world.join().await;
    for name in ["done", "live"] {
        world.start_owned(&node, name).await;
    }
    node.turn(ending("done", 1, 0, completed())).await.expect("finish");
    let ids = [id("live"), id("done"), id("none")];
    let entries = [0, 1, 2].map(|n: usize| entry(at(5), "ana", "delete").instance(Some(&ids[n])));
    let results = world.admin().delete(&ids, &entries).await.expect("delete");
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(all(&world).await, entries[1..2], "it outlives its instance");
}

async fn entries_are_found_by_each_part_of_a_query(world: World) {
    let batch = BatchId::new();
    let entries = [
        entry(at(1), "ana", "cancel").instance(Some(&id("i"))),
        entry(at(2), "ben", "cancel").instance(Some(&id("j"))).batch(Some(batch)),
        entry(at(3), "ana", "resume").instance(Some(&id("j"))),
        entry(at(4), "ana", "prune"),
    ];
    world.admin().record(&entries).await.expect("record");
    let query = AuditQuery::default();
    for (query, expected) in [
        (AuditQuery { instance: Some(id("j")), ..query.clone() }, &[2, 1][..]),
        (AuditQuery { actor: Some("ana".to_owned()), ..query.clone() }, &[3, 2, 0]),
        (AuditQuery { action: Some("cancel".to_owned()), ..query.clone() }, &[1, 0]),
        (AuditQuery { batch: Some(batch), ..query.clone() }, &[1]),
        (AuditQuery { from: Some(at(2)), before: Some(at(4)), ..query.clone() }, &[2, 1]),
        (AuditQuery { instance: Some(id("j")), actor: Some("ana".to_owned()), ..query.clone() }, &[2]),
        (AuditQuery { actor: Some("none".to_owned()), ..query }, &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|n: &usize| entries[*n].clone()).collect();
        assert_eq!(found(&world, &query).await, expected, "{query:?}");
    }
}

async fn entries_come_newest_first_page_by_page(world: World) {
    for n in 1..=5 {
        world.admin().record(&[entry(at(n), "ana", "act")]).await.expect("record");
    }
    let (mut page, mut seen) = (Page::new(2).time_limit(std::time::Duration::ZERO), Vec::new());
    loop {
        let part = world.admin().audit(&AuditQuery::default(), &page).await.expect("list the audit");
        assert!(part.entries.len() <= 2);
        seen.extend(part.entries.into_iter().map(|entry| entry.time));
        // A page does not change with later entries.
        world.admin().record(&[entry(at(9), "ben", "act")]).await.expect("record");
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1].map(at));
    let bad = world.admin().audit(&AuditQuery::default(), &Page::new(1).after(PageToken::new("no"))).await;
    assert_eq!(bad.expect_err("it is not a token").code(), crate::error::ErrorCode::InvalidPageToken);
}

async fn entries_are_pruned_by_age(world: World) {
    for n in [3, 1, 2, 9] {
        world.admin().record(&[entry(at(n), "ana", "act")]).await.expect("record");
    }
    let prune = async |before, limit| world.admin().prune_audit(at(before), limit).await.expect("prune the audit");
    assert_eq!((prune(4, 2).await, prune(4, 2).await, prune(4, 2).await), (2, 1, 0));
    assert_eq!(all(&world).await.iter().map(|entry| entry.time).collect::<Vec<_>>(), [at(9)]);
}
