//! Inputs without effect: duplicates, inputs that come too late or too early, answers of another kind.

use std::time::Duration;

use super::support::*;
use crate::history::{Failure, Input};
use crate::id::CallId;
use crate::payload::Payload;

/// Returns one input of every kind that answers a call.
fn answers(call: u64) -> Vec<Input> {
    let call = CallId(call);
    let failure = Failure::Application;
    vec![
        Input::ActivityCompleted { call, run: None },
        Input::ActivityFailed { call, failure: failure.clone(), callee: None, run: None },
        Input::TimerFired { call },
        Input::ChildCompleted { call },
        Input::ChildFailed { call, failure, callee: None },
        Input::StartAccepted { call },
        Input::StartRejected { call, reason: "taken".to_owned() },
    ]
}

#[test]
fn repeated_outcome_is_ignored() {
    let mut run = Run::start(|ctx| async move {
        let first: u32 = ctx.call_activity("a", &()).await?;
        Ok([first, ctx.call_activity("b", &()).await?])
    });
    run.completes(1, 1);
    answers(1).into_iter().for_each(|input| run.ignores(input));
    run.completes(2, 2);
    assert_eq!(run.output::<[u32; 2]>(), [1, 2]);
}

#[test]
fn outcome_that_was_not_taken_is_not_replaced() {
    let mut run = Run::start(|ctx| async move {
        let early = ctx.call_activity::<u32>("a", &()).start();
        ctx.call_activity::<()>("b", &()).await?;
        Ok(early.await?)
    });
    run.completes(1, 1);
    answers(1).into_iter().for_each(|input| run.ignores(input));
    run.completes(2, ());
    assert_eq!(run.output::<u32>(), 1);
}

#[test]
fn answers_to_calls_that_do_not_exist_are_ignored() {
    let mut run = Run::start(|ctx| async move {
        let _not_polled = ctx.call_activity::<()>("never", &());
        Ok(ctx.call_activity::<()>("a", &()).await?)
    });
    for call in [0, 1, 3, u64::MAX] {
        answers(call).into_iter().for_each(|input| run.ignores(input));
    }
}

#[test]
fn call_accepts_only_answers_of_its_own_kind() {
    let mut run = Run::start(|ctx| async move {
        let _activity = ctx.call_activity::<()>("a", &()).start();
        let _timer = ctx.sleep(Duration::from_secs(1)).start();
        let _child = ctx.call_orchestration::<()>("c", &()).start();
        let _detached = ctx.call_orchestration::<()>("d", &()).detached().start();
        let _refused = ctx.call_activity::<()>("", &()).start();
        Ok(ctx.event_named::<u32>("E").await)
    });
    let accepted: [&[usize]; 6] = [&[0, 1], &[2], &[3, 4, 6], &[5, 6], &[], &[]];
    for (call, accepted) in (1..).zip(accepted) {
        for (kind, input) in answers(call).into_iter().enumerate() {
            if !accepted.contains(&kind) {
                run.ignores(input);
            }
        }
        if let Some(first) = accepted.first() {
            assert_eq!(run.deliver(answers(call).swap_remove(*first), Payload::NULL), NOTHING);
        }
    }
    assert_eq!(run.raises("E", 1), [COMPLETED]);
}

#[test]
fn inputs_before_the_start_are_ignored() {
    let mut run = Run::before_start(function(|ctx, _| async move { Ok(ctx.event_named::<u32>("E").await) }));
    answers(1).into_iter().for_each(|input| run.ignores(input));
    run.ignores(raised("E"));
    run.ignores(Input::CancelRequested { reason: "why".to_owned(), parent: None, by: None });
    run.ignores(Input::TerminateRequested { reason: "why".to_owned(), parent: None, by: None });
    assert_eq!(run.deliver(started(), Payload::NULL), [awaits(1, "E")]);
}

#[test]
fn second_start_is_ignored() {
    let mut run = Run::start(|ctx| async move { Ok(ctx.event_named::<u32>("E").await) });
    run.ignores(started());
    assert_eq!(run.raises("E", 1), [COMPLETED]);
}

#[test]
fn inputs_after_the_end_are_ignored() {
    let mut run = Run::start(|ctx| async move {
        drop(ctx.call_activity::<()>("a", &()).detached().start());
        let _cancelled = ctx.cancelled();
        Ok(())
    });
    assert_eq!(run.decided(), [detached_activity(1, "a"), COMPLETED]);
    answers(1).into_iter().for_each(|input| run.ignores(input));
    run.ignores(raised("E"));
    run.ignores(Input::CancelRequested { reason: "why".to_owned(), parent: None, by: None });
    run.ignores(Input::TerminateRequested { reason: "why".to_owned(), parent: None, by: None });
}
