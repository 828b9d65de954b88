//! External events: a mailbox for each name, from which a wait takes an event only when it resolves.

use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};

use super::support::*;
use crate::error::{ErrorCode, UnreadMessage};
use crate::history::{EventKind, HistoryEvent};
use crate::message::{Lane, Message};
use crate::orchestration::{Event, join_all};
use crate::payload::Payload;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note(u32);

impl Event for Note {
    const NAME: &'static str = "Note";
}

/// Returns the events that are unread at the end, as names and numbers.
fn unread(run: &mut Run) -> Vec<(String, u32)> {
    let number = |payload: Payload| payload.decode().expect("is a number");
    let unread = run.execution.close().unread.into_iter();
    unread.map(|unread| (unread.name, number(unread.event.payload))).collect()
}

#[test]
fn wait_resolves_when_its_event_arrives() {
    let mut run = Run::start(|ctx| async move { Ok(ctx.event::<Note>().await) });
    assert_eq!(run.decided(), [awaits(1, "Note")]);
    assert_eq!(run.raises("Other", 1), NOTHING);
    assert_eq!(run.raises("Note", 2), [COMPLETED]);
    assert_eq!(run.output::<u32>(), 2);
    assert_eq!(unread(&mut run), [("Other".to_owned(), 1)]);
}

#[test]
fn early_events_wait_in_order_and_are_taken_without_a_record() {
    let mut run = Run::start(|ctx| async move {
        ctx.call_activity::<()>("a", &()).await?;
        Ok([ctx.event::<Note>().await, ctx.event::<Note>().await])
    });
    run.raises("Note", 1);
    run.raises("Note", 2);
    run.raises("Note", 3);
    assert_eq!(run.completes(1, ()), [COMPLETED]);
    assert_eq!(run.output::<[u32; 2]>(), [1, 2]);
    assert_eq!(unread(&mut run), [("Note".to_owned(), 3)]);
}

#[test]
fn wait_that_was_dropped_consumes_nothing() {
    let mut run = Run::start(|ctx| async move {
        for _ in 0..2 {
            crate::select! {
                _ = ctx.event::<Note>() => unreachable!("it comes later"),
                result = ctx.call_activity::<()>("a", &()) => result?,
            }
        }
        ctx.call_activity::<()>("b", &()).await?;
        Ok(ctx.event::<Note>().await)
    });
    assert_eq!(run.completes(2, ()), [dropped(1), awaits(3, "Note"), activity(4, "a")]);
    assert_eq!(run.completes(4, ()), [dropped(3), activity(5, "b")]);
    run.raises("Note", 7);
    assert_eq!(run.completes(5, ()), [COMPLETED]);
    assert_eq!(run.output::<u32>(), 7);
}

#[test]
fn wait_polled_and_dropped_in_one_step_leaves_no_record() {
    let run = Run::start(|ctx| async move {
        let mut wait = ctx.event::<Note>();
        assert!(poll_once(&mut wait).await.is_pending());
        drop(wait);
        Ok(ctx.event::<Note>().await)
    });
    assert_eq!(run.decided(), [awaits(2, "Note")]);
}

#[test]
fn wait_that_was_polled_first_is_served_first() {
    let mut run = Run::start(|ctx| async move {
        let built_first = ctx.event::<Note>();
        let built_second = ctx.event::<Note>();
        let (second, first) = crate::join!(built_second, built_first);
        Ok([first, second])
    });
    run.raises("Note", 1);
    assert_eq!(run.raises("Note", 2), [COMPLETED]);
    assert_eq!(run.output::<[u32; 2]>(), [2, 1]);
}

#[test]
fn unpolled_wait_receives_nothing() {
    let mut run = Run::start(|ctx| async move {
        let _never = ctx.event::<Note>();
        Ok(ctx.event::<Note>().await)
    });
    assert_eq!(run.raises("Note", 1), [COMPLETED]);
}

