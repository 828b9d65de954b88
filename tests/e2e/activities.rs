//! Activities: retry, timeouts, panics, cancellation, state, blocking.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use duroxide::error::TimedOut;
use duroxide::history::{EventKind, Input};
use duroxide::prelude::*;
use duroxide::{OutcomeError, Timeout};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::runtime::Gate;

#[activity]
pub(crate) async fn double(n: u64) -> duroxide::Result<u64> {
    Ok(n * 2)
}

#[orchestration]
pub(crate) async fn chain(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut value = 1;
    for _ in 0..n {
        value = double::call(&ctx, value).await? % 1_000_003;
    }
    Ok(value)
}

#[tokio::test]
async fn chain_of_activities_completes() {
    let test = crate::started().await;
    let handle = chain::start(&test.client(), "chain", 100).await.unwrap();
    let expected = (0..100).fold(1u64, |v, _| v * 2 % 1_000_003);
    assert_eq!(handle.result().await.unwrap(), expected);
    // The events: started, 100 x (scheduled, completed), completed.
    assert_eq!(handle.history().await.unwrap().len(), 202);
    test.shutdown().await.unwrap();
}

#[orchestration]
async fn fan_out(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut sum = 0;
    for result in join_all((0..n).map(|i| double::call(&ctx, i))).await {
        sum += result?;
    }
    Ok(sum)
}

#[orchestration]
async fn fan_out_unordered(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let mut calls: FuturesUnordered<_> = (0..n).map(|i| double::call(&ctx, i)).collect();
    let mut sum = 0;
    while let Some(result) = calls.next().await {
        sum += result?;
    }
    Ok(sum)
}

#[tokio::test]
async fn fan_in_of_10_000_activities_finishes() {
    let test = crate::started().await;
    let n = 10_000;
    let joined = fan_out::start(&test.client(), "join_all", n).await.unwrap();
    assert_eq!(joined.result().await.unwrap(), n * (n - 1));
    let unordered = fan_out_unordered::start(&test.client(), "unordered", n).await.unwrap();
    assert_eq!(unordered.result().await.unwrap(), n * (n - 1));
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, thiserror::Error)]
enum Flaky {
    #[error("transient")]
    Transient,
    #[error("final")]
    Final,
}

impl Flaky {
    fn is_transient(&self) -> bool {
        *self == Self::Transient
    }
}

#[activity(retry(max_attempts = 4, initial_interval = "10s", if = Flaky::is_transient))]
async fn flaky(State(calls): State<Arc<AtomicU32>>, good_from: u32) -> Result<u32, Flaky> {
    let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
    match call {
        _ if good_from == 0 => Err(Flaky::Final),
        call if call >= good_from => Ok(call),
        _ => Err(Flaky::Transient),
    }
}

#[orchestration]
async fn calls_flaky(ctx: OrchestrationContext, good_from: u32) -> Result<u32, Flaky> {
    flaky::call(&ctx, good_from).await.map_err(|e| e.into_failed().expect("the activity's own error"))
}

async fn run_flaky(good_from: u32) -> (Result<u32, Flaky>, u32) {
    let calls = Arc::new(AtomicU32::new(0));
    let test = crate::builder().state(calls.clone()).start().await.unwrap();
    let handle = calls_flaky::start(&test.client(), "flaky", good_from).await.unwrap();
    let result = handle.result().await.map_err(|e| match e {
        OutcomeError::Failed(e) => e,
        other => panic!("{other}"),
    });
    (result, calls.load(Ordering::SeqCst))
}

#[tokio::test]
async fn transient_error_is_retried_until_success() {
    assert_eq!(run_flaky(3).await, (Ok(3), 3));
}

#[tokio::test]
async fn attempts_are_limited() {
    assert_eq!(run_flaky(9).await, (Err(Flaky::Transient), 4));
}

#[tokio::test]
async fn non_retryable_error_ends_the_call_at_once() {
    assert_eq!(run_flaky(0).await, (Err(Flaky::Final), 1));
}

