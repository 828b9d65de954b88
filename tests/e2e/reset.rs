//! Resets to an event, and forks from one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use duroxide::client::{AffectedChild, CarriedEvent, CutPlan, ForkCall, RepeatedActivity, Untyped};
use duroxide::clock::Clock;
use duroxide::id::EventId;
use duroxide::prelude::*;
use duroxide::provider::InstanceStatus;
use duroxide::testing::{TestRuntime, check_history};
use duroxide::{ErrorCode, Registry};

/// The runs of `noted`: instance, name and idempotency key.
static RUNS: Mutex<Vec<(String, String, String)>> = Mutex::new(Vec::new());

#[activity]
async fn noted(ctx: ActivityContext, name: String) -> duroxide::Result<String> {
    let run = (ctx.instance().to_string(), name, ctx.idempotency_key());
    let key = run.2.clone();
    RUNS.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    Ok(key)
}

fn runs(instance: &str, name: &str) -> Vec<String> {
    let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    runs.iter().filter(|run| run.0 == instance && run.1 == name).map(|run| run.2.clone()).collect()
}

#[event(name = "reset-approval")]
struct ResetApproval {
    by: String,
}

/// Its history: 1 started, 2 schedules `a`, 3 completed, 4 waits, 5 the event, 6 schedules `b`, 7 completed, 8 ends.
#[orchestration]
async fn a_event_b(ctx: OrchestrationContext) -> duroxide::Result<(String, String, String)> {
    let a = noted::call(&ctx, "a".to_owned()).await?;
    let approval = ctx.event::<ResetApproval>().await;
    let b = noted::call(&ctx, "b".to_owned()).await?;
    Ok((a, approval.by, b))
}

async fn finished(test: &TestRuntime, id: &str) -> Handle<a_event_b> {
    let handle = a_event_b::start(&test.client(), id).await.unwrap();
    at_event(test, &handle, 4).await;
    handle.raise(ResetApproval { by: "Ada".to_owned() }).await.unwrap();
    handle.result().await.unwrap();
    handle
}

/// Returns the event whose line holds a text.
async fn event_with<O>(handle: &Handle<O>, text: &str) -> EventId {
    let events = handle.history().await.unwrap();
    events.iter().find(|event| event.to_string().contains(text)).unwrap_or_else(|| panic!("{text}: {events:#?}")).id
}

/// Waits until the runtime is idle. The history has at least this many events then; returns the last one.
async fn at_event<O>(test: &TestRuntime, handle: &Handle<O>, event: u64) -> EventId {
    test.sleep(Duration::ZERO).await;
    let last = handle.status().await.unwrap().events;
    assert!(last.0 >= event, "{last}");
    last
}

fn certain(plan: &CutPlan) -> Vec<(String, bool)> {
    plan.activities.iter().map(|activity| (activity.name.clone(), activity.is_certain)).collect()
}

#[tokio::test]
async fn reset_repeats_the_work_after_the_event_alone() {
    let test = crate::started().await;
    let handle = finished(&test, "reset-finished").await;
    let before = handle.result().await.unwrap();
    // The step of the external event schedules `b`: it begins with event 5.
    assert_eq!(
        (event_with(&handle, "reset-approval").await, event_with(&handle, "\"b\"").await),
        (EventId(4), EventId(6))
    );
    let error = handle.reset(EventId(5)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotAStep, "{error}");
    assert!(error.to_string().contains("the one before is event 4, and the next one is event 6"), "{error}");
    let reset = handle.reset(EventId(4));
    let plan = reset.dry_run().await.unwrap();
    assert_eq!(plan.last_event, handle.status().await.unwrap().events);
    let [RepeatedActivity { name, at, scheduled: EventId(6), is_certain: false, .. }] = &plan.activities[..] else {
        panic!("{plan}")
    };
    assert!(name == "noted" && at.as_ref().unwrap().contains("reset.rs"), "{plan}");
    let [CarriedEvent { event: EventId(5), .. }] = &plan.carried[..] else { panic!("{plan}") };
    assert_eq!(handle.status().await.unwrap().execution.number, 1, "a dry run changes nothing");
    assert_eq!(reset.await.unwrap(), plan);
    let after = handle.result().await.unwrap();
    assert_eq!(handle.status().await.unwrap().execution.number, 2);
    assert_eq!((&after.0, &after.1), (&before.0, &before.1));
    assert_ne!(after.2, before.2, "the activity has another idempotency key");
    assert_eq!(runs("reset-finished", "b").len(), 2);
    check_history(&Registry::discover(), &handle.history().await.unwrap()).unwrap();
    assert_eq!(handle.history_of(1).await.unwrap().len() as u64, plan.last_event.0);
}

