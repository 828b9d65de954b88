//! Actions on many instances.

use std::ops::ControlFlow;

use duroxide::client::{BulkAction, BulkCall, BulkFailure, BulkPreview, Note};
use duroxide::prelude::*;
use duroxide::provider::{AuditQuery, Filter};

use super::started;

#[event(name = "bulk-go")]
struct Go {}

#[orchestration(name = "bulk-flow")]
async fn flow(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let Go {} = ctx.event().await;
    Ok(())
}

#[tokio::test]
async fn bulk_action_is_previewed_stopped_and_continued() {
    let test = started().await;
    let client = test.client().with_note(Note::by("ana"));
    for n in 0..6 {
        flow::start(&client, format!("bulk-{n}")).await.unwrap();
    }
    // Newest first: this one is reached in the second part, and skipped.
    client.handle("bulk-3").terminate("early").await.unwrap();
    let all = Filter { name: Some("bulk-flow".to_owned()), ..Filter::default() };
    let cancel =
        || -> BulkCall { client.bulk(all.clone(), BulkAction::Cancel { reason: "campaign".to_owned() }).rate(8) };
    let preview: BulkPreview = cancel().preview().await.unwrap();
    // The instances whose first turn is not committed yet have no version, and so another group.
    let of = |status| preview.groups.groups.iter().filter(move |group| group.key[0].as_deref() == Some(status));
    let count = |status| of(status).map(|group| group.count).sum::<u64>();
    assert_eq!((count("running"), count("terminated")), (5, 1), "{:?}", preview.groups);
    assert_eq!(preview.first.len(), 6);

    let first = cancel().run_with(|_| ControlFlow::Break(())).await.unwrap();
    assert_eq!((first.done, first.skipped, first.failed), (2, 0, 0));
    assert!(first.next.is_some());
    let mut parts = Vec::new();
    let rest = cancel().after(first.next).run_with(|report| {
        parts.push(report.done + report.skipped);
        ControlFlow::Continue(())
    });
    let rest = rest.await.unwrap();
    assert_eq!((rest.done, rest.skipped, rest.next), (3, 1, None));
    assert_eq!(parts, [2, 4]);
    for n in [0, 1, 2, 4, 5] {
        assert_eq!(client.handle(format!("bulk-{n}")).wait().await.unwrap(), InstanceStatus::Cancelled);
    }

    let entries = client.audit(&AuditQuery { batch: Some(rest.batch), ..AuditQuery::default() }, 99).await.unwrap();
    let actions: Vec<_> = entries.entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["bulk", "cancel", "cancel", "cancel", "bulk"]);
    let details: Vec<_> = entries.entries.iter().map(|entry| entry.detail.clone().unwrap_or_default()).collect();
    assert_eq!(details[4], "cancel of instances with name bulk-flow");
    assert_eq!(details[0], "cancel: 3 done, 1 skipped, 0 failed");

    let deleted = client.bulk(all, BulkAction::Delete).run().await.unwrap();
    assert_eq!((deleted.done, deleted.skipped), (6, 0));
}

#[tokio::test]
async fn bulk_failure_of_one_instance_is_listed() {
    let test = started().await;
    let client = test.client();
    flow::start(&client, "bulk-bad").await.unwrap();
    let reason = "x".repeat(20_000);
    let report = client.bulk(Filter::default(), BulkAction::Cancel { reason }).run().await.unwrap();
    assert_eq!((report.done, report.failed, report.failures.len()), (0, 1, 1));
    let failure: &BulkFailure = &report.failures[0];
    assert_eq!(failure.instance.as_str(), "bulk-bad");
    assert_eq!(failure.error.code(), duroxide::ErrorCode::PayloadTooLarge);

    for action in [BulkAction::Suspend { reason: "held".to_owned(), until: None }, BulkAction::Wake, BulkAction::Resume]
    {
        let report = client.bulk(Filter::default(), action).run().await.unwrap();
        assert_eq!(report.done, 1);
    }
    let report =
        client.bulk(Filter::default(), BulkAction::Terminate { reason: "end".to_owned() }).run().await.unwrap();
    assert_eq!(report.done, 1);
}
