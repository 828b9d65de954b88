//! Code that cannot be replayed is reported with its place, instead of hanging or being ignored.

use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use super::support::*;
use crate::clock::Timestamp;
use crate::error::{ErrorCode, Suspension};
use crate::orchestration::{OrchestrationContext, days};
use crate::payload::Payload;

fn is_here(suspension: &Suspension) -> bool {
    suspension.place.as_ref().is_some_and(|place| place.contains("misuse.rs"))
}

#[test]
fn wait_that_is_not_durable_is_reported_in_the_same_step() {
    let at_once = Run::start_fails(|_| std::future::pending::<Result<()>>());
    assert_eq!(at_once.code, ErrorCode::NonDurableWait);
    assert!(at_once.message.starts_with("orchestration `test` 1.0.0 (test.rs:1) waits"), "{at_once}");
    assert!(at_once.message.contains("before its first"), "{at_once}");
    assert_eq!(at_once.place.as_deref(), Some("test.rs:1"), "the place of the function");
    let mut run = Run::start(|ctx| async move {
        ctx.call_activity::<()>("a", &()).await?;
        std::future::pending::<Result<()>>().await
    });
    let later = run.fails(activity_completed(1), Payload::NULL);
    assert_eq!(later.code, ErrorCode::NonDurableWait);
    assert!(is_here(&later), "the place of the last durable call: {later}");
    assert!(later.message.starts_with("orchestration `test` 1.0.0 (test.rs:1) waits"), "{later}");
}

#[test]
fn started_call_that_is_not_awaited_is_no_durable_wait() {
    let suspension = Run::start_fails(|ctx| async move {
        let _started = ctx.call_activity::<()>("a", &()).start();
        std::future::pending::<Result<()>>().await
    });
    assert_eq!(suspension.code, ErrorCode::NonDurableWait);
}

#[test]
fn delivered_event_that_is_not_taken_is_no_durable_wait() {
    let mut run = Run::start(|ctx| async move {
        let mut wait = ctx.event_named::<u32>("E");
        assert!(poll_once(&mut wait).await.is_pending());
        std::future::pending::<Result<()>>().await
    });
    let suspension = run.fails(raised("E"), payload(&1));
    assert_eq!(suspension.code, ErrorCode::NonDurableWait);
}

#[test]
fn every_durable_wait_counts() {
    let waits: [fn(OrchestrationContext) -> futures_util::future::BoxFuture<'static, ()>; 5] = [
        |ctx| Box::pin(async move { drop(ctx.call_activity::<()>("a", &()).await) }),
        |ctx| Box::pin(async move { ctx.sleep(days(1)).await }),
        |ctx| Box::pin(async move { ctx.event_named::<()>("E").await }),
        |ctx| Box::pin(async move { drop(ctx.call_orchestration::<()>("c", &()).await) }),
        |ctx| Box::pin(async move { drop(ctx.cancelled().await) }),
    ];
    for wait in waits {
        drop(Run::start(move |ctx| async move {
            wait(ctx).await;
            Ok(())
        }));
    }
}

#[test]
fn stray_wake_is_reported_when_it_arrives() {
    let waker = Arc::new(Mutex::new(None::<Waker>));
    let shared = waker.clone();
    let run = Run::start(move |ctx| {
        let waker = shared.clone();
        async move {
            let foreign = std::future::poll_fn(|context| {
                *waker.lock().expect("is not poisoned") = Some(context.waker().clone());
                std::task::Poll::<()>::Pending
            });
            crate::select! {
                () = foreign => Ok(()),
                result = ctx.call_activity::<()>("a", &()) => Ok(result?),
            }
        }
    });
    assert!(run.execution.fault().is_none(), "a durable call is pending, too");
    let waker = waker.lock().expect("is not poisoned").take().expect("was polled");
    thread::spawn(move || waker.wake()).join().expect("wakes");
    let fault = run.execution.fault().expect("is reported");
    assert_eq!(fault.0.code, ErrorCode::NonDurableWait);
    assert!(is_here(&fault.0));
    assert_eq!(run.strays(), 1);
}

#[test]
fn wake_of_an_evicted_copy_is_ignored() {
    let waker = Arc::new(Mutex::new(None::<Waker>));
    let shared = waker.clone();
    let mut run = Run::start(move |ctx| {
        let waker = shared.clone();
        async move {
            let call = ctx.call_activity::<()>("a", &());
            std::future::poll_fn(|context| {
                *waker.lock().expect("is not poisoned") = Some(context.waker().clone());
                std::task::Poll::Ready(())
            })
            .await;
            Ok(call.await?)
        }
    });
    let old = waker.lock().expect("is not poisoned").take().expect("was polled");
    run.reload();
    old.wake();
    assert_eq!(run.strays(), 0);
    assert_eq!(run.completes(1, ()), [COMPLETED]);
}

