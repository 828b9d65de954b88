//! The calls that an execution waits for, as they are recorded after a turn.

use std::collections::BTreeMap;

use super::support::*;
use crate::clock::Timestamp;
use crate::orchestration::{hours, join_all};
use crate::replay::Execution;
use crate::replay::op::Op;

/// Returns the recorded text, and the seconds since which and until which the execution waits.
fn waits(run: &Run) -> Option<(String, i64, Option<i64>)> {
    let seconds = |time: Timestamp| time.as_micros() / 1_000_000;
    let waits = run.execution.waits()?;
    Some((waits.text, seconds(waits.since), waits.until.map(seconds)))
}

fn shown(text: &str, since: i64, until: impl Into<Option<i64>>) -> Option<(String, i64, Option<i64>)> {
    Some((text.to_owned(), since, until.into()))
}

/// Checks the recorded calls against a count of all open ones.
pub(super) fn check(execution: &Execution) {
    let waits = execution.waits();
    let state = execution.core().lock();
    let mut open = BTreeMap::<&str, Vec<String>>::new();
    for call in state.calls.values().filter(|call| call.outcome.is_none() && !call.abandoned) {
        let kind = match &call.op {
            Op::Activity { .. } => "a",
            Op::Child { .. } | Op::DetachedStart => "c",
            Op::Timer => continue,
            Op::Event | Op::Refused => unreachable!("they are not scheduled calls"),
        };
        open.entry(kind).or_default().push(call.facts.name().to_owned());
    }
    let events = state.mailbox.unserved_names();
    if !events.is_empty() {
        open.insert("e", events);
    }
    let total = open.values().map(Vec::len).sum::<usize>();
    let has_timer = state.calls.values().any(|call| call.op == Op::Timer && call.outcome.is_none());
    let expected = match open.first_key_value() {
        None => has_timer.then(|| "t".to_owned()),
        Some((kind, names)) if open.len() == 1 => match &names[..] {
            [name] => Some(format!("{kind}:{name}")),
            [name, others @ ..] if *kind == "e" && others.iter().all(|other| other == name) => {
                Some(format!("{kind}:{name}"))
            }
            _ => Some(format!("{kind}*{total}")),
        },
        Some(_) => Some(format!("*{total}")),
    };
    assert_eq!(waits.as_ref().map(|waits| &waits.text), expected.as_ref());
    assert_eq!(waits.is_some_and(|waits| waits.until.is_some()), has_timer);
}

#[test]
fn each_kind_of_call_is_named() {
    let mut run = Run::start(|ctx| async move {
        ctx.call_activity::<()>("charge", &()).await?;
        ctx.sleep(hours(1)).await;
        ctx.event_named::<u32>("Approval").await;
        ctx.call_orchestration::<()>("ship", &()).await?;
        ctx.cancelled().await;
        Ok(())
    });
    assert_eq!(waits(&run), shown("a:charge", 1, None));
    run.completes(1, ());
    assert_eq!(waits(&run), shown("t", 2, 2 + 3600));
    run.fires(2);
    assert_eq!(waits(&run), shown("e:Approval", 3, None));
    run.raises("Approval", 1);
    assert_eq!(waits(&run), shown("c:ship", 4, None));
    run.child_completes(4, ());
    assert_eq!(waits(&run), None, "a request to cancel is not a call");
}

#[test]
fn several_events_of_one_name_are_named() {
    let mut run = Run::start(|ctx| async move {
        let named = |name: &str| ctx.event_named::<u32>(name);
        join_all([named("Vote"), named("Vote"), named("Vote")]).await;
        join_all([named("Vote"), named("Veto")]).await;
        Ok(())
    });
    assert_eq!(waits(&run), shown("e:Vote", 1, None));
    run.raises("Vote", 1);
    assert_eq!(waits(&run), shown("e:Vote", 1, None), "two are left");
    run.raises("Vote", 2);
    run.raises("Vote", 3);
    assert_eq!(waits(&run), shown("e*2", 4, None), "of different names");
}

#[test]
fn event_is_named_before_the_timer_that_limits_it() {
    let mut run = Run::start(|ctx| async move {
        let mut approval = std::pin::pin!(ctx.event_named::<u32>("Approval"));
        loop {
            crate::select! {
                _ = approval.as_mut() => return Ok(()),
                _ = ctx.sleep(hours(1)) => {}
            }
        }
    });
    assert_eq!(waits(&run), shown("e:Approval", 1, 1 + 3600));
    run.fires(2);
    assert_eq!(waits(&run), shown("e:Approval", 1, 2 + 3600), "since its first poll, until the next timer");
}

#[test]
fn many_calls_are_counted_and_the_last_one_is_named() {
    let mut run = Run::start(|ctx| async move {
        let calls = (0..10_000).map(|n| ctx.call_activity::<()>(&format!("resize-{n}"), &()));
        join_all(calls).await;
        Ok(())
    });
    assert_eq!(waits(&run), shown("a*10000", 1, None));
    for call in (1..=10_000).filter(|call| *call != 77) {
        run.completes(call, ());
    }
    assert_eq!(waits(&run), shown("a:resize-76", 1, None));
    run.reload();
    assert_eq!(waits(&run), shown("a:resize-76", 1, None), "a replayed execution knows the same");
}

#[test]
fn calls_of_several_kinds_are_counted_together() {
    let mut run = Run::start(|ctx| async move {
        let charge = ctx.call_activity::<()>("charge", &()).start();
        let _background = ctx.call_activity::<()>("log", &()).detached().start();
        crate::select! {
            _ = ctx.event_named::<u32>("Stop") => {},
            _ = charge => {},
        }
        ctx.event_named::<u32>("Stop").await;
        Ok(())
    });
    assert_eq!(waits(&run), shown("*3", 1, None));
    run.completes(1, ());
    check(&run.execution);
    assert_eq!(waits(&run), shown("*2", 2, None), "the detached activity, and the event");
    run.completes(2, ());
    assert_eq!(waits(&run), shown("e:Stop", 2, None));
}
