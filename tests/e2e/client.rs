//! Clients: taken ids, lists, deletion, dropped futures.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;

use duroxide::clock::Clock;
use duroxide::prelude::*;
use duroxide::provider::{Finished, InstanceStatus, MemoryProvider, Page, PageToken, Provider};
use duroxide::testing::VirtualClock;
use duroxide::{Client, ErrorCode, Filter, InstanceId, Registry};
use futures_util::FutureExt;
use support::{Fault, Method, faulty, until_events, until_execution, without_admin};

#[event(name = "client-finish")]
struct Finish {
    with: u32,
}

#[orchestration]
async fn finishes(ctx: OrchestrationContext, begin: u32) -> duroxide::Result<u32> {
    Ok(begin + ctx.event::<Finish>().await.with)
}

#[orchestration]
async fn at_once(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(n)
}

#[orchestration]
async fn eternal(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    let with = ctx.event::<Finish>().await.with;
    if with == 0 { Ok(n) } else { eternal::continue_as_new(&ctx, n + with).await }
}

#[tokio::test]
async fn taken_id_is_refused_or_attached_to() {
    let test = crate::started().await;
    let client = test.client();
    let first = finishes::start(&client, "taken", 1).await.unwrap();
    let error = finishes::start(&client, "taken", 2).await.unwrap_err();
    assert!(error.is_exists() && error.to_string().contains("running"), "{error}");
    assert_eq!((error.code(), error.instance().unwrap().as_str()), (ErrorCode::InstanceExists, "taken"));
    let attached = finishes::start(&client, "taken", 2).if_exists(IfExists::Attach).await.unwrap();
    first.raise(Finish { with: 10 }).await.unwrap();
    assert_eq!(attached.result().await.unwrap(), 11, "the input of the first start counts");
    let late = finishes::start(&client, "taken", 3).if_exists(IfExists::Attach).await.unwrap();
    assert_eq!(late.result().await.unwrap(), 11, "a finished instance can be attached to as well");
    assert!(finishes::start(&client, "taken", 4).await.unwrap_err().to_string().contains("completed"));
}

#[tokio::test]
async fn only_finished_instances_are_replaced() {
    let test = crate::started().await;
    let client = test.client();
    let start = |n| finishes::start(&client, "replaced", n).if_exists(IfExists::Replace);
    let mut identities = std::collections::BTreeSet::new();
    for round in 0..3 {
        let handle = start(round).await.unwrap();
        identities.insert(handle.status().await.unwrap().execution.identity);
        assert!(start(99).await.unwrap_err().is_exists());
        match round {
            0 => handle.raise(Finish { with: 1 }).await.unwrap(),
            1 => handle.cancel("").await.unwrap(),
            _ => {
                // Terminate it only when its node has a live copy.
                until_events(&handle, 2).await;
                handle.terminate("").await.unwrap();
            }
        }
        handle.wait().await.unwrap();
    }
    let handle = start(5).await.unwrap();
    handle.raise(Finish { with: 1 }).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 6);
    let last = handle.status().await.unwrap().execution;
    identities.insert(last.identity);
    assert_eq!((last.number, identities.len()), (1, 4), "each instance has an identity of its own");
    assert!(handle.history_of(2).await.unwrap().is_empty(), "the histories of the old instances were removed");
}

