//! A replay whose decisions differ from its history is reported with both sides, the event and the place.

use std::time::Duration;

use serde_json::json;

use super::support::*;
use crate::error::Suspension;
use crate::history::{Decision, EventKind, Input};
use crate::orchestration::OrchestrationContext;
use crate::payload::Payload;

/// Records one activity call, with input 1 and output 2, and a wait for an event.
fn recorded() -> Run {
    let mut run = Run::start(original);
    run.completes(1, 2);
    run
}

async fn original(ctx: OrchestrationContext) -> Result<u32> {
    let output = ctx.call_activity::<u32>("charge", &1).await?;
    ctx.event_named::<()>("Go").await;
    Ok(output)
}

/// Returns the event of the mismatch, the recorded decision, and the decision of the code.
fn sides(suspension: &Suspension) -> (u64, Option<&str>, Option<&str>) {
    let Suspension { event, recorded, asked, .. } = suspension;
    (event.map_or(0, |event| event.0), recorded.as_deref(), asked.as_deref())
}

#[test]
fn missing_call_is_a_mismatch() {
    let suspension = recorded().mismatches(|ctx| async move { Ok(ctx.cancelled().await) });
    assert_eq!(sides(&suspension), (2, Some("call 1: activity \"charge\""), None));
}

#[test]
fn extra_call_is_a_mismatch() {
    let suspension = recorded().mismatches(|ctx| async move {
        let charge = ctx.call_activity::<u32>("charge", &1).start();
        let _extra = ctx.call_activity::<()>("extra", &()).start();
        Ok(charge.await?)
    });
    assert_eq!(sides(&suspension), (3, None, Some("call 2: activity \"extra\"")));
    assert!(suspension.place.is_some_and(|place| place.contains("mismatch.rs")), "the place of the call");
}

#[test]
fn call_in_another_step_is_a_mismatch() {
    let suspension = recorded().mismatches(|ctx| async move {
        let charge = ctx.call_activity::<u32>("charge", &1).await?;
        ctx.call_activity::<u32>("second", &()).await?;
        Ok(charge)
    });
    let (recorded, asked) = ("call 2: wait for event \"Go\"", "call 2: activity \"second\"");
    assert_eq!(sides(&suspension), (4, Some(recorded), Some(asked)));
}

#[test]
fn call_built_earlier_takes_the_number_of_the_recorded_one() {
    let suspension = recorded().mismatches(|ctx| async move {
        let _before = ctx.call_activity::<u32>("before", &());
        original(ctx).await
    });
    let (recorded, asked) = ("call 1: activity \"charge\"", "call 2: activity \"charge\"");
    assert_eq!(sides(&suspension), (2, Some(recorded), Some(asked)));
}

