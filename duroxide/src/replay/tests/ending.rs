//! How an execution ends: by return, by panic, as a new one, from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use serde_json::{Value, json};

use super::support::*;
use crate::error::ErrorCode;
use crate::history::{Decision, Input};
use crate::payload::Payload;
use crate::replay::Function;

fn continued(version: Option<&str>) -> Decision {
    Decision::ContinuedAsNew { version: version.map(|text| text.parse().expect("is semver")) }
}

fn terminated() -> Input {
    Input::TerminateRequested { reason: "enough".to_owned(), parent: None, by: None }
}

#[test]
fn function_may_return_without_waiting() {
    let run = Run::start(|_| async { Ok(5) });
    assert_eq!((run.decided(), run.output::<u32>()), (&[COMPLETED][..], 5));
    let run = Run::start(|_| async { Err::<(), _>(crate::Error::new("no")) });
    assert_eq!((run.decided(), run.output::<crate::Error>()), (&[failed()][..], crate::Error::new("no")));
}

#[test]
fn pending_calls_are_closed_at_the_return() {
    let mut run = Run::start(|ctx| async move {
        let _old = ctx.call_activity::<()>("old", &()).start();
        let _unused = ctx.call_activity::<()>("unused", &());
        ctx.call_activity::<()>("a", &()).await?;
        let _new = ctx.call_activity::<()>("new", &()).start();
        Ok(())
    });
    assert_eq!(run.completes(3, ()), [dropped(1), COMPLETED], "the new one has never been");
    assert_eq!(run.dropped(), [1]);
    assert_eq!(run.execution.close().open, []);
}

#[test]
fn continue_as_new_ends_the_execution_with_the_next_input() {
    let mut run = Run::start(|ctx| async move {
        let _pending = ctx.call_activity::<()>("pending", &()).start();
        ctx.call_activity::<()>("a", &()).await?;
        let _last = ctx.call_orchestration::<()>("audit", &()).id("log").detached().start();
        ctx.continue_as_new::<Result<()>>(&json!({"round": 2})).await
    });
    assert_eq!(run.completes(2, ()), [detached_start(3, "audit", "log"), continued(None)]);
    assert_eq!(run.output::<Value>(), json!({"round": 2}));
    assert!(run.dropped().is_empty(), "the end closes the open calls");
    let open: Vec<_> = run.execution.close().open.into_iter().map(|(call, _)| call.0).collect();
    assert_eq!(open, [1, 3]);
}

#[test]
fn continue_as_new_may_name_a_version() {
    let run = Run::start(|ctx| async move { ctx.continue_as_new::<Result<()>>(&()).version("2.0.0").await });
    assert_eq!(run.decided(), [continued(Some("2.0.0"))]);
}

#[test]
fn first_continue_as_new_wins_over_a_second_and_a_return() {
    let run = Run::start(|ctx| async move {
        crate::select! {
            end = ctx.continue_as_new::<Result<()>>(&1) => end,
            end = ctx.continue_as_new::<Result<()>>(&2) => end,
            () = std::future::ready(()) => Ok(()),
        }
    });
    assert_eq!((run.decided(), run.output::<u32>()), (&[continued(None)][..], 1));
}

#[test]
fn function_is_not_polled_after_continue_as_new() {
    let run = Run::start(|ctx| async move {
        let late = async {
            let mut polls = 0;
            std::future::poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls < 2 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            ctx.call_activity::<()>("late", &()).await
        };
        crate::join!(ctx.continue_as_new::<Result<()>>(&()), late).0
    });
    assert_eq!(run.decided(), [continued(None)]);
}

#[test]
fn unawaited_continue_as_new_does_nothing() {
    let run = Run::start(|ctx| async move {
        let _unused = ctx.continue_as_new::<Result<()>>(&());
        Ok(())
    });
    assert_eq!(run.decided(), [COMPLETED]);
}