#[activity(retry(max_attempts = 2, initial_interval = "2h"))]
async fn succeeds_after_hours(ctx: ActivityContext) -> duroxide::Result<()> {
    if ctx.attempt() == 1 { Err(duroxide::Error::new("not yet")) } else { Ok(()) }
}

#[orchestration]
async fn measures_first_pauses(ctx: OrchestrationContext) -> duroxide::Result<[Duration; 2]> {
    let begun = ctx.now();
    succeeds_after_hours::call(&ctx).await?;
    let declared = ctx.now();
    let capped = RetryPolicy::new().max_attempts(2).initial_interval(hours(2)).max_interval(hours(1));
    succeeds_after_hours::call(&ctx).retry(capped).await?;
    Ok([declared.since(begun), ctx.now().since(declared)])
}

#[tokio::test]
async fn only_an_explicit_maximum_cuts_the_first_pause() {
    let test = crate::started().await;
    let pauses = measures_first_pauses::start(&test.client(), "pauses").await.unwrap().result().await.unwrap();
    let is_about = |pause: Duration, expected: Duration| (expected.mul_f64(0.9)..=expected).contains(&pause);
    assert!(is_about(pauses[0], hours(2)) && is_about(pauses[1], hours(1)), "{pauses:?}");
}

#[activity]
async fn never_returns(State(gate): State<Gate>) -> duroxide::Result<()> {
    gate.arrive();
    std::future::pending().await
}

#[orchestration]
async fn times_out(ctx: OrchestrationContext) -> duroxide::Result<(bool, bool)> {
    let start_to_close = never_returns::call(&ctx).timeout(Duration::from_secs(5)).await;
    let whole = never_returns::call(&ctx).schedule_to_close(Duration::from_secs(7)).await;
    let is = |result: &Result<(), CallError<duroxide::Error>>, limit| matches!(result, Err(CallError::TimedOut(timed_out)) if timed_out.limit == limit);
    Ok((is(&start_to_close, Timeout::StartToClose), is(&whole, Timeout::ScheduleToClose)))
}

#[tokio::test]
async fn timeouts_end_an_activity() {
    let gate = Gate::default();
    let test = crate::builder().state(gate.clone()).start().await.unwrap();
    let handle = times_out::start(&test.client(), "late").await.unwrap();
    // The virtual clock does not advance while an activity runs, so the test advances it past both limits.
    for call in 1..=2 {
        gate.until_arrived(call).await;
        test.advance(Duration::from_secs(10));
    }
    assert_eq!(handle.result().await.unwrap(), (true, true));
}

/// Receives a byte over a socket.
fn byte_over_a_socket() -> std::io::Result<u8> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    TcpStream::connect(listener.local_addr()?)?.write_all(&[7])?;
    let mut byte = [0];
    listener.accept()?.0.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[activity(timeout = "1h")]
async fn waits_for_a_socket() -> duroxide::Result<u8> {
    let (sender, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(byte_over_a_socket()));
    Ok(tokio::time::timeout(Duration::from_secs(3600), answer).await???)
}

#[orchestration]
async fn waits_for_a_socket_for_an_hour(ctx: OrchestrationContext) -> duroxide::Result<(u8, Duration)> {
    let begin = ctx.now();
    let byte = select! {
        byte = waits_for_a_socket::call(&ctx) => byte?,
        () = ctx.sleep(hours(1)) => 0,
    };
    Ok((byte, ctx.now().since(begin)))
}

#[tokio::test]
async fn virtual_clock_stands_still_while_an_activity_runs() {
    let test = crate::started().await;
    let handle = waits_for_a_socket_for_an_hour::start(&test.client(), "socket").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), (7, Duration::ZERO));
}

#[activity(timeout = "20ms")]
async fn yields_for_ever() -> duroxide::Result<()> {
    loop {
        tokio::task::consume_budget().await;
    }
}

#[orchestration]
async fn reports_timeout(ctx: OrchestrationContext) -> duroxide::Result<bool> {
    Ok(matches!(
        yields_for_ever::call(&ctx).await,
        Err(CallError::TimedOut(TimedOut { limit: Timeout::StartToClose, .. }))
    ))
}

