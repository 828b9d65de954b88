//! Cancellation: a listening function receives the request; the execution of any other ends.

use super::support::*;
use crate::history::{Decision, EndRequest, Input, Parent};
use crate::id::{CallId, ExecutionId, InstanceId};
use crate::orchestration::days;
use crate::payload::Payload;

fn cancelled() -> Decision {
    Decision::Cancelled { reason: "why".to_owned() }
}

#[test]
fn cancel_ends_a_function_that_does_not_listen() {
    let mut run = Run::start(|ctx| async move {
        let _child = ctx.call_orchestration::<()>("ship", &()).start();
        Ok(ctx.call_activity::<()>("a", &()).await?)
    });
    assert_eq!(run.cancels("why"), [cancelled()]);
    assert!(run.dropped().is_empty(), "the end closes what is open");
    assert_eq!(run.execution.close().open.len(), 2);
}

#[test]
fn cancel_reaches_a_listening_function_which_may_compensate() {
    let mut run = Run::start(|ctx| async move {
        let reason = crate::select! {
            reason = ctx.cancelled() => reason,
            result = ctx.call_activity::<()>("charge", &()) => return Ok(result.map(|()| String::new())?),
        };
        ctx.call_activity::<()>("refund", &()).await?;
        Ok(reason)
    });
    assert_eq!(run.cancels("why"), [dropped(1), activity(2, "refund")]);
    assert_eq!(run.completes(2, ()), [COMPLETED]);
    assert_eq!(run.output::<String>(), "why");
}

#[test]
fn listening_once_is_enough_even_if_the_wait_was_dropped() {
    let mut run = Run::start(|ctx| async move {
        drop(ctx.cancelled());
        ctx.call_activity::<()>("a", &()).await?;
        Ok((ctx.cancel_requested(), ctx.cancelled().await))
    });
    assert_eq!(run.cancels("why"), NOTHING);
    assert_eq!(run.completes(1, ()), [COMPLETED]);
    assert_eq!(run.output::<(String, String)>(), ("why".to_owned(), "why".to_owned()));
}

#[test]
fn asking_counts_as_listening() {
    let mut run = Run::start(|ctx| async move {
        assert_eq!(ctx.cancel_requested(), None);
        Ok(ctx.call_activity::<()>("a", &()).await?)
    });
    assert_eq!(run.cancels("why"), NOTHING);
}

#[test]
fn cancel_resolves_all_waits_in_the_same_step() {
    let mut run = Run::start(|ctx| async move {
        let (a, b) = crate::join!(ctx.cancelled(), ctx.cancelled());
        Ok(a == b)
    });
    assert_eq!(run.cancels("why"), [COMPLETED]);
}

#[test]
fn only_the_first_cancel_request_counts() {
    let mut run = Run::start(|ctx| async move {
        let reason = ctx.cancelled().await;
        ctx.sleep(days(1)).await;
        Ok(reason)
    });
    run.cancels("why");
    run.ignores(Input::CancelRequested { reason: "again".to_owned(), parent: None, by: None });
    run.fires(1);
    assert_eq!(run.output::<String>(), "why");
}

#[test]
fn request_of_a_parent_reaches_only_its_own_child() {
    let parent = |call| {
        let execution =
            ExecutionId { instance: InstanceId::new("parent").expect("is valid"), identity: IDENTITY, number: 2 };
        Some(Box::new(Parent { execution, call: CallId(call) }))
    };
    let function = || {
        function(|ctx, _| async move {
            ctx.sleep(days(1)).await;
            Ok(())
        })
    };
    let mut child = Run::before_start(function());
    let Input::Started(mut begun) = started() else { unreachable!("it starts") };
    begun.parent = parent(7).map(|parent| *parent);
    child.deliver(Input::Started(begun), Payload::NULL);
    let mut stranger = Run::before_start(function());
    stranger.deliver(started(), Payload::NULL);
    for run in [&mut child, &mut stranger] {
        run.ignores(Input::CancelRequested { reason: "why".to_owned(), parent: parent(8), by: None });
        run.ignores(Input::TerminateRequested { reason: "why".to_owned(), parent: parent(8), by: None });
    }
    stranger.ignores(Input::CancelRequested { reason: "why".to_owned(), parent: parent(7), by: None });
    let cancelled =
        child.deliver(Input::CancelRequested { reason: "why".to_owned(), parent: parent(7), by: None }, Payload::NULL);
    assert_eq!(cancelled, [Decision::Cancelled { reason: "why".to_owned() }]);
}

#[test]
fn result_of_a_cancelled_function_is_its_outcome() {
    let mut run = Run::start(|ctx| async move {
        let reason = ctx.cancelled().await;
        Err::<(), _>(crate::Error::new(reason))
    });
    assert_eq!(run.cancels("why"), [failed()]);
}

fn begun_with(request: EndRequest) -> Input {
    let Input::Started(mut started) = started() else { unreachable!("it is a start") };
    started.request = Some(request);
    Input::Started(started)
}

fn cancel() -> Input {
    begun_with(EndRequest::Cancel { reason: "why".to_owned(), by: None })
}

#[test]
fn request_before_the_start_ends_it_without_its_function() {
    let before = EndRequest::CancelBeforeStart { reason: "why".to_owned(), by: None };
    let terminate = EndRequest::Terminate { reason: "why".to_owned(), by: None };
    let terminated = Decision::Terminated { reason: "why".to_owned(), by: None };
    for (request, end) in [(before, cancelled()), (terminate, terminated)] {
        let mut run = Run::before_start(function::<(), _>(|_, _| async { unreachable!("it does not run") }));
        assert_eq!(run.deliver(begun_with(request), Payload::NULL), [end]);
    }
}

#[test]
fn ignored_request_at_the_start_takes_effect_at_the_first_wait() {
    let mut run = Run::before_start(function(|ctx, _| async move { Ok(ctx.call_activity::<()>("a", &()).await?) }));
    assert_eq!(run.deliver(cancel(), Payload::NULL), [activity(1, "a"), cancelled()]);
    let mut run = Run::before_start(function::<(), _>(|ctx, _| async move { ctx.continue_as_new(&()).await }));
    assert_eq!(run.deliver(cancel(), Payload::NULL), [cancelled()], "the next execution would ignore it, too");
}

#[test]
fn function_that_listens_receives_the_request_at_its_start() {
    let mut run = Run::before_start(function(|ctx, _| async move {
        let reason = ctx.cancelled().await;
        ctx.call_activity::<()>("undo", &()).await?;
        Ok(reason)
    }));
    assert_eq!(run.deliver(cancel(), Payload::NULL), [activity(1, "undo")]);
    assert_eq!(run.completes(1, ()), [COMPLETED]);
}

#[test]
fn result_of_the_first_step_outlives_an_earlier_request() {
    let mut run = Run::before_start(function(|_, _| async { Ok(7) }));
    assert_eq!(run.deliver(cancel(), Payload::NULL), [COMPLETED]);
}
