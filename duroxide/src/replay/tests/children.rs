//! Child orchestrations and detached starts.

use serde_json::{Value, json};

use super::support::*;
use crate::error::CallError;
use crate::history::{Decision, EventKind, Failure, Input};
use crate::id::CallId;
use crate::policy::ClosePolicy;
use crate::replay::op::Op;
use crate::replay::open_children;

fn rejected(call: u64) -> Input {
    Input::StartRejected { call: CallId(call), reason: "taken".to_owned() }
}

#[test]
fn child_resolves_to_its_output() {
    let mut run = Run::start(|ctx| async move { Ok(ctx.call_orchestration::<u32>("ship", &"in").id("s").await?) });
    assert_eq!(run.decided(), [child(1, "ship", "s")]);
    assert_eq!(run.output::<String>(), "in");
    assert_eq!(run.child_completes(1, 4), [COMPLETED]);
    assert_eq!(run.output::<u32>(), 4);
}

#[test]
fn child_without_an_id_is_recorded_without_one() {
    let run = Run::start(|ctx| async move {
        let _first = ctx.call_orchestration::<()>("ship", &()).start();
        Ok(ctx.call_orchestration::<()>("ship", &()).await?)
    });
    assert_eq!(run.decided(), [child(1, "ship", ""), child(2, "ship", "")]);
}

#[test]
fn failed_or_refused_child_is_an_error_of_the_call() {
    let failed = Input::ChildFailed { call: CallId(1), failure: Failure::Application, callee: None };
    let cancelled =
        Input::ChildFailed { call: CallId(1), failure: Failure::Cancelled { reason: "why".to_owned() }, callee: None };
    let cases = [
        (failed, CallError::Failed(json!("lost"))),
        (cancelled, CallError::Cancelled { reason: "why".to_owned(), callee: None }),
        (rejected(1), CallError::Rejected { reason: "taken".to_owned(), callee: None }),
    ];
    for (input, seen) in cases {
        let mut run = Run::start(|ctx| async move {
            let result = ctx.call_orchestration::<()>("ship", &()).await;
            Ok(result.expect_err("has failed"))
        });
        assert_eq!(run.deliver(input, payload(&"lost")), [COMPLETED]);
        assert_eq!(run.output::<CallError<Value>>(), seen);
    }
}

#[test]
fn refused_child_options_are_recorded_and_fail_the_call() {
    let run = Run::start(|ctx| async move {
        let ship = |name: &str| ctx.call_orchestration::<()>(name, &());
        let refused = [
            ship("").await.expect_err("no name"),
            ship("a").id("").await.expect_err("no id"),
            ship("a").version("1").await.expect_err("not semver"),
        ];
        let detached = ship("a").id("\n").detached().await;
        Ok(refused.iter().all(|e| matches!(e, CallError::Rejected { .. })) && detached.is_err())
    });
    let refused = run.decided().iter().filter(|d| matches!(d, Decision::CallRejected { .. })).count();
    assert_eq!((refused, run.output::<bool>()), (4, true));
}

#[test]
fn dropped_child_call_is_closed_by_its_policy() {
    for close in [ClosePolicy::Cancel, ClosePolicy::Terminate, ClosePolicy::Abandon] {
        let mut run = Run::start(move |ctx| async move {
            let child = ctx.call_orchestration::<()>("ship", &()).id("s").on_parent_close(close).start();
            ctx.call_activity::<()>("a", &()).await?;
            drop(child);
            Ok(ctx.call_activity::<()>("b", &()).await?)
        });
        let step = run.execution.step(activity_completed(2), payload(&()), second(2)).expect("continues");
        let closed = Op::Child { instance: crate::InstanceId::new("s").expect("is an id"), close };
        assert_eq!(step.dropped, [(CallId(1), closed)]);
        run.history.extend(step.events);
        run.ignores(Input::ChildCompleted { call: CallId(1) });
    }
}

