//! Standard combinators are correct; a step polls the calls that were completed, not all that are pending.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::support::*;
use crate::orchestration::{OrchestrationContext, join_all, race};

#[test]
fn select_takes_the_first_branch_that_history_completes() {
    for winner in [1, 2] {
        let mut run = Run::start(|ctx| async move {
            crate::select! {
                one = ctx.call_activity::<u32>("one", &()) => Ok(one?),
                two = ctx.call_activity::<u32>("two", &()) => Ok(two?),
            }
        });
        assert_eq!(run.completes(winner, winner), [dropped(3 - winner), COMPLETED]);
        assert_eq!(run.output::<u64>(), winner);
        assert_eq!(run.dropped(), [3 - winner]);
    }
}

#[test]
fn branches_complete_at_the_first_poll_win_in_source_order() {
    for order in [[1, 2], [2, 1]] {
        let mut run = Run::start(|ctx| async move {
            let one = ctx.call_activity::<u32>("one", &()).start();
            let two = ctx.call_activity::<u32>("two", &()).start();
            ctx.call_activity::<()>("wait", &()).await?;
            crate::select! {
                two = two => Ok(two?),
                one = one => Ok(one?),
            }
        });
        for call in order {
            run.completes(call, call);
        }
        assert_eq!(run.completes(3, ()), [COMPLETED], "the loser has its outcome, so nothing is dropped");
        assert_eq!(run.output::<u32>(), 2);
    }
}

#[test]
fn borrowed_call_that_won_a_select_is_not_polled_again() {
    let mut run = Run::start(|ctx| async move {
        let mut slow = ctx.call_activity::<u32>("slow", &());
        let mut seen = Vec::new();
        while seen.len() < 3 {
            crate::select! {
                slow = &mut slow => seen.push(slow?),
                fast = ctx.call_activity::<u32>("fast", &()) => seen.push(fast?),
            }
        }
        Ok(seen)
    });
    assert_eq!(run.decided(), [activity(1, "slow"), activity(2, "fast")]);
    assert_eq!(run.completes(2, 20), [activity(3, "fast")]);
    assert_eq!(run.completes(1, 10), [dropped(3), activity(4, "fast")]);
    assert_eq!(run.completes(4, 40), [COMPLETED]);
    assert_eq!(run.output::<[u32; 3]>(), [20, 10, 40]);
}

#[test]
fn join_waits_for_all_in_any_order() {
    for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        let mut run = Run::start(|ctx| async move {
            let call = |name: &str| ctx.call_activity::<u32>(name, &());
            let (a, b, c) = crate::join!(call("a"), call("b"), call("c"));
            Ok([a?, b?, c?])
        });
        for call in order {
            run.completes(call, call);
        }
        assert_eq!(run.output::<[u32; 3]>(), [1, 2, 3]);
    }
}

#[test]
fn race_takes_the_first_and_drops_the_others() {
    let mut run = Run::start(|ctx| async move {
        let (position, output) = race((0..3).map(|n| ctx.call_activity::<u32>("a", &n))).await;
        Ok((position, output?))
    });
    assert_eq!(run.completes(2, 7), [dropped(1), dropped(3), COMPLETED]);
    assert_eq!(run.output::<(usize, u32)>(), (1, 7));
}

#[test]
fn unordered_collection_yields_in_the_order_of_history() {
    let mut run = Run::start(|ctx| async move {
        let mut calls: FuturesUnordered<_> = (0..3).map(|n| ctx.call_activity::<u32>("a", &n)).collect();
        let first = calls.next().await.expect("has three")?;
        calls.push(ctx.call_activity::<u32>("b", &first));
        let mut seen = vec![first];
        while let Some(output) = calls.next().await {
            seen.push(output?);
        }
        Ok(seen)
    });
    assert_eq!(run.completes(3, 3), [activity(4, "b")]);
    run.completes(4, 4);
    run.completes(1, 1);
    assert_eq!(run.completes(2, 2), [COMPLETED]);
    assert_eq!(run.output::<[u32; 4]>(), [3, 4, 1, 2]);
}

#[test]
fn branches_may_wake_each_other_within_a_step() {
    let mut run = Run::start(|ctx| async move {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let producer = async {
            let value = ctx.call_activity::<u32>("a", &()).await;
            sender.send(value).is_ok()
        };
        let (received, sent) = crate::join!(receiver, producer);
        assert!(sent);
        Ok(received??)
    });
    assert_eq!(run.completes(1, 3), [COMPLETED]);
}

#[test]
fn pending_future_may_move_to_another_task() {
    let mut run = Run::start(|ctx| async move {
        let mut call = ctx.call_activity::<u32>("a", &());
        let mut wait = ctx.event_named::<u32>("E");
        let mut cancelled = ctx.cancelled();
        assert!(poll_once(&mut call).await.is_pending());
        assert!(poll_once(&mut wait).await.is_pending());
        assert!(poll_once(&mut cancelled).await.is_pending());
        // From here on each future is a task of the collection, which polls only the tasks that were woken.
        let tasks: [BoxFuture<'_, Result<u32>>; 3] = [
            Box::pin(async { Ok(call.await?) }),
            Box::pin(async { Ok(wait.await) }),
            Box::pin(async { Ok(cancelled.await.len() as u32) }),
        ];
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        let mut seen = Vec::new();
        while let Some(output) = tasks.next().await {
            seen.push(output?);
            ctx.call_activity::<()>("next", &()).await?;
        }
        Ok(seen)
    });
    assert_eq!(run.cancels("why"), [activity(3, "next")]);
    run.completes(3, ());
    assert_eq!(run.raises("E", 10), [activity(4, "next")]);
    run.completes(4, ());
    assert_eq!(run.completes(1, 20), [activity(5, "next")]);
    run.completes(5, ());
    assert_eq!(run.output::<Vec<u32>>(), [3, 10, 20]);
}

/// Counts how often a future is polled.
struct Counted<F>(F, Arc<AtomicUsize>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll(context)
    }
}

/// Completes a fan-in of n calls one by one; returns how often their futures were polled.
fn polls_of_fan_in<F>(
    n: u64,
    fan_in: impl Fn(OrchestrationContext, Arc<AtomicUsize>) -> F + Send + Sync + 'static,
) -> usize
where
    F: Future<Output = Result<u64>> + Send + 'static,
{
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = polls.clone();
    let mut run = Run::start(move |ctx| fan_in(ctx, counter.clone()));
    assert_eq!(run.decided().len() as u64, n);
    // Backwards, which is the worst order for a combinator that scans from the first pending call.
    for call in (1..=n).rev() {
        run.completes(call, call);
    }
    assert_eq!(run.output::<u64>(), n * (n + 1) / 2);
    polls.load(Ordering::Relaxed)
}

#[test]
fn fan_in_of_ten_thousand_polls_each_call_twice() {
    let n = 10_000;
    let joined = polls_of_fan_in(n, move |ctx, polls| async move {
        let calls = (0..n).map(|i| Counted(ctx.call_activity::<u64>("a", &i), polls.clone()));
        join_all(calls).await.into_iter().map(|output| Ok(output?)).sum()
    });
    let unordered = polls_of_fan_in(n, move |ctx, polls| async move {
        let calls = (0..n).map(|i| Counted(ctx.call_activity::<u64>("a", &i), polls.clone()));
        let mut calls: FuturesUnordered<_> = calls.collect();
        let mut sum = 0;
        while let Some(output) = calls.next().await {
            sum += output?;
        }
        Ok(sum)
    });
    assert_eq!((joined as u64, unordered as u64), (2 * n, 2 * n));
}