#[test]
fn other_activity_name_tag_or_kind_is_a_mismatch() {
    let asked = |suspension: Suspension| {
        assert_eq!(sides(&suspension).1, Some("call 1: activity \"charge\""));
        suspension.asked.expect("shows the decision that was asked for")
    };
    let run = recorded();
    let name = run.mismatches(|ctx| async move { Ok(ctx.call_activity::<u32>("refund", &1).await?) });
    assert_eq!(asked(name), "call 1: activity \"refund\"");
    let tag = run.mismatches(|ctx| async move { Ok(ctx.call_activity::<u32>("charge", &1).tag("gpu").await?) });
    assert_eq!(asked(tag), "call 1: activity \"charge\", tag \"gpu\"");
    let detached = run.mismatches(|ctx| async move { Ok(ctx.call_activity::<u32>("charge", &1).detached().await?) });
    assert_eq!(asked(detached), "call 1: activity \"charge\", detached");
    let timer = run.mismatches(|ctx| async move {
        ctx.sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    assert!(asked(timer).starts_with("call 1: timer due"));
}

#[test]
fn retry_and_time_limits_may_change() {
    recorded().also_replays(|ctx| async move {
        let limit = Duration::from_secs(1);
        let charge = ctx.call_activity::<u32>("charge", &1).timeout(limit).schedule_to_close(limit);
        let output = charge.retry(crate::RetryPolicy::new()).await?;
        ctx.event_named::<()>("Go").await;
        Ok(output)
    });
}

#[test]
fn input_may_gain_null_members_and_nothing_else() {
    let run = Run::start(|ctx| async move { Ok(ctx.call_activity::<u32>("a", &json!({"id": 1})).await?) });
    run.also_replays(|ctx| async move {
        Ok(ctx.call_activity::<u32>("a", &json!({"note": null, "id": 1, "more": null})).await?)
    });
    for changed in [json!({"id": 2}), json!({"id": 1, "note": 0}), json!({}), json!(1)] {
        let changed = std::sync::Arc::new(changed);
        let suspension = run.mismatches(move |ctx| {
            let changed = changed.clone();
            async move { Ok(ctx.call_activity::<u32>("a", &*changed).await?) }
        });
        let (recorded, asked) = ("call 1: activity \"a\"", "call 1: activity \"a\", with another value");
        assert_eq!(sides(&suspension), (2, Some(recorded), Some(asked)), "values are not shown");
    }
}

#[test]
fn other_timer_due_time_is_a_mismatch() {
    let run = Run::start(|ctx| async move {
        ctx.sleep(Duration::from_secs(10)).await;
        Ok(())
    });
    let suspension = run.mismatches(|ctx| async move {
        ctx.sleep(Duration::from_secs(11)).await;
        Ok(())
    });
    let recorded = "call 1: timer due 1970-01-01T00:00:11.000Z";
    assert_eq!(sides(&suspension), (2, Some(recorded), Some("call 1: timer due 1970-01-01T00:00:12.000Z")));
}

#[test]
fn other_event_name_is_a_mismatch() {
    let run = Run::start(|ctx| async move { Ok(ctx.event_named::<u32>("Old").await) });
    let suspension = run.mismatches(|ctx| async move { Ok(ctx.event_named::<u32>("New").await) });
    let (recorded, asked) = ("call 1: wait for event \"Old\"", "call 1: wait for event \"New\"");
    assert_eq!(sides(&suspension), (2, Some(recorded), Some(asked)));
}

#[test]
fn other_child_name_id_version_or_kind_is_a_mismatch() {
    let run =
        Run::start(|ctx| async move { Ok(ctx.call_orchestration::<u32>("ship", &()).id("s").version("1.0.0").await?) });
    type Call = fn(&OrchestrationContext) -> crate::orchestration::ChildCall<u32, serde_json::Value>;
    let changes: [(&str, Call); 4] = [
        ("call 1: child \"send\" 1.0.0 as \"s\"", |ctx| ctx.call_orchestration("send", &()).id("s").version("1.0.0")),
        ("call 1: child \"ship\" 1.0.0 as \"t\"", |ctx| ctx.call_orchestration("ship", &()).id("t").version("1.0.0")),
        ("call 1: child \"ship\" 1.1.0 as \"s\"", |ctx| ctx.call_orchestration("ship", &()).id("s").version("1.1.0")),
        ("call 1: child \"ship\" as \"s\"", |ctx| ctx.call_orchestration("ship", &()).id("s")),
    ];
    for (asked, call) in changes {
        let suspension = run.mismatches(move |ctx| async move { Ok(call(&ctx).await?) });
        assert_eq!(sides(&suspension), (2, Some("call 1: child \"ship\" 1.0.0 as \"s\""), Some(asked)));
    }
    let detached = run.mismatches(|ctx| async move {
        Ok(ctx.call_orchestration::<u32>("ship", &()).id("s").version("1.0.0").detached().await?)
    });
    assert_eq!(sides(&detached).2, Some("call 1: detached start of \"ship\" 1.0.0 as \"s\""));
    run.also_replays(|ctx| async move {
        let call = ctx.call_orchestration::<u32>("ship", &()).id("s").version("1.0.0");
        Ok(call.on_parent_close(crate::policy::ClosePolicy::Abandon).await?)
    });
}

#[test]
fn drop_that_differs_from_the_record_is_a_mismatch() {
    let keeps = |ctx: OrchestrationContext| async move {
        let _kept = ctx.call_activity::<()>("slow", &()).start();
        ctx.call_activity::<()>("fast", &()).await?;
        ctx.event_named::<()>("Go").await;
        Ok(())
    };
    let drops = |ctx: OrchestrationContext| async move {
        let kept = ctx.call_activity::<()>("slow", &()).start();
        ctx.call_activity::<()>("fast", &()).await?;
        drop(kept);
        ctx.event_named::<()>("Go").await;
        Ok(())
    };
    let mut run = Run::start(keeps);
    run.completes(2, ());
    let (dropped, wait) = ("call 1: dropped", "call 3: wait for event \"Go\"");
    assert_eq!(sides(&run.mismatches(drops)), (5, Some(wait), Some(dropped)));
    let mut run = Run::start(drops);
    run.completes(2, ());
    assert_eq!(sides(&run.mismatches(keeps)), (5, Some(dropped), Some(wait)));
}

#[test]
fn refused_call_that_is_accepted_now_is_a_mismatch() {
    let run = Run::start(|ctx| async move {
        let refused = ctx.call_activity::<()>("", &()).await.is_err();
        ctx.event_named::<()>("Go").await;
        Ok(refused)
    });
    let suspension = run.mismatches(|ctx| async move { Ok(ctx.call_activity::<()>("a", &()).await?) });
    let (recorded, asked) = ("call 1: refused activity \"\"", "call 1: refused activity \"a\"");
    assert_eq!(sides(&suspension), (2, Some(recorded), Some(asked)));
}

#[test]
fn early_return_leaves_history_over() {
    let suspension = recorded().leaves_over(|_| async { Ok(()) });
    let ended = "the code ended here: return Ok";
    assert_eq!(sides(&suspension), (2, Some("call 1: activity \"charge\""), Some(ended)));
    assert_eq!(suspension.message, "the code ended before its history");
    let mut run = recorded();
    run.raises("Other", ());
    run.raises("Go", ());
    let later = run.mismatches(|ctx| async move {
        ctx.call_activity::<u32>("charge", &1).await?;
        crate::select! {
            () = ctx.event_named::<()>("Go") => Ok(2),
            () = ctx.event_named::<()>("Other") => Ok(2),
        }
    });
    assert_eq!(sides(&later).2, Some("call 3: wait for event \"Other\""));
}

#[test]
fn early_end_before_recorded_input_leaves_history_over() {
    let mut run = Run::start(|ctx| async move {
        let charge = ctx.call_activity::<u32>("charge", &1);
        let (go, charge) = crate::join!(ctx.event_named::<u32>("Go"), charge);
        Ok(go + charge?)
    });
    run.raises("Go", 1);
    let early = |ctx: OrchestrationContext| async move {
        let _charge = ctx.call_activity::<u32>("charge", &1).start();
        Ok(ctx.event_named::<u32>("Go").await)
    };
    let extra = run.mismatches(early);
    assert_eq!(sides(&extra), (5, None, Some("call 1: dropped")), "nothing is left over yet");
    run.completes(1, 2);
    let outcome = Some("the outcome of call 1");
    assert_eq!(sides(&run.leaves_over(early)), (5, outcome, Some("the code ended here: return Ok")));
    let again = run.leaves_over(|ctx| async move {
        let _charge = ctx.call_activity::<u32>("charge", &1).start();
        ctx.event_named::<u32>("Go").await;
        ctx.continue_as_new::<Result<u32>>(&()).await
    });
    assert_eq!(sides(&again), (5, outcome, Some("the code ended here: continue as new")));
    assert!(again.place.is_some_and(|place| place.contains("mismatch.rs")), "where it continues as new");
}

#[test]
fn other_end_or_output_is_a_mismatch() {
    let mut run = recorded();
    run.raises("Go", ());
    let before = |ctx: OrchestrationContext| async move { original(ctx).await };
    let err = run.mismatches(move |ctx| async move { Err::<(), _>(crate::Error::new(before(ctx).await?)) });
    assert_eq!(sides(&err), (6, Some("return Ok"), Some("return Err")));
    let value = run.mismatches(move |ctx| async move { Ok(before(ctx).await? + 1) });
    assert_eq!(sides(&value), (6, Some("return Ok"), Some("return Ok, with another value")));
    let again = run.mismatches(move |ctx| async move {
        before(ctx.clone()).await?;
        ctx.continue_as_new::<Result<u32>>(&()).await
    });
    assert_eq!(sides(&again), (6, Some("return Ok"), Some("continue as new")));
    let continues = run.mismatches(move |ctx| async move {
        before(ctx.clone()).await?;
        Ok(ctx.cancelled().await)
    });
    assert_eq!(sides(&continues), (6, Some("return Ok"), None));
}

#[test]
fn new_listener_for_a_recorded_cancel_is_a_mismatch() {
    let mut run = Run::start(|ctx| async move {
        ctx.event_named::<()>("Go").await;
        Ok(())
    });
    run.cancels("why");
    let suspension = run.mismatches(|ctx| async move {
        let _listens = ctx.cancelled();
        ctx.event_named::<()>("Go").await;
        Ok(())
    });
    assert_eq!(sides(&suspension), (4, Some("end as cancelled"), None));
}

#[test]
fn history_that_begins_with_a_decision_is_a_mismatch() {
    let mut run = recorded();
    run.history.remove(0);
    let suspension = run.mismatches(original);
    assert_eq!(sides(&suspension), (2, Some("call 1: activity \"charge\""), None));
    run.history.clear();
}

#[test]
fn recorded_input_that_answers_no_call_is_a_mismatch() {
    let mut run = recorded();
    for input in [activity_completed(1), started()] {
        let mut damaged = Run::start(original);
        damaged.completes(1, 2);
        let mut event = damaged.history[0].clone();
        event.id = damaged.execution.last_event().next();
        event.kind = EventKind::Input(input);
        damaged.history.push(event);
        assert_eq!(sides(&damaged.mismatches(original)).0, 5);
        damaged.history.pop();
    }
    // An input after the end is left over.
    run.raises("Go", ());
    let mut event = run.history[4].clone();
    event.id = run.execution.last_event().next();
    event.kind = EventKind::Input(Input::raised("Go"));
    event.payload = Payload::NULL;
    run.history.push(event);
    let after = run.leaves_over(original);
    assert_eq!(sides(&after), (7, Some("event \"Go\""), Some("the code ended before this event")));
    run.history.pop();
    assert!(matches!(decisions(&run.history).last(), Some(Decision::Completed)));
}