#[test]
fn abandoned_child_is_started_even_if_its_call_is_dropped() {
    let mut run = Run::start(|ctx| async move {
        let child = |close| ctx.call_orchestration::<()>("ship", &()).on_parent_close(close).start();
        drop([ClosePolicy::Cancel, ClosePolicy::Terminate, ClosePolicy::Abandon].map(child));
        Ok(ctx.call_activity::<()>("a", &()).await?)
    });
    let [Decision::ChildScheduled(left), next] = run.decided() else { panic!("{:?}", run.decided()) };
    assert_eq!((left.call, left.close, next), (CallId(3), ClosePolicy::Abandon, &activity(4, "a")));
    assert!(run.dropped().is_empty());
    assert_eq!(run.child_completes(3, ()), NOTHING);
    run.ignores(Input::ChildCompleted { call: CallId(3) });
    assert_eq!(run.completes(4, ()), [COMPLETED]);
}

#[test]
fn detached_start_resolves_to_the_id_once_the_instance_exists() {
    let mut run = Run::start(|ctx| async move {
        let instance = ctx.call_orchestration::<()>("audit", &()).id("log").detached().await?;
        Ok(instance)
    });
    assert_eq!(run.decided(), [detached_start(1, "audit", "log")]);
    run.ignores(Input::ChildCompleted { call: CallId(1) });
    assert_eq!(run.deliver(Input::StartAccepted { call: CallId(1) }, payload(&())), [COMPLETED]);
    assert_eq!(run.output::<String>(), "log");
}

#[test]
fn detached_start_of_a_taken_id_is_refused() {
    let mut run = Run::start(|ctx| async move {
        Ok(ctx.call_orchestration::<()>("audit", &()).detached().await.map_err(|e| e.to_string()))
    });
    assert_eq!(run.deliver(rejected(1), payload(&())), [COMPLETED]);
    assert_eq!(run.output::<std::result::Result<String, String>>(), Err("rejected: taken".to_owned()));
}

#[test]
fn dropped_detached_start_still_starts() {
    let mut run = Run::start(|ctx| async move {
        drop(ctx.call_orchestration::<()>("audit", &()).id("log").detached().start());
        Ok(ctx.call_activity::<()>("a", &()).await?)
    });
    assert_eq!(run.decided(), [detached_start(1, "audit", "log"), activity(2, "a")]);
    assert!(run.dropped().is_empty());
    assert_eq!(run.deliver(Input::StartAccepted { call: CallId(1) }, payload(&())), NOTHING);
    run.ignores(Input::StartAccepted { call: CallId(1) });
}

#[test]
fn open_children_are_found_from_history_alone() {
    let mut run = Run::start(|ctx| async move {
        let call = |id: &str| ctx.call_orchestration::<()>("ship", &()).id(id).start();
        let (_open, done, dropped, refused) = (call("open"), call("done"), call("dropped"), call("refused"));
        let _detached = ctx.call_orchestration::<()>("ship", &()).id("detached").detached().start();
        done.await?;
        drop(dropped);
        refused.await.expect_err("is taken");
        ctx.sleep(crate::orchestration::days(1)).await;
        Ok(())
    });
    run.child_completes(2, ());
    run.deliver(rejected(4), payload(&()));
    let ids = |ops: Vec<(CallId, Op)>| {
        ops.into_iter().filter_map(|(_, op)| match op {
            Op::Child { instance, .. } => Some(instance.to_string()),
            _ => None,
        })
    };
    assert_eq!(ids(open_children(&execution_id(), &run.history)).collect::<Vec<_>>(), ["open"]);
    let started = run.history.iter().filter(|e| matches!(e.kind, EventKind::Decision(Decision::ChildScheduled(_))));
    assert_eq!(started.count(), 5);
    let open = run.execution.close().open;
    assert_eq!(ids(open).collect::<Vec<_>>(), ["open"], "the live copy says the same");
}