#[tokio::test]
async fn timeout_ends_an_activity_that_exhausts_the_tokio_budget() {
    let registry = Registry::empty().with_activity::<yields_for_ever>().with_orchestration::<reports_timeout>();
    let runtime = Runtime::builder().registry(registry).in_memory().start().await.unwrap();
    let handle = reports_timeout::start(&runtime.client(), "busy").await.unwrap();
    assert!(handle.result().await.unwrap());
    runtime.shutdown().await.unwrap();
}

#[activity]
async fn panics() -> duroxide::Result<()> {
    panic!("of the activity");
}

#[orchestration]
async fn survives_a_panic(ctx: OrchestrationContext) -> duroxide::Result<String> {
    match panics::call(&ctx).await {
        Err(CallError::Panicked { message, .. }) => Ok(message),
        other => Err(duroxide::Error::new(format!("{other:?}"))),
    }
}

#[tokio::test]
async fn activity_panic_is_an_error_of_the_call() {
    let test = crate::started().await;
    let handle = survives_a_panic::start(&test.client(), "panic").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "instance `panic`: of the activity");
}

#[orchestration]
async fn panics_itself(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(seconds(1)).await;
    panic!("of the orchestration");
}

#[orchestration]
async fn calls_a_panicking_child(ctx: OrchestrationContext) -> duroxide::Result<String> {
    Ok(panics_itself::call(&ctx).id("panicking-child").await.unwrap_err().to_string())
}

#[tokio::test]
async fn orchestration_panic_names_its_function_and_instance() {
    let log = crate::logging::log();
    let test = crate::started().await;
    let handle = panics_itself::start(&test.client(), "panics-itself").await.unwrap();
    let error = handle.result().await.unwrap_err().to_string();
    assert_eq!(error, "orchestration `panics_itself`, instance `panics-itself`, panicked: of the orchestration");
    let line = log.until("has panicked instance=panics-itself ").await.text;
    assert!(line.starts_with("WARN") && line.contains("panics_itself"), "{line}");
    let lines = log.with("instance=panics-itself ");
    assert!(lines.iter().all(|line| !line.text.contains("of the orchestration")), "{lines:?}");

    let untyped = test.client().handle("panics-itself");
    let error = untyped.result_as::<(), String>().await.unwrap_err().to_string();
    assert_eq!(error, "the orchestration of instance `panics-itself` panicked: of the orchestration");

    let parent = calls_a_panicking_child::start(&test.client(), "has-a-panicking-child").await.unwrap();
    let error = parent.result().await.unwrap();
    assert_eq!(error, "panicked: orchestration \"panics_itself\": instance `panicking-child`: of the orchestration");
}

#[activity]
fn blocks(n: u64) -> duroxide::Result<u64> {
    Ok(n + 1)
}

#[orchestration]
async fn calls_blocking(ctx: OrchestrationContext, n: u64) -> duroxide::Result<u64> {
    let results = join_all((0..n).map(|i| blocks::call(&ctx, i))).await;
    results.into_iter().map(|r| r.map_err(Into::into)).sum()
}

#[tokio::test]
async fn hundred_blocking_activities_finish() {
    let test = crate::started().await;
    let handle = calls_blocking::start(&test.client(), "blocking", 100).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 5050);
}

#[orchestration]
async fn refuses(ctx: OrchestrationContext) -> duroxide::Result<String> {
    match ctx.call_activity::<()>("double", &f64::NAN).await {
        Err(CallError::Rejected { reason, .. }) => Ok(reason),
        other => Err(duroxide::Error::new(format!("{other:?}"))),
    }
}

#[tokio::test]
async fn unrepresentable_input_is_refused_at_the_call() {
    let test = crate::started().await;
    let handle = refuses::start(&test.client(), "nan").await.unwrap();
    assert!(handle.result().await.unwrap().contains("NaN"), "the reason names the value");
}

