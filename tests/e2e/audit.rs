//! The audit of the actions of clients with a note.

use std::time::Duration;

use duroxide::client::Note;
use duroxide::error::UnreadMessage;
use duroxide::id::{BatchId, CallId, EventId};
use duroxide::prelude::*;
use duroxide::provider::{AuditQuery, Filter, Page};

use super::started;

#[event(name = "audit-go")]
struct Go {}

#[orchestration(name = "audit-flow")]
async fn flow(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go {} = ctx.event().await;
    Ok(())
}

/// Returns the actions of the audit, oldest first.
async fn actions(client: &Client, query: &AuditQuery) -> Vec<String> {
    let page = client.audit(query, 100).await.unwrap();
    page.entries.iter().rev().map(|entry| entry.action.clone()).collect()
}

#[tokio::test]
async fn each_action_of_a_noted_client_is_recorded() {
    let test = started().await;
    let plain = test.client();
    let batch = BatchId::new();
    let ana = plain.clone().with_note(Note::by("ana").reason("clean up").via("cli").batch(batch));
    let handle = flow::start(&ana, "audit-1").await.unwrap();
    handle.suspend("look at it").await.unwrap();
    assert!(!handle.wake().await.unwrap());
    handle.resume().await.unwrap();
    handle.raise(Go {}).await.unwrap();
    handle.result().await.unwrap();
    handle.delete().await.unwrap();
    flow::start(&ana, "audit-2").await.unwrap().cancel("duplicate").await.unwrap();
    flow::start(&plain, "audit-3").await.unwrap();
    plain.handle("audit-3").terminate("not recorded").await.unwrap();
    flow::start(&plain, "audit-4").await.unwrap();
    ana.handle("audit-4").terminate("stuck").await.unwrap();
    ana.prune(&Filter::default(), Timestamp::from_micros(0)).await.unwrap();
    ana.record_action("login", None, "with a token").await.unwrap();
    assert!(ana.handle("audit-4").wake_call(CallId(1)).await.is_err());

    let all = ["start", "suspend", "resume", "raise", "delete", "start", "cancel", "terminate", "prune", "login"];
    assert_eq!(actions(&plain, &AuditQuery::default()).await, all);
    let of_first =
        AuditQuery { instance: Some(duroxide::InstanceId::new("audit-1").unwrap()), ..AuditQuery::default() };
    assert_eq!(actions(&plain, &of_first).await, all[..5], "the instance is gone");
    let entries = plain.audit(&AuditQuery::default(), 100).await.unwrap().entries;
    assert!(entries.iter().all(|e| e.actor == "ana" && e.via.as_deref() == Some("cli") && e.batch == Some(batch)));
    let texts = |action: &str| {
        let entry = entries.iter().find(|entry| entry.action == action).unwrap();
        (entry.reason.as_deref(), entry.detail.as_deref())
    };
    assert_eq!(texts("start"), (Some("clean up"), Some("audit-flow")));
    assert_eq!(texts("suspend"), (Some("look at it"), None));
    assert_eq!(texts("raise"), (Some("clean up"), Some("audit-go")));
    assert_eq!(texts("cancel"), (Some("duplicate"), None));
    assert_eq!(texts("login"), (Some("clean up"), Some("with a token")));

    let page = plain.audit(&AuditQuery::default(), Page::new(4)).await.unwrap();
    let rest = plain.audit(&AuditQuery::default(), Page::new(100).after(page.next)).await.unwrap();
    assert_eq!((page.entries.len(), rest.entries.len()), (4, all.len() - 4));
    assert_eq!(plain.prune_audit(plain.now() + days(1)).await.unwrap(), all.len() as u64);
    assert_eq!(actions(&plain, &AuditQuery::default()).await, [""; 0]);
}