#[tokio::test]
async fn deleted_id_can_be_reused() {
    let test = crate::started().await;
    let client = test.client();
    for round in 0..20 {
        let handle = finishes::start(&client, "again", round).await.unwrap();
        if round % 2 == 0 {
            handle.terminate("").await.unwrap();
        } else {
            handle.raise(Finish { with: 1 }).await.unwrap();
            assert_eq!(handle.result().await.unwrap(), round + 1);
        }
        handle.delete().await.unwrap();
        assert!(handle.status().await.unwrap_err().is_not_found());
        assert!(handle.delete().await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn lists_are_filtered_and_their_pages_are_stable() {
    let test = crate::started().await;
    let client = test.client();
    for n in 0..50 {
        let start = at_once::start(&client, format!("done-{n:02}"), n).label("parity", (n % 2).to_string());
        start.await.unwrap().result().await.unwrap();
        test.advance(minutes(1));
    }
    for n in 0..5 {
        finishes::start(&client, format!("live-{n}"), n).label("parity", "0").await.unwrap();
    }
    let count = async |filter: &Filter| client.list(filter, 1000).await.unwrap().instances.len();
    let all = Filter::default();
    assert_eq!(count(&all).await, 55);
    assert_eq!(count(&Filter { name: Some("finishes".to_owned()), ..all.clone() }).await, 5);
    assert_eq!(count(&Filter { statuses: vec![InstanceStatus::Completed], ..all.clone() }).await, 50);
    let even = Filter { labels: [("parity".to_owned(), "0".to_owned())].into(), ..all.clone() };
    assert_eq!(count(&even).await, 30);
    assert_eq!(count(&Filter { statuses: vec![InstanceStatus::Running], ..even }).await, 5);
    let tenth = at_once::handle(&client, "done-10").status().await.unwrap();
    assert_eq!(tenth.labels["parity"], "0");
    assert_eq!(count(&Filter { created_before: Some(tenth.created_at), ..all.clone() }).await, 10);
    assert_eq!(count(&Filter { created_from: Some(tenth.created_at), ..all.clone() }).await, 45);

    // Instances are started and deleted between the pages: each of the others is listed once, newest first.
    let completed = Filter { statuses: vec![InstanceStatus::Completed], ..all };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = client.list(&completed, Page::new(7).after(after)).await.unwrap();
        assert!(page.instances.len() <= 7);
        seen.extend(page.instances.iter().map(|status| status.execution.instance.to_string()));
        at_once::start(&client, format!("new-{}", seen.len()), 0).await.unwrap().result().await.unwrap();
        at_once::handle(&client, seen.last().unwrap()).delete().await.unwrap();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..50).rev().map(|n| format!("done-{n:02}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn live_instances_are_not_deleted_or_pruned() {
    let test = crate::started().await;
    let client = test.client();
    let live = finishes::start(&client, "live", 1).await.unwrap();
    let delayed = at_once::start(&client, "delayed", 1).delay(days(30)).await.unwrap();
    client.start("unregistered", "unknown", &()).await.unwrap();
    let suspended = client.start("at_once", "suspended", &"text").await.unwrap();
    let suspended = suspended.wait_for(|status| status.suspension.is_some()).await.unwrap();
    assert_eq!(suspended.status, InstanceStatus::Suspended);
    let done = at_once::start(&client, "done", 1).await.unwrap();
    done.result().await.unwrap();
    // An eternal instance between its executions.
    let eternal = eternal::start(&client, "eternal", 0).await.unwrap();
    for _ in 0..5 {
        eternal.raise(Finish { with: 1 }).await.unwrap();
    }
    until_execution(&eternal, 6).await;
    for id in ["live", "delayed", "unknown", "suspended", "eternal"] {
        let error = client.handle(id).delete().await.expect_err(id);
        assert_eq!(error.code(), ErrorCode::InstanceLive, "{error}");
    }
    let future = test.clock().now() + days(1);
    assert_eq!(client.prune(&Filter::default(), future).await.unwrap(), 1 + 5, "one instance and five executions");
    assert!(done.status().await.unwrap_err().is_not_found());
    eternal.raise(Finish { with: 0 }).await.unwrap();
    assert_eq!(eternal.result().await.unwrap(), 5);
    live.raise(Finish { with: 1 }).await.unwrap();
    assert_eq!((live.result().await.unwrap(), delayed.result().await.unwrap()), (2, 1));
}

#[tokio::test]
async fn dropped_requests_happen_completely_or_not_at_all() {
    let provider = faulty(MemoryProvider::new());
    let registry = Registry::empty().with_orchestration::<finishes>();
    let clock = VirtualClock::new();
    let runtime = Runtime::builder().provider(provider.clone()).registry(registry).clock(clock).start().await.unwrap();
    let client = runtime.client();
    // The first poll submits the start, so either of the two starts may be the one that is stored.
    drop(finishes::start(&client, "given", 1).into_future().now_or_never());
    let handle = finishes::start(&client, "given", 2).if_exists(IfExists::Attach).await.unwrap();
    handle.raise(Finish { with: 1 }).await.unwrap();
    assert!([2, 3].contains(&handle.result().await.unwrap()), "exactly one of the starts has happened");
    let attached = |input| finishes::start(&client, "dropped", input).if_exists(IfExists::Attach).into_future();
    provider.faults().hold(Method::Submit);
    assert!(attached(1).now_or_never().is_none());
    provider.faults().release(Method::Submit);
    let handle = attached(2).await.unwrap();
    provider.faults().hold(Method::Submit);
    assert!(handle.raise(Finish { with: 100 }).into_future().now_or_never().is_none());
    assert!(handle.cancel("dropped").now_or_never().is_none());
    provider.faults().release(Method::Submit);
    provider.faults().hold(Method::Instance);
    for _ in 0..100 {
        assert!(handle.result().now_or_never().is_none());
        assert!(handle.terminate("dropped").now_or_never().is_none());
    }
    provider.faults().release(Method::Instance);
    handle.raise(Finish { with: 1 }).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3, "requests that were dropped before they were sent have no effect");
}

#[tokio::test]
async fn result_of_another_type_is_an_error_with_the_instance() {
    let test = crate::started().await;
    let client = test.client();
    let handle = at_once::start(&client, "typed", 7).await.unwrap();
    let error = handle.result_as::<String, duroxide::Error>().await.unwrap_err();
    let OutcomeError::Client(error) = error else { panic!("{error:?}") };
    assert_eq!(error.code(), ErrorCode::UnreadableResult);
    let text = error.to_string();
    for part in ["typed", "output", "integer", "String"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert_eq!(handle.result().await.unwrap(), 7, "the instance is unchanged");
}

#[orchestration]
async fn tree(ctx: OrchestrationContext, depth: u32) -> duroxide::Result<BTreeSet<String>> {
    let mut all = BTreeSet::from([ctx.execution().instance.to_string()]);
    if depth > 0 {
        all.extend(tree::call(&ctx, depth - 1).await?);
    }
    Ok(all)
}

#[tokio::test]
async fn children_with_derived_ids_can_be_queried() {
    let test = crate::started().await;
    let root = "r".repeat(InstanceId::MAX_LEN);
    let handle = tree::start(&test.client(), &root, 100).await.unwrap();
    let ids = handle.result().await.unwrap();
    assert_eq!(ids.len(), 101);
    for id in ids {
        let status = test.client().handle(&id).status().await.unwrap();
        assert_eq!((status.execution.instance.as_str(), status.parent.is_some()), (id.as_str(), id != root));
    }
    let longer = "r".repeat(InstanceId::MAX_LEN + 1);
    assert!(InstanceId::new(&longer).is_err());
    assert!(tree::start(&test.client(), &longer, 1).await.is_err());
}

#[tokio::test]
async fn requests_of_a_client_without_node_run_on_other_nodes() {
    let memory = MemoryProvider::new();
    let client = Client::new(memory.clone());
    let handle = finishes::start(&client, "remote", 1).await.unwrap();
    handle.raise(Finish { with: 2 }).await.unwrap();
    let registry = Registry::empty().with_orchestration::<finishes>();
    let runtime = Runtime::builder().provider(memory).registry(registry).start().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3);
    let second = finishes::start(&client, "second", 1).await.unwrap();
    second.cancel("remote").await.unwrap();
    assert_eq!(second.wait().await.unwrap(), InstanceStatus::Cancelled);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_provider_without_admin_runs_and_refuses_lists() {
    let provider = without_admin(MemoryProvider::new());
    let registry = Registry::empty().with_orchestration::<at_once>();
    let runtime = Runtime::builder().provider(provider).registry(registry).start().await.unwrap();
    let client = runtime.client();
    let handle = at_once::start(&client, "i", 1).await.unwrap();
    handle.result().await.unwrap();
    let errors = [
        client.list(&Filter::default(), 10).await.map(drop).unwrap_err(),
        client.nodes().await.map(drop).unwrap_err(),
        client.prune(&Filter::default(), client.now()).await.map(drop).unwrap_err(),
        handle.delete().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.code(), error.is_retryable()), (ErrorCode::AdminNotSupported, false));
        assert!(error.to_string().contains("implement `Admin`"), "{error}");
    }
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_changed_page_token_is_refused_at_once() {
    let client = Client::new(MemoryProvider::new());
    let page = Page::new(10).after(PageToken::new("changed"));
    let error = client.list(&Filter::default(), page).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (ErrorCode::InvalidPageToken, false));
}

#[tokio::test(start_paused = true)]
async fn client_outlasts_a_fail_over_of_its_storage() {
    let provider = faulty(MemoryProvider::new());
    provider.faults().always(Method::Submit, Fault::Before);
    provider.faults().always(Method::Instance, Fault::Before);
    let client = Client::new(provider.clone());
    let mut start = finishes::start(&client, "late", 1).into_future();
    let during = tokio::time::timeout(seconds(45), &mut start).await;
    assert!(during.is_err(), "the client gives up during the fail-over: {during:?}");
    provider.faults().heal();
    let handle = start.await.unwrap();
    assert_eq!(handle.status().await.unwrap().status, InstanceStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn error_says_how_long_the_storage_was_retried() {
    let provider = faulty(MemoryProvider::new());
    let faults = provider.faults().clone();
    faults.always(Method::Submit, Fault::Before);
    let client = Client::new(provider).with_retry_time(seconds(3));
    let begun = tokio::time::Instant::now();
    let error = finishes::start(&client, "never", 1).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (ErrorCode::StorageFailed, true));
    assert!((seconds(3)..seconds(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    for part in ["failed to make the call", "retried for 3.0 s"] {
        assert!(error.to_string().contains(part), "{part} is missing: {error}");
    }
    let before = faults.begun(Method::Submit);
    let impatient = client.with_retry_time(Duration::ZERO);
    finishes::start(&impatient, "never", 1).await.unwrap_err();
    assert_eq!(faults.begun(Method::Submit) - before, 1, "without a retry");
}

#[tokio::test]
async fn runtime_sets_the_retry_time_of_its_clients() {
    let provider = faulty(MemoryProvider::new());
    let registry = Registry::empty().with_orchestration::<at_once>();
    let options = duroxide::RuntimeOptions::new().retry_time(Duration::ZERO);
    let builder = Runtime::builder().provider(provider.clone()).registry(registry).options(options);
    let runtime = builder.start().await.unwrap();
    provider.faults().always(Method::Instance, Fault::Before);
    runtime.client().handle("i").status().await.unwrap_err();
    assert_eq!(provider.faults().begun(Method::Instance), 1);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn late_signal_of_an_earlier_instance_ends_no_wait() {
    let provider = MemoryProvider::new();
    let client = Client::new(provider.clone());
    let handle = client.start("no-code", "reused", &()).await.unwrap();
    let mut wait = Box::pin(handle.wait());
    assert!((&mut wait).now_or_never().is_none());
    let (identity, status) = (duroxide::id::Identity::new(), InstanceStatus::Failed);
    let id = InstanceId::new("reused").unwrap();
    provider.wakeups().finished(&id, Finished { identity, status, outcome: None });
    assert!((&mut wait).now_or_never().is_none(), "another instance had the id");
    client.handle("reused").terminate("no").await.unwrap();
    assert_eq!(wait.await.unwrap(), InstanceStatus::Terminated);
}