#[test]
fn dropping_a_woken_wait_unpolled_wakes_the_next() {
    let mut run = Run::start(|ctx| async move {
        let mut kept = ctx.event::<Note>();
        assert!(poll_once(&mut kept).await.is_pending());
        let younger = ctx.event::<Note>();
        let dropper = async {
            // Completes between two polls of the younger wait: the first is pending, the next one resolves.
            ctx.call_activity::<()>("a", &()).await.expect("completes");
            drop(kept);
            std::future::pending::<()>().await;
        };
        crate::select! {
            note = younger => Ok(note),
            () = dropper => unreachable!("it never ends"),
        }
    });
    assert_eq!(run.decided(), [awaits(1, "Note"), awaits(2, "Note"), activity(3, "a")]);
    assert_eq!(run.raises("Note", 5), NOTHING, "it belongs to the older wait, which is not polled");
    assert_eq!(run.completes(3, ()), [dropped(1), COMPLETED]);
    assert_eq!(run.output::<u32>(), 5);
}

#[test]
fn dropping_the_older_wait_after_the_newer_loses_nothing() {
    let mut run = Run::start(|ctx| async move {
        let mut older = ctx.event::<Note>();
        let mut newer = ctx.event::<Note>();
        assert!(poll_once(&mut older).await.is_pending());
        assert!(poll_once(&mut newer).await.is_pending());
        let newer = newer.await;
        drop(older);
        Ok([newer, ctx.event::<Note>().await])
    });
    assert_eq!(run.raises("Note", 1), NOTHING, "it belongs to the older wait");
    assert_eq!(run.raises("Note", 2), [dropped(1), COMPLETED]);
    assert_eq!(run.output::<[u32; 2]>(), [1, 2], "consumed in the order of arrival");
}

#[test]
fn wait_may_be_replaced_within_a_step() {
    let mut run = Run::start(|ctx| async move {
        let mut wait = ctx.event::<Note>();
        assert!(poll_once(&mut wait).await.is_pending());
        ctx.call_activity::<()>("a", &()).await?;
        let mut replacement = ctx.event::<Note>();
        assert!(poll_once(&mut replacement).await.is_pending());
        drop(std::mem::replace(&mut wait, replacement));
        Ok(wait.await)
    });
    assert_eq!(run.completes(2, ()), [dropped(1), awaits(3, "Note")]);
    assert_eq!(run.raises("Note", 1), [COMPLETED]);
}

#[test]
fn try_and_drain_leave_the_events_of_polled_waits() {
    let mut run = Run::start(|ctx| async move {
        let mut wait = ctx.event::<Note>();
        assert!(poll_once(&mut wait).await.is_pending());
        ctx.call_activity::<()>("a", &()).await?;
        let tried = ctx.try_event::<Note>();
        let drained = ctx.drain::<Note>();
        let none = (ctx.try_event::<Note>(), ctx.drain::<Note>());
        assert_eq!(none, (None, Vec::new()));
        Ok((wait.await, tried, drained))
    });
    for number in 1..=4 {
        run.raises("Note", number);
    }
    assert_eq!(run.completes(2, ()), [COMPLETED]);
    assert_eq!(run.output::<(u32, u32, Vec<u32>)>(), (1, 2, vec![3, 4]));
}

#[test]
fn try_takes_the_oldest_event_and_drain_takes_all() {
    let mut run = Run::start(|ctx| async move {
        assert_eq!(ctx.try_event::<Note>(), None);
        ctx.call_activity::<()>("a", &()).await?;
        Ok((ctx.try_event::<Note>(), ctx.drain::<Note>(), ctx.try_event::<Note>()))
    });
    for number in 0..1_000 {
        run.raises("Note", number);
    }
    run.completes(1, ());
    let (first, rest, none) = run.output::<(u32, Vec<u32>, Option<u32>)>();
    assert_eq!((first, rest, none), (0, (1..1_000).collect(), None));
}

#[test]
fn unread_events_keep_the_order_of_their_arrival_across_names() {
    let mut run = Run::start(|ctx| async move {
        crate::select! {
            _ = ctx.event_named::<u32>("unused") => unreachable!("never raised"),
            result = ctx.call_activity::<()>("a", &()) => result?,
        }
        ctx.continue_as_new::<Result<()>>(&()).await
    });
    for (number, name) in ["B", "A", "B", "C", "A"].into_iter().enumerate() {
        run.raises(name, number);
    }
    let end = run.completes(2, ());
    assert!(end.last().is_some_and(crate::history::Decision::is_terminal));
    let carried: Vec<_> = ["B", "A", "B", "C", "A"].into_iter().map(str::to_owned).zip(0..).collect();
    assert_eq!(unread(&mut run), carried);
}

