//! The origin of events: the place of a call, the attempt of an outcome, the author of a request.

use duroxide::client::Note;
use duroxide::history::{EventKind, HistoryEvent, Input};
use duroxide::prelude::*;
use duroxide::provider::InstanceStatus;

use super::started;

#[event(name = "origin-word")]
struct Word {
    text: String,
}

#[activity(name = "origin-fails-twice", retry(max_attempts = 3, initial_interval = "10s"))]
async fn fails_twice(ctx: ActivityContext) -> duroxide::Result<u32> {
    if ctx.attempt() < 3 { Err(duroxide::Error::new("not yet")) } else { Ok(ctx.attempt()) }
}

#[orchestration(name = "origin-calls")]
async fn calls(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    select! {
        _ = ctx.event::<Word>() => {},
        () = ctx.sleep(seconds(1)) => {},
    }
    Ok(fails_twice::call(&ctx).await?)
}

#[orchestration(name = "origin-reads-one")]
async fn reads_one(ctx: OrchestrationContext, left: u32) -> duroxide::Result<()> {
    ctx.event::<Word>().await;
    if left > 0 { reads_one::continue_as_new(&ctx, left - 1).await } else { Ok(()) }
}

#[orchestration(name = "origin-sleeps")]
async fn sleeps(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ctx.sleep(days(1)).await;
    Ok(())
}

fn word(text: &str) -> Word {
    Word { text: text.to_owned() }
}

fn inputs(history: &[HistoryEvent]) -> impl Iterator<Item = &Input> {
    history.iter().filter_map(|event| match &event.kind {
        EventKind::Input(input) => Some(input),
        EventKind::Decision(_) => None,
    })
}

fn authors(history: &[HistoryEvent]) -> Vec<&str> {
    inputs(history).filter_map(Input::by).collect()
}

#[tokio::test]
async fn history_names_places_and_the_run_of_an_outcome() {
    let test = started().await;
    let handle = calls::start(&test.client(), "origin-1").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3);
    let history = handle.history().await.unwrap();
    let places: Vec<_> = history.iter().filter_map(|event| event.at.as_deref()).collect();
    assert_eq!(places.len(), 3, "{history:#?}");
    assert!(places.iter().all(|place| place.starts_with("tests/e2e/origin.rs:")), "{places:?}");
    let line = |place: &str| place.split(':').nth(1).unwrap().parse::<u32>().unwrap();
    assert_eq!([line(places[1]), line(places[2])], [line(places[0]) + 1, line(places[0]) + 3]);

    let outcome = history.iter().find(|event| matches!(&event.kind, EventKind::Input(input) if input.run().is_some()));
    let outcome = outcome.expect("the outcome names its run");
    let EventKind::Input(input) = &outcome.kind else { unreachable!() };
    let run = input.run().unwrap();
    assert_eq!(run.attempt, 3);
    assert_eq!(run.node, test.client().nodes().await.unwrap()[0].epoch);
    let scheduled =
        history.iter().find(|event| matches!(&event.kind, EventKind::Decision(d) if d.call() == input.call()));
    let waited = outcome.time.as_micros() - scheduled.unwrap().time.as_micros();
    assert!(run.after >= seconds(10) && run.after.as_micros() <= waited.unsigned_abs().into(), "{run:?} {outcome}");
    test.shutdown().await.unwrap();
}

#[tokio::test]
async fn history_names_the_author_of_each_request() {
    let test = started().await;
    let client = test.client();
    let ana = client.clone().with_note(Note::by("ana"));
    // An event that a later execution reads keeps its author.
    let reader = reads_one::start(&client, "origin-2", 1).await.unwrap();
    let of_ana = reads_one::handle(&ana, "origin-2");
    of_ana.raise(word("first")).await.unwrap();
    of_ana.raise(word("second")).await.unwrap();
    reader.wait().await.unwrap();
    for number in [1, 2] {
        assert_eq!(authors(&reader.history_of(number).await.unwrap()), ["ana"], "{number}");
    }

    for (id, delayed) in [("origin-3", false), ("origin-4", true)] {
        let sleeper = sleeps::start(&client, id).delay(if delayed { days(1) } else { seconds(0) }).await.unwrap();
        sleeps::handle(&ana, id).cancel("not needed").await.unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), InstanceStatus::Cancelled);
        assert_eq!(authors(&sleeper.history().await.unwrap()), ["ana"], "{id}");
    }

    let terminated = sleeps::start(&client, "origin-5").await.unwrap();
    sleeps::handle(&ana, "origin-5").terminate("enough").await.unwrap();
    let last = terminated.history().await.unwrap().pop().unwrap().to_string();
    assert!(last.ends_with("terminated by ana: enough"), "{last}");

    let anonymous = sleeps::start(&client, "origin-6").await.unwrap();
    anonymous.cancel("not needed").await.unwrap();
    anonymous.wait().await.unwrap();
    assert!(authors(&anonymous.history().await.unwrap()).is_empty());
    test.shutdown().await.unwrap();
}