#[test]
fn continue_as_new_with_refused_values_suspends() {
    let version = Run::start_fails(|ctx| async move { ctx.continue_as_new::<Result<()>>(&()).version("2").await });
    let input = Run::start_fails(|ctx| async move { ctx.continue_as_new::<Result<()>>(&f64::NAN).await });
    for suspension in [version, input] {
        assert_eq!(suspension.code, ErrorCode::PayloadRefused);
        assert!(suspension.place.is_some_and(|place| place.contains("ending.rs")));
    }
}

#[test]
fn termination_ends_any_execution_without_polling_it() {
    let polls = Arc::new(AtomicU32::new(0));
    let counted = polls.clone();
    let mut run = Run::start(move |ctx| {
        let polls = counted.clone();
        async move {
            let cancelled = ctx.cancelled();
            let _child = ctx.call_orchestration::<()>("ship", &()).start();
            let mut cancelled = Box::pin(cancelled);
            std::future::poll_fn(|context| {
                polls.fetch_add(1, Ordering::Relaxed);
                cancelled.as_mut().poll(context)
            })
            .await;
            Ok(())
        }
    });
    let end = Decision::Terminated { reason: "enough".to_owned(), by: None };
    assert_eq!(run.deliver(terminated(), Payload::NULL), [end]);
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    assert_eq!(run.execution.close().open.len(), 1, "the child is left open for its close policy");
}

#[test]
fn panic_of_the_body_fails_the_execution() {
    let mut run = Run::start(|ctx| async move {
        let _pending = ctx.call_activity::<()>("pending", &()).start();
        let count: u32 = ctx.call_activity("a", &()).await?;
        assert!(count > 1, "too few: {count}");
        Ok(())
    });
    assert_eq!(run.completes(2, 1), [dropped(1), panicked("too few: 1")]);
}

#[test]
fn panic_before_the_first_await_fails_the_execution() {
    let run = Run::start(|_| -> std::future::Ready<Result<()>> { panic!("at once") });
    assert_eq!(run.decided(), [panicked("at once")]);
}

#[test]
fn panic_without_a_message_fails_the_execution() {
    let run = Run::start(|_| async {
        std::panic::panic_any(5);
        #[expect(unreachable_code, reason = "it gives the type")]
        Ok(())
    });
    assert_eq!(run.decided(), [panicked("a panic without a message")]);
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[test]
fn panic_in_a_destructor_of_the_body_fails_the_execution() {
    let mut run = Run::start(|ctx| async move {
        ctx.call_activity::<()>("a", &()).await?;
        drop(PanicsOnDrop);
        Ok(())
    });
    assert_eq!(run.completes(1, ()), [panicked("in a destructor")]);
}

#[test]
fn panic_in_a_destructor_does_not_change_a_decided_end() {
    let waiting = || {
        Run::start(|ctx| async move {
            let _panics = PanicsOnDrop;
            ctx.call_activity::<()>("a", &()).await?;
            ctx.continue_as_new::<Result<()>>(&()).await
        })
    };
    assert_eq!(waiting().completes(1, ()), [continued(None)]);
    assert_eq!(waiting().cancels("why"), [Decision::Cancelled { reason: "why".to_owned() }]);
    let end = Decision::Terminated { reason: "enough".to_owned(), by: None };
    assert_eq!(waiting().deliver(terminated(), Payload::NULL), [end]);
}

#[test]
fn unreadable_input_suspends() {
    let typed = Function::new("`test` 1.0.0", "test.rs:1", |core, input: &Payload| {
        let number: u32 = input.decode()?;
        let _ = crate::orchestration::OrchestrationContext::new(core);
        Ok(Box::pin(async move { Ok(payload(&number)) }) as _)
    });
    let suspension = Run::before_start(typed).fails(started(), payload(&"text"));
    assert_eq!(suspension.code, ErrorCode::UnreadableInput);
}