#[tokio::test]
async fn open_activity_runs_again_unless_its_outcome_is_kept() {
    let test = crate::started().await;
    let handle = finished(&test, "reset-open").await;
    let before = handle.result().await.unwrap();
    let scheduled = event_with(&handle, "\"b\"").await;
    let kept = handle.reset(scheduled).keep_outcomes();
    let plan = kept.dry_run().await.unwrap();
    assert_eq!((certain(&plan), plan.kept_outcomes.len()), (vec![], 1), "{plan}");
    kept.await.unwrap();
    assert_eq!(handle.result().await.unwrap(), before);
    assert_eq!(runs("reset-open", "b").len(), 1);

    let plan = handle.reset(scheduled).await.unwrap();
    assert_eq!(certain(&plan), [("noted".to_owned(), true)]);
    assert_ne!(handle.result().await.unwrap().2, before.2);
    assert_eq!(runs("reset-open", "b").len(), 2);
    let end = handle.status().await.unwrap().events;
    let error = handle.reset(end).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotAStep, "an ended execution cannot continue");

    // From its beginning.
    handle.reset(EventId(0)).await.unwrap();
    let again = handle.result().await.unwrap();
    assert!(again.0 != before.0 && again.1 == "Ada", "the event is received again");
    assert_eq!(runs("reset-open", "a").len(), 2);
}

/// An orchestration in two builds, which differ after the activity.
enum Waits<const HOURS: u64> {}

impl<const HOURS: u64> Orchestration for Waits<HOURS> {
    const NAME: &'static str = "reset-waits";
    type Input = ();
    type Output = u64;
    type Error = duroxide::Error;
}

impl<const HOURS: u64> OrchestrationFn for Waits<HOURS> {
    async fn run(ctx: OrchestrationContext, (): ()) -> duroxide::Result<u64> {
        noted::call(&ctx, "once".to_owned()).await?;
        ctx.sleep(hours(HOURS)).await;
        Ok(HOURS)
    }
}

#[tokio::test]
async fn reset_is_the_remedy_of_changed_code() {
    let with = |registry: Registry| registry.with::<noted>();
    let old = with(Registry::empty().with_orchestration::<Waits<1>>());
    let new = with(Registry::empty().with_orchestration::<Waits<2>>());
    let test = crate::builder().registry(old).build_id("1").start().await.unwrap();
    let handle = test.client().start("reset-waits", "remedy", &()).await.unwrap();
    at_event(&test, &handle, 4).await;
    let test = test.crash().registry(new).build_id("2").start().await.unwrap();
    test.advance(hours(1));
    let handle = test.client().handle("remedy");
    let status = handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    let at = status.suspension.unwrap().event.unwrap();
    // The error names the event before the step that does not fit.
    let error = handle.reset(EventId(at.0 - 1)).await.unwrap_err();
    assert!(error.to_string().contains("the one before is event 2"), "{error}");
    handle.reset(EventId(2)).keep_outcomes().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 2);
    assert_eq!(runs("remedy", "once").len(), 1);
}

#[orchestration]
async fn reset_day(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.sleep(days(1)).await;
    Ok(7)
}

#[orchestration]
async fn with_open_calls(ctx: OrchestrationContext, child_id: Option<String>) -> duroxide::Result<u32> {
    let child = reset_day::call(&ctx);
    let child = match child_id {
        Some(id) => child.id(id),
        None => child,
    };
    let child = child.start();
    let timer = ctx.sleep(hours(10)).start();
    ctx.event::<ResetApproval>().await;
    timer.await;
    Ok(child.await?)
}

#[tokio::test]
async fn reset_of_a_live_instance_restarts_its_open_calls() {
    let test = crate::started().await;
    let (client, begin) = (test.client(), test.clock().now());
    let handle = with_open_calls::start(&client, "reset-live", None).await.unwrap();
    let open = at_event(&test, &handle, 4).await;
    handle.raise(ResetApproval { by: "Ada".to_owned() }).await.unwrap();
    at_event(&test, &handle, open.0 + 1).await;
    test.advance(hours(1));
    let plan = handle.reset(open).await.unwrap();
    let [AffectedChild { instance, closed, starts_again, .. }] = &plan.children[..] else { panic!("{plan}") };
    assert_eq!((*closed, *starts_again), (Some(ClosePolicy::Cancel), true), "{plan}");
    assert_eq!(plan.carried.len(), 1);
    let old = client.handle(instance);
    assert_eq!(old.wait().await.unwrap(), InstanceStatus::Cancelled);
    assert_eq!(handle.result().await.unwrap(), 7);
    // The child has begun again an hour after the first one.
    assert_eq!(test.clock().now().since(begin), hours(25));
    check_history(&Registry::discover(), &handle.history().await.unwrap()).unwrap();

    // The child that has ended is known under its id of the execution before.
    let last = handle.status().await.unwrap().events;
    let ended = EventId(last.0 - 2);
    handle.reset(ended).keep_outcomes().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
}

#[tokio::test]
async fn child_with_an_id_of_its_own_must_not_be_open() {
    let test = crate::started().await;
    let child = "reset-named-child";
    let handle = with_open_calls::start(&test.client(), "reset-named", Some(child.to_owned())).await.unwrap();
    let open = at_event(&test, &handle, 4).await;
    let error = handle.reset(open).await.unwrap_err();
    assert!(error.code() == ErrorCode::NotAStep && error.to_string().contains(child), "{error}");
    handle.raise(ResetApproval { by: "Ada".to_owned() }).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    // Once it has ended, its outcome is kept.
    let plan = handle.reset(open).await.unwrap();
    assert_eq!(plan.kept_outcomes.len(), 1, "{plan}");
    assert_eq!(handle.result().await.unwrap(), 7);
}

