//! Activity calls: when they are scheduled, and their outcomes.

use serde_json::{Value, json};

use super::support::*;
use crate::error::{CallError, ErrorCode, TimedOut};
use crate::history::{Decision, Failure};
use crate::id::CallId;
use crate::policy::{RetryPolicy, Timeout};
use crate::replay::op::Op;

#[test]
fn awaited_call_is_scheduled_and_resolves_to_its_output() {
    let mut run = Run::start(|ctx| async move {
        let one: u32 = ctx.call_activity("one", &"in").await?;
        Ok(one + ctx.call_activity::<u32>("two", &one).await?)
    });
    assert_eq!(run.decided(), [activity(1, "one")]);
    assert_eq!(run.output::<String>(), "in");
    assert_eq!(run.completes(1, 20), [activity(2, "two")]);
    assert_eq!(run.output::<u32>(), 20);
    assert_eq!(run.completes(2, 3), [COMPLETED]);
    assert_eq!(run.output::<u32>(), 23);
}

#[test]
fn unpolled_call_is_never_scheduled() {
    let run = Run::start(|ctx| async move {
        let _unused = ctx.call_activity::<()>("never", &());
        let _used = ctx.call_activity::<()>("used", &()).await;
        Ok(())
    });
    assert_eq!(run.decided(), [activity(2, "used")]);
}

#[test]
fn started_call_runs_while_the_function_awaits_another() {
    let mut run = Run::start(|ctx| async move {
        let background = ctx.call_activity::<u32>("background", &()).start();
        ctx.call_activity::<()>("foreground", &()).await?;
        Ok(background.await?)
    });
    assert_eq!(run.decided(), [activity(1, "background"), activity(2, "foreground")]);
    assert_eq!(run.completes(1, 5), NOTHING, "its future is not polled yet");
    assert_eq!(run.completes(2, ()), [COMPLETED]);
    assert_eq!(run.output::<u32>(), 5);
}

#[test]
fn calls_are_numbered_in_the_order_of_building_not_polling() {
    let mut run = Run::start(|ctx| async move {
        let first = ctx.call_activity::<u32>("first", &());
        let second = ctx.call_activity::<u32>("second", &());
        let third = ctx.call_activity::<u32>("third", &());
        let (three, one) = crate::join!(third, first);
        Ok([three?, one?, second.await?])
    });
    assert_eq!(run.decided(), [activity(1, "first"), activity(3, "third")], "written in the order of their numbers");
    assert_eq!(run.completes(1, 1), NOTHING);
    assert_eq!(run.completes(3, 3), [activity(2, "second")]);
    assert_eq!(run.completes(2, 2), [COMPLETED]);
    assert_eq!(run.output::<Value>(), json!([3, 1, 2]));
}

#[test]
fn options_of_a_call_are_recorded() {
    let limit = std::time::Duration::from_secs(9);
    let run = Run::start(move |ctx| async move {
        let call = ctx.call_activity::<()>("a", &()).tag("gpu").detached().timeout(limit).schedule_to_close(limit);
        Ok(call.retry(RetryPolicy::new().max_attempts(2)).await?)
    });
    let [Decision::ActivityScheduled(scheduled)] = run.decided() else { panic!("{:?}", run.decided()) };
    assert_eq!((scheduled.tag.as_deref(), scheduled.detached), (Some("gpu"), true));
    assert_eq!((scheduled.options.start_to_close, scheduled.options.schedule_to_close), (Some(limit), Some(limit)));
    assert_eq!(scheduled.options.retry, Some(RetryPolicy::new().max_attempts(2)));
}

#[test]
fn step_names_the_call_that_it_resolved() {
    let mut run = Run::start(|ctx| async move {
        let limited = ctx.call_activity::<()>("a", &()).schedule_to_close(std::time::Duration::from_secs(1));
        Ok(limited.await?)
    });
    let step = run.execution.step(activity_completed(1), payload(&()), second(2)).expect("continues");
    assert_eq!(step.resolved, Some((CallId(1), Op::Activity { detached: false, deadline: true })));
    assert!(step.ended);
    run.history.extend(step.events);
}

#[test]
fn every_kind_of_failure_has_its_own_call_error() {
    let reason = || "why".to_owned();
    let cases = [
        (Failure::Application, CallError::Failed(json!("declined"))),
        (Failure::Panicked { message: reason() }, CallError::Panicked { message: reason(), callee: None }),
        (
            Failure::TimedOut { limit: Timeout::StartToClose, details: None },
            CallError::TimedOut(TimedOut::new(Timeout::StartToClose)),
        ),
        (Failure::Cancelled { reason: reason() }, CallError::Cancelled { reason: reason(), callee: None }),
        (Failure::Terminated { reason: reason() }, CallError::Terminated { reason: reason(), callee: None }),
        (Failure::Rejected { reason: reason() }, CallError::Rejected { reason: reason(), callee: None }),
    ];
    for (failure, seen) in cases {
        let mut run = Run::start(|ctx| async move {
            let result = ctx.call_activity::<()>("a", &()).await;
            Ok(result.expect_err("has failed"))
        });
        assert_eq!(run.activity_fails(1, failure, "declined"), [COMPLETED]);
        assert_eq!(run.output::<CallError<Value>>(), seen);
    }
}

#[test]
fn refused_call_is_recorded_and_fails_at_once() {
    let run = Run::start(|ctx| async move {
        let nameless = ctx.call_activity::<()>("", &()).await.expect_err("is refused");
        let infinite = ctx.call_activity::<()>("a", &f64::INFINITY).await.expect_err("is refused");
        let tagless = ctx.call_activity::<()>("a", &()).tag("").await.expect_err("is refused");
        Ok([nameless, infinite, tagless].map(|error| matches!(error, CallError::Rejected { .. })))
    });
    let [a, b, c, end] = run.decided() else { panic!("{:?}", run.decided()) };
    for (decision, number, about) in [(a, 1, "name"), (b, 2, "infinite"), (c, 3, "tag")] {
        let Decision::CallRejected { call, reason, .. } = decision else { panic!("{decision:?}") };
        assert_eq!(call.0, number);
        assert!(reason.contains(about), "{reason}");
    }
    assert_eq!(end, &COMPLETED);
    assert_eq!(run.output::<[bool; 3]>(), [true; 3]);
}

#[test]
fn outcome_of_another_type_is_reported_with_type_and_place() {
    let mut run = Run::start(|ctx| async move { Ok(ctx.call_activity::<u32>("count", &()).await?) });
    let suspension = run.fails(activity_completed(1), payload(&"many"));
    assert_eq!(suspension.code, ErrorCode::UnreadableResult);
    assert!(suspension.message.contains("\"count\"") && suspension.message.contains("u32"), "{suspension}");
    assert!(suspension.place.is_some_and(|place| place.contains("activities.rs")));
}

#[test]
fn resolved_call_never_resolves_again() {
    let mut run = Run::start(|ctx| async move {
        let mut call = ctx.call_activity::<u32>("a", &());
        let first = (&mut call).await?;
        assert!(poll_once(&mut call).await.is_pending());
        Ok(first)
    });
    assert_eq!(run.completes(1, 1), [COMPLETED]);
}