#[tokio::test]
async fn resets_forks_and_imports_are_recorded() {
    let test = started().await;
    let plain = test.client();
    let ana = plain.clone().with_note(Note::by("ana").reason("new gateway"));
    let handle = flow::start(&plain, "audit-cut").await.unwrap();
    handle.raise(Go {}).await.unwrap();
    handle.result().await.unwrap();
    ana.handle("audit-cut").reset(EventId(0)).await.unwrap();
    handle.result().await.unwrap();
    ana.fork("audit-cut", EventId(0), "audit-fork").await.unwrap();
    let export = plain.export("audit-cut").await.unwrap();
    assert!(ana.import(&export).await.unwrap_err().is_exists(), "a refused action is not recorded");
    handle.delete().await.unwrap();
    ana.import(&export).await.unwrap();

    let entries = plain.audit(&AuditQuery::default(), 100).await.unwrap().entries;
    assert!(entries.iter().all(|entry| entry.reason.as_deref() == Some("new gateway")));
    let texts: Vec<_> = entries.iter().rev().map(|e| (&*e.action, e.instance.as_ref().unwrap().as_str())).collect();
    assert_eq!(texts, [("reset", "audit-cut"), ("fork", "audit-fork"), ("import", "audit-cut")]);
    let details: Vec<_> = entries.iter().rev().map(|entry| entry.detail.as_deref()).collect();
    assert_eq!(details, [Some("to event 0"), Some("of audit-cut at event 0"), None]);
}

#[tokio::test]
async fn wakes_and_dropped_messages_are_recorded() {
    let test = started().await;
    let plain = test.client();
    let ana = plain.clone().with_note(Note::by("ana").reason("clean up"));
    flow::start(&plain, "audit-late").delay(hours(1)).await.unwrap();
    assert!(ana.handle("audit-late").wake().await.unwrap());
    assert!(!ana.handle("audit-late").wake().await.unwrap(), "without an effect, without an entry");
    let handle = flow::handle(&plain, "audit-late");
    handle.suspend("held").await.unwrap();
    handle.raise_named("audit-wrong", &1).await.unwrap();
    let store = test.store();
    let admin = store.admin().unwrap();
    let messages = admin.messages(&duroxide::InstanceId::new("audit-late").unwrap()).await.unwrap().unwrap().messages;
    let event = messages.iter().find(|message| message.data.contains("audit-wrong")).unwrap();
    ana.handle("audit-late").drop_message(UnreadMessage::Queued(event.id)).await.unwrap();
    handle.resume().await.unwrap();

    // A recorded event is removed by an input of its own.
    flow::start(&plain, "audit-drop").await.unwrap();
    let handle = flow::handle(&plain, "audit-drop");
    handle.raise_named("audit-wrong", &1).await.unwrap();
    test.sleep(Duration::ZERO).await;
    ana.handle("audit-drop").drop_message(UnreadMessage::Recorded(EventId(3))).await.unwrap();

    let entries = plain.audit(&AuditQuery::default(), 100).await.unwrap().entries;
    assert!(entries.iter().all(|entry| entry.actor == "ana" && entry.reason.as_deref() == Some("clean up")));
    let texts: Vec<_> = entries.iter().rev().map(|e| (&*e.action, e.instance.as_ref().unwrap().as_str())).collect();
    let expected = [("wake", "audit-late"), ("drop message", "audit-late"), ("drop message", "audit-drop")];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn long_texts_of_a_note_are_cut_visibly() {
    let test = started().await;
    let long = "x".repeat(10_000);
    let client = test.client().with_note(Note::by(&long).reason(&long).via(&long));
    flow::start(&client, "audit-long").await.unwrap();
    client.record_action(&long, None, &long).await.unwrap();
    for entry in client.audit(&AuditQuery::default(), 9).await.unwrap().entries {
        assert!(entry.actor.len() <= 256 && entry.via.unwrap().len() <= 64 && entry.action.len() <= 64);
        let reason = entry.reason.unwrap();
        assert!(reason.len() <= 4096 && reason.contains("left out"), "{reason}");
    }
}