#[tokio::test]
async fn reset_after_another_one_is_refused_by_its_plan() {
    let test = crate::started().await;
    let handle = finished(&test, "reset-race").await;
    let at = event_with(&handle, "\"b\"").await;
    let plan = handle.reset(at).dry_run().await.unwrap();
    handle.reset(at).expect(&plan).await.unwrap();
    let error = handle.reset(at).expect(&plan).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InstanceChanged, "{error}");
}

#[tokio::test]
async fn fork_has_an_identity_of_its_own_and_leaves_the_original() {
    let test = crate::started().await;
    let client = test.client();
    let handle = a_event_b::start(&client, "fork-from").label("customer", "c77").await.unwrap();
    handle.raise(ResetApproval { by: "Ada".to_owned() }).await.unwrap();
    let before = handle.result().await.unwrap();
    let at = event_with(&handle, "\"b\"").await;
    let call: ForkCall = client.fork("fork-from", at, "fork-to");
    let plan = call.dry_run().await.unwrap();
    assert_eq!(certain(&plan), [("noted".to_owned(), true)]);
    let fork: Handle<Untyped> = call.await.unwrap();
    let (a, by, b): (String, String, String) = fork.result_as::<_, duroxide::Error>().await.unwrap();
    assert_eq!((&a, &by), (&before.0, &before.1), "the copied part is not done again");
    assert_ne!(b, before.2);
    assert!(runs("fork-to", "a").is_empty());
    let (original, copy) = (handle.status().await.unwrap(), fork.status().await.unwrap());
    assert_ne!(original.execution.identity, copy.execution.identity);
    assert_eq!((original.execution.number, original.labels), (1, copy.labels));
    check_history(&Registry::discover(), &fork.history().await.unwrap()).unwrap();
    let keys: BTreeSet<_> = runs("fork-from", "b").into_iter().chain(runs("fork-to", "b")).collect();
    assert_eq!(keys.len(), 2);

    let error = client.fork("fork-from", at, "fork-to").await.unwrap_err();
    assert!(error.is_exists(), "{error}");
    let error = client.fork("fork-none", at, "fork-other").await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[orchestration]
async fn parent_of_reset(ctx: OrchestrationContext) -> duroxide::Result<(String, String, String)> {
    Ok(a_event_b::call(&ctx).id("reset-child").await?)
}

#[tokio::test]
async fn fork_of_a_child_tells_its_parent_nothing() {
    let test = crate::started().await;
    let client = test.client();
    let parent = parent_of_reset::start(&client, "reset-parent").await.unwrap();
    let child = client.handle("reset-child");
    let waits = at_event(&test, &child, 4).await;
    let fork = client.fork("reset-child", waits, "reset-child-fork").await.unwrap();
    assert!(fork.status().await.unwrap().parent.is_none());
    fork.raise(ResetApproval { by: "Bob".to_owned() }).await.unwrap();
    assert_eq!(fork.wait().await.unwrap(), InstanceStatus::Completed);
    child.raise(ResetApproval { by: "Ada".to_owned() }).await.unwrap();
    assert_eq!(parent.result().await.unwrap().1, "Ada");
    // The parent has its outcome: another one of the child changes nothing.
    child.reset(waits).await.unwrap();
    assert_eq!(child.wait().await.unwrap(), InstanceStatus::Completed);
    assert_eq!(parent.result().await.unwrap().1, "Ada");
}

#[orchestration]
async fn outlives_a_cancel(ctx: OrchestrationContext) -> duroxide::Result<(String, String)> {
    let reason = ctx.cancelled().await;
    Ok((reason, ctx.event::<ResetApproval>().await.by))
}

#[orchestration]
async fn cancels_its_child(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let child = outlives_a_cancel::call(&ctx).id("reset-cancelled").on_parent_close(ClosePolicy::Cancel);
    duroxide::select! {
        _ = child => unreachable!("it waits for an event"),
        () = ctx.sleep(Duration::from_secs(1)) => Ok(()),
    }
}

#[tokio::test]
async fn fork_keeps_the_cancel_by_the_parent_of_the_original() {
    let test = crate::started().await;
    let client = test.client();
    cancels_its_child::start(&client, "reset-cancels").await.unwrap().result().await.unwrap();
    let child = client.handle("reset-cancelled");
    let cancelled = at_event(&test, &child, 3).await;
    let fork = client.fork("reset-cancelled", cancelled, "reset-cancelled-fork").await.unwrap();
    for waiting in [&child, &fork] {
        waiting.raise(ResetApproval { by: "Ada".to_owned() }).await.unwrap();
        let output: (String, String) = waiting.result_as::<_, duroxide::Error>().await.unwrap();
        assert_eq!(output, ("its call was dropped".to_owned(), "Ada".to_owned()));
    }
}