#[tokio::test]
async fn crashed_nodes_leave_each_step_in_history_once() {
    let mut test = crate::started().await;
    chain::start(&test.client(), "survivor", 500).await.unwrap();
    for _ in 0..5 {
        let crashed = test.crash();
        // Lets the tasks of the crashed node take one more step.
        tokio::task::yield_now().await;
        test = crashed.start().await.unwrap();
    }
    let handle = chain::handle(&test.client(), "survivor");
    assert_eq!(handle.result().await.unwrap(), (0..500).fold(1u64, |v, _| v * 2 % 1_000_003));
    assert_eq!(handle.history().await.unwrap().len(), 1002);
}

#[activity(timeout = "5s", retry(max_attempts = 3, initial_interval = "1s"))]
async fn hangs_twice(ctx: ActivityContext, State(gate): State<Gate>) -> duroxide::Result<u32> {
    gate.arrive();
    if ctx.attempt() < 3 { std::future::pending().await } else { Ok(ctx.attempt()) }
}

#[orchestration]
async fn calls_hanging_twice(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(hangs_twice::call(&ctx).await?)
}

#[tokio::test]
async fn timed_out_attempt_is_retried() {
    let gate = Gate::default();
    let test = crate::builder().state(gate.clone()).start().await.unwrap();
    let handle = calls_hanging_twice::start(&test.client(), "calls_hanging_twice").await.unwrap();
    let time_out_twice = async {
        for attempt in 1..=2 {
            gate.until_arrived(attempt).await;
            test.advance(Duration::from_secs(5));
        }
    };
    assert_eq!(join!(handle.result(), time_out_twice).0.unwrap(), 3);
}

/// Fails with a status of HTTP; from the given attempt on it does not return.
#[activity]
async fn unavailable(ctx: ActivityContext, State(gate): State<Gate>, hangs_from: u32) -> Result<(), u16> {
    if ctx.attempt() >= hangs_from {
        gate.arrive();
        std::future::pending::<()>().await;
    }
    Err(503)
}

#[orchestration]
async fn calls_unavailable(ctx: OrchestrationContext, hangs_from: u32) -> Result<(), CallError<u16>> {
    let retry = RetryPolicy::new().initial_interval(Duration::from_secs(4));
    unavailable::call(&ctx, hangs_from).retry(retry).schedule_to_close(Duration::from_secs(30)).await
}

/// Checks the time-out of an activity that has failed in each attempt.
async fn check_time_out(hangs_from: u32, attempts: u32) {
    let gate = Gate::default();
    let test = crate::builder().state(gate.clone()).start().await.unwrap();
    let handle = calls_unavailable::start(&test.client(), "unavailable", hangs_from).await.unwrap();
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.result().await.unwrap_err() }
    });
    if hangs_from < u32::MAX {
        gate.until_arrived(1).await;
        test.advance(Duration::from_secs(30));
    }
    let error = waiting.await.unwrap();
    let text = error.to_string();
    let OutcomeError::Failed(CallError::TimedOut(timed_out)) = error else { panic!("{error}") };
    assert_eq!((timed_out.limit, timed_out.attempts), (Timeout::ScheduleToClose, Some(attempts)));
    assert_eq!((timed_out.activity.as_deref(), timed_out.after), (Some("unavailable"), Some(Duration::from_secs(30))));
    assert_eq!(timed_out.last, Some(Box::new(CallError::Failed(503))));
    assert!(text.contains("activity \"unavailable\": ") && text.contains("limit of 30s; attempts: "), "{text}");
    assert!(text.ends_with("; the last error: 503"), "{text}");
    let history = handle.history().await.unwrap();
    let is_failure = |kind: &EventKind| matches!(kind, EventKind::Input(Input::ActivityFailed { .. }));
    let event = history.iter().find(|event| is_failure(&event.kind)).unwrap();
    assert_eq!(event.payload.as_bytes(), b"503");
}

#[tokio::test]
async fn time_out_carries_the_failure_of_the_last_attempt() {
    // The attempts begin after about 0, 4, 12 and 28 seconds; the next one would begin after the limit.
    check_time_out(u32::MAX, 4).await;
}

#[tokio::test]
async fn time_out_of_a_running_attempt_carries_the_failure_before() {
    check_time_out(3, 2).await;
}
