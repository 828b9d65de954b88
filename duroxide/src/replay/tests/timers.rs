//! Durable timers.

use std::time::Duration;

use super::support::*;
use crate::clock::Timestamp;
use crate::orchestration::hours;

#[test]
fn timer_duration_counts_from_the_step_of_the_first_poll() {
    let mut run = Run::start(|ctx| async move {
        let sleep = ctx.sleep(Duration::from_secs(10));
        ctx.call_activity::<()>("a", &()).await?;
        sleep.await;
        Ok(ctx.now())
    });
    assert_eq!(run.completes(2, ()), [timer(1, second(2 + 10))]);
    assert_eq!(run.fires(1), [COMPLETED]);
    assert_eq!(run.output::<Timestamp>(), second(3));
}

#[test]
fn started_timer_runs_from_its_start() {
    let mut run = Run::start(|ctx| async move {
        let sleep = ctx.sleep(Duration::from_secs(10)).start();
        ctx.call_activity::<()>("a", &()).await?;
        sleep.await;
        Ok(())
    });
    assert_eq!(run.decided(), [timer(1, second(11)), activity(2, "a")]);
    assert_eq!(run.fires(1), NOTHING);
    assert_eq!(run.completes(2, ()), [COMPLETED]);
}

#[test]
fn timer_accepts_a_time_even_in_the_past() {
    let mut run = Run::start(|ctx| async move {
        ctx.sleep_until(second(0)).await;
        ctx.sleep_until(second(99)).await;
        Ok(())
    });
    assert_eq!(run.decided(), [timer(1, second(0))]);
    assert_eq!(run.fires(1), [timer(2, second(99))]);
}

#[test]
fn longest_timer_does_not_overflow() {
    let run = Run::start(|ctx| async move {
        ctx.sleep(Duration::MAX).await;
        Ok(())
    });
    assert_eq!(run.decided(), [timer(1, Timestamp::MAX)]);
}

#[test]
fn time_never_runs_backwards_even_if_the_clock_does() {
    let mut run = Run::start(|ctx| async move {
        let mut seen = vec![ctx.now()];
        for _ in 0..2 {
            ctx.sleep(hours(1)).await;
            seen.push(ctx.now());
        }
        assert!(seen.is_sorted(), "{seen:?}");
        Ok(seen)
    });
    run.fires(1);
    let fired = crate::history::Input::TimerFired { call: crate::id::CallId(2) };
    let step = run.execution.step(fired, payload(&()), second(-5)).expect("continues");
    assert_eq!(step.events[0].time, second(2));
    run.history.extend(step.events);
}
