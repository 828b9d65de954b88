//! Dropping a call within a poll cancels it; dropping it outside of a poll has no effect.

use std::sync::{Arc, Mutex};

use super::support::*;
use crate::orchestration::{OrchestrationContext, days};
use crate::replay::op::Op;

#[test]
fn call_scheduled_and_dropped_in_one_step_leaves_no_record() {
    let run = Run::start(|ctx| async move {
        drop(ctx.call_activity::<()>("a", &()).start());
        drop(ctx.sleep(days(1)).start());
        drop(ctx.call_orchestration::<()>("c", &()).start());
        Ok(ctx.call_activity::<()>("d", &()).await?)
    });
    assert_eq!(run.decided(), [activity(4, "d")]);
    assert!(run.dropped().is_empty());
}

#[test]
fn drop_in_a_later_step_is_recorded_and_the_outcome_discarded() {
    let mut run = Run::start(|ctx| async move {
        let activity = ctx.call_activity::<()>("a", &()).start();
        let timer = ctx.sleep(days(1)).start();
        ctx.call_activity::<()>("b", &()).await?;
        drop((timer, activity));
        Ok(ctx.call_activity::<()>("c", &()).await?)
    });
    assert_eq!(run.completes(3, ()), [dropped(1), dropped(2), activity(4, "c")]);
    assert_eq!(run.dropped(), [2, 1], "the calls to cancel, in the order of dropping");
    run.ignores(activity_completed(1));
    run.ignores(crate::history::Input::TimerFired { call: crate::id::CallId(2) });
    assert_eq!(run.completes(4, ()), [COMPLETED]);
}

#[test]
fn drop_of_a_call_with_an_outcome_leaves_no_record() {
    let mut run = Run::start(|ctx| async move {
        let unread = ctx.call_activity::<()>("a", &()).start();
        ctx.call_activity::<()>("b", &()).await?;
        drop(unread);
        Ok(())
    });
    run.completes(1, ());
    assert_eq!(run.completes(2, ()), [COMPLETED]);
    assert!(run.dropped().is_empty());
}

#[test]
fn outcome_of_a_dropped_detached_activity_is_recorded() {
    let mut run = Run::start(|ctx| async move {
        drop(ctx.call_activity::<()>("a", &()).detached().start());
        Ok(ctx.call_activity::<()>("b", &()).await?)
    });
    assert_eq!(run.decided(), [detached_activity(1, "a"), activity(2, "b")]);
    assert_eq!(run.completes(1, ()), NOTHING);
    run.ignores(activity_completed(1));
    assert_eq!(run.completes(2, ()), [COMPLETED]);
}

#[test]
fn detached_activity_is_still_open_at_the_end() {
    let mut run = Run::start(|ctx| async move {
        drop(ctx.call_activity::<()>("a", &()).detached().start());
        Ok(())
    });
    assert_eq!(run.decided(), [detached_activity(1, "a"), COMPLETED]);
    let open = run.execution.close().open;
    assert_eq!(open, [(crate::id::CallId(1), Op::Activity { detached: true, deadline: false })]);
}

#[test]
fn finished_calls_and_waits_are_freed() {
    let mut run = Run::start(|ctx| async move {
        loop {
            drop(ctx.call_activity::<()>("detached", &()).detached().start());
            drop(ctx.call_activity::<()>("", &()).start());
            let _unread = ctx.call_activity::<()>("unread", &()).start();
            crate::select! {
                _ = ctx.event::<Nothing>() => {}
                _ = ctx.cancelled() => return Ok(()),
                () = ctx.sleep(days(1)) => {}
            }
            ctx.call_activity::<()>("a", &()).await?;
        }
    });
    for round in 0..100 {
        // A round makes six calls: the second is refused, the fourth is a wait, and the sixth ends the round.
        let first = round * 6;
        run.completes(first + 1, ());
        run.completes(first + 3, ());
        if round % 2 == 0 {
            run.raises("Nothing", ());
        } else {
            run.fires(first + 5);
        }
        run.completes(first + 6, ());
    }
    let state = run.execution.core().lock();
    assert_eq!(state.calls.len(), 3, "those of the running round");
    assert_eq!(state.mailbox.names(), 1);
    assert_eq!(state.cancel.waits(), 1);
}

/// Uses its context when it is dropped.
struct UsesContextOnDrop(OrchestrationContext, Arc<Mutex<Vec<String>>>);

impl Drop for UsesContextOnDrop {
    fn drop(&mut self) {
        let late = self.0.call_activity::<()>("late", &()).start();
        self.1.lock().expect("is not poisoned").push(format!("{:?}", self.0.try_event::<Nothing>().is_some()));
        drop(late);
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing;

impl crate::orchestration::Event for Nothing {
    const NAME: &'static str = "Nothing";
}

#[test]
fn evicting_a_live_copy_records_and_reports_nothing() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let mut run = Run::start(move |ctx| {
        let log = log.clone();
        async move {
            let _destructor = UsesContextOnDrop(ctx.clone(), log);
            let _started = ctx.call_activity::<()>("a", &()).start();
            crate::select! {
                _ = ctx.event::<Nothing>() => Ok(()),
                result = ctx.call_activity::<()>("b", &()) => Ok(result?),
                () = ctx.sleep(days(1)) => Ok(()),
            }
        }
    });
    run.reload();
    assert_eq!(seen.lock().expect("is not poisoned").as_slice(), ["false"], "the destructor has run, in vain");
    assert_eq!(run.strays(), 0);
    assert!(run.execution.fault().is_none());
    // The copy that was replayed from history has all calls of the evicted one.
    assert_eq!(run.raises("Nothing", ()), [dropped(1), dropped(3), dropped(4), COMPLETED]);
}

#[test]
fn destructor_that_runs_within_a_poll_may_use_the_context() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut run = Run::start(move |ctx| {
        let seen = seen.clone();
        async move {
            let destructor = UsesContextOnDrop(ctx.clone(), seen);
            ctx.call_activity::<()>("a", &()).await?;
            drop(destructor);
            Ok(ctx.call_activity::<()>("b", &()).await?)
        }
    });
    assert_eq!(run.completes(1, ()), [activity(3, "b")], "its call claims a number, and was dropped in its step");
}