#[test]
fn event_that_woke_a_wait_is_unread_until_the_wait_takes_it() {
    let mut run = Run::start(|ctx| async move {
        let mut wait = ctx.event::<Note>();
        assert!(poll_once(&mut wait).await.is_pending());
        ctx.call_activity::<()>("a", &()).await?;
        ctx.continue_as_new::<Result<()>>(&()).await
    });
    run.raises("Note", 1);
    run.completes(2, ());
    assert_eq!(unread(&mut run), [("Note".to_owned(), 1)]);
}

#[test]
fn race_of_an_event_and_a_timer_has_one_winner() {
    let race = || {
        Run::start(|ctx| async move {
            crate::select! {
                note = ctx.event::<Note>() => Ok(Some(note)),
                () = ctx.sleep(Duration::from_secs(1)) => Ok(None),
            }
        })
    };
    let mut event_first = race();
    assert_eq!(event_first.raises("Note", 1), [dropped(2), COMPLETED]);
    let mut timer_first = race();
    assert_eq!(timer_first.fires(2), [dropped(1), COMPLETED]);
    assert_eq!(timer_first.output::<Option<u32>>(), None);
}

#[test]
fn event_of_another_type_is_reported_and_not_consumed() {
    let mut run = Run::start(|ctx| async move { Ok(ctx.event::<Note>().await) });
    let suspension = run.fails(raised("Note"), payload(&"text"));
    assert_eq!(suspension.code, ErrorCode::UnreadableResult);
    assert!(suspension.message.contains("event \"Note\""), "{suspension}");
}

/// Waits until the function is polled again.
async fn next_poll() {
    let mut is_first = true;
    std::future::poll_fn(|_| match std::mem::take(&mut is_first) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

#[test]
fn unread_event_of_a_step_with_held_events_is_named_by_its_id() {
    for (name, reads_held, reloads) in [("Note", true, false), ("Note", true, true), ("Two", false, false)] {
        let mut run = Run::start(|ctx| async move {
            let (mut one, mut two) = (ctx.event::<Note>(), ctx.event_named::<u32>("Two"));
            assert!(poll_once(&mut one).await.is_pending() && poll_once(&mut two).await.is_pending());
            next_poll().await;
            next_poll().await;
            // This wait has the position of the held event, and takes the older one.
            assert_eq!(poll_once(&mut ctx.event::<Note>()).await, Poll::Ready(Note(1)));
            let reads_held = ctx.event_named::<bool>("Go").await;
            Ok(if reads_held { one.await.0 } else { two.await })
        });
        run.raises("Note", 1);
        let held = Message::new(raised("Note"), payload(&"text")).in_lane(Lane::Carried);
        assert_eq!(run.execution.hold(held), None);
        run.raises("Two", "text");
        if reloads {
            run.reload();
        }
        let suspension = run.fails(raised("Go"), payload(&reads_held));
        let is_bad =
            |event: &&HistoryEvent| event.kind == EventKind::Input(raised(name)) && event.payload == payload(&"text");
        let event = run.history.iter().find(is_bad).expect("is recorded");
        assert_eq!(suspension.unread, Some(UnreadMessage::Recorded(event.id)));
    }
}

#[test]
fn ten_thousand_waits_are_served_in_order() {
    let waits = 10_000;
    let mut run = Run::start(move |ctx| async move { Ok(join_all((0..waits).map(|_| ctx.event::<Note>())).await) });
    assert_eq!(run.decided().len(), waits);
    for number in 0..waits {
        run.raises("Note", number);
    }
    assert_eq!(run.output::<Vec<usize>>(), (0..waits).collect::<Vec<_>>());
}

#[test]
fn waits_in_an_unordered_collection_are_served_in_order() {
    let mut run = Run::start(|ctx| async move {
        let waits: FuturesUnordered<_> = (0..3).map(|_| ctx.event::<Note>()).collect();
        Ok(waits.take(2).collect::<Vec<_>>().await)
    });
    run.raises("Note", 1);
    let end = run.raises("Note", 2).to_vec();
    let awaited: Vec<_> = decisions(&run.history[..4]).filter_map(|decision| decision.call()).collect();
    assert_eq!(awaited.len(), 3);
    assert!(end.ends_with(&[COMPLETED]) && end.len() == 2, "the third is dropped: {end:?}");
    assert_eq!(run.output::<Vec<u32>>(), [1, 2]);
}