#[test]
fn context_in_another_thread_is_reported_with_its_place() {
    let uses: [fn(&OrchestrationContext); 7] = [
        |ctx| assert_eq!(ctx.now(), Timestamp::default()),
        |ctx| assert_eq!(ctx.random(), 0),
        |ctx| assert_eq!(ctx.uuid().get_version_num(), 4),
        |ctx| drop(ctx.call_activity::<()>("a", &()).start()),
        |ctx| drop(ctx.sleep(Duration::ZERO)),
        |ctx| drop(ctx.event_named::<()>("E")),
        |ctx| drop(ctx.cancelled()),
    ];
    for used in uses {
        let suspension = Run::start_fails(move |ctx| async move {
            let smuggled = ctx.clone();
            thread::spawn(move || used(&smuggled)).join().expect("returns");
            Ok(ctx.call_activity::<()>("b", &()).await?)
        });
        assert_eq!(suspension.code, ErrorCode::ContextOutsideTurn);
        assert!(is_here(&suspension), "{suspension}");
    }
}

#[test]
fn context_used_between_polls_is_reported_at_once() {
    let smuggled = Arc::new(Mutex::new(None));
    let shared = smuggled.clone();
    let run = Run::start(move |ctx| {
        *shared.lock().expect("is not poisoned") = Some(ctx.clone());
        async move { Ok(ctx.call_activity::<()>("a", &()).await?) }
    });
    let ctx = smuggled.lock().expect("is not poisoned").take().expect("was smuggled");
    let call = ctx.call_activity::<()>("b", &()).start();
    drop(call);
    assert_eq!(run.execution.fault().map(|fault| fault.0.code), Some(ErrorCode::ContextOutsideTurn));
    assert_eq!(run.strays(), 1, "reported once");
}

#[test]
fn context_used_in_the_poll_of_another_execution_is_reported() {
    let smuggled = Arc::new(Mutex::new(None));
    let shared = smuggled.clone();
    let owner = Run::start(move |ctx| {
        *shared.lock().expect("is not poisoned") = Some(ctx.clone());
        async move { Ok(ctx.call_activity::<()>("a", &()).await?) }
    });
    let other = Run::start(move |ctx| {
        let foreign = smuggled.lock().expect("is not poisoned").clone().expect("was smuggled");
        async move {
            foreign.random();
            Ok(ctx.call_activity::<()>("a", &()).await?)
        }
    });
    assert_eq!(owner.execution.fault().map(|fault| fault.0.code), Some(ErrorCode::ContextOutsideTurn));
    assert!(other.execution.fault().is_none(), "its own context is not misused");
}

#[test]
fn option_set_after_the_first_poll_is_reported_with_its_place() {
    let activity = Run::start_fails(|ctx| async move {
        let mut call = ctx.call_activity::<()>("a", &());
        assert!(poll_once(&mut call).await.is_pending());
        Ok(call.tag("late").await?)
    });
    let started =
        Run::start_fails(|ctx| async move { Ok(ctx.call_activity::<()>("a", &()).start().detached().await?) });
    let child =
        Run::start_fails(|ctx| async move { Ok(ctx.call_orchestration::<()>("a", &()).start().id("i").await?) });
    let detached = Run::start_fails(|ctx| async move {
        let _id = ctx.call_orchestration::<()>("a", &()).start().detached().await?;
        Ok(())
    });
    let end = Run::start_fails(|ctx| async move {
        let mut end = ctx.continue_as_new::<Result<()>>(&());
        assert!(poll_once(&mut end).await.is_pending());
        end.version("2.0.0").await
    });
    for suspension in [activity, started, child, detached, end] {
        assert_eq!(suspension.code, ErrorCode::OptionsAfterPoll);
        assert!(is_here(&suspension), "{suspension}");
    }
}

#[test]
fn dropping_a_call_in_another_thread_records_nothing() {
    let mut run = Run::start(|ctx| async move {
        let started = ctx.call_activity::<()>("a", &()).start();
        ctx.call_activity::<()>("b", &()).await?;
        thread::spawn(move || drop(started)).join().expect("returns");
        Ok(ctx.call_activity::<()>("c", &()).await?)
    });
    assert_eq!(run.completes(2, ()), [activity(3, "c")]);
}
