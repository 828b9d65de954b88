//! Stored bytes, whatever they are: they are read, or refused with an error. What the fuzzer and a test try.

use duroxide::prelude::*;
use duroxide::provider::{EventRow, MessageRow};
use duroxide::testing::check_history;
use duroxide::{EventId, HistoryEvent, Message, Payload, Registry, Timestamp};

/// When the histories of the corpus were recorded: 2020-01-01, where the clock of a test begins.
const RECORDED: i64 = 1_577_836_800_000_000;

/// Reads a history and replays what could be read. A line is an event: `D` for a decision or `I` for an input, a blank, its
/// data, and behind a tab its payload.
pub fn history(text: &str) {
    let Some(events) = events(text) else { return };
    for event in &events {
        let again = HistoryEvent::try_from(EventRow::from(event));
        assert_eq!(again.as_ref(), Ok(event), "what was read is written as it was");
    }
    // Whether it fits the code does not matter here.
    let _ = check_history(&registry(), &events);
}

/// The events, if all of them can be read.
pub fn events(text: &str) -> Option<Vec<HistoryEvent>> {
    (1..).zip(text.lines()).map(|(id, line)| event(id, line).try_into().ok()).collect()
}

fn event(id: u64, line: &str) -> EventRow {
    let (what, payload) = line.split_once('\t').unwrap_or((line, "null"));
    EventRow {
        id: EventId(id),
        time: Timestamp::from_micros(RECORDED),
        decision: what.starts_with('D'),
        format: 1,
        data: what.get(2..).unwrap_or_default().to_owned(),
        payload: payload_of(payload),
    }
}

/// Reads a message: its data, and behind a tab its payload.
pub fn message(text: &str) {
    let (data, payload) = text.split_once('\t').unwrap_or((text, "null"));
    let row = MessageRow { payload: payload_of(payload), ..MessageRow::new(data) };
    let Ok(message) = Message::try_from(row) else { return };
    let again = Message::try_from(MessageRow::from(&message));
    assert_eq!(again, Ok(message), "what was read is written as it was");
}

fn payload_of(json: &str) -> Payload {
    Payload::from_json_bytes(json.as_bytes().to_vec())
}

/// What the histories are replayed against.
pub fn registry() -> Registry {
    Registry::empty().with_activity::<step>().with_orchestration::<tour>().with_orchestration::<stop>()
}

#[event]
pub struct Word {
    pub text: String,
}

#[activity(name = "stored-step", retry(max_attempts = 2, initial_interval = "1ms"))]
pub async fn step(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[orchestration(name = "stored-stop")]
pub async fn stop(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    Ok(step::call(&ctx, n).await?)
}

/// Makes a decision of every kind.
#[orchestration(name = "stored-tour")]
pub async fn tour(ctx: OrchestrationContext, n: u32) -> duroxide::Result<String> {
    let first = step::call(&ctx, n).timeout(days(1)).await?;
    let text = select! {
        word = ctx.event::<Word>() => word.text,
        () = ctx.sleep(days(1)) => ctx.uuid().to_string(),
    };
    let steps = join_all((0..2).map(|n| step::call(&ctx, n))).await;
    let child = stop::call(&ctx, first).id(format!("stop-{n}")).await;
    stop::call(&ctx, n).id(format!("detached-{n}")).detached().await?;
    if n > 0 {
        return tour::continue_as_new(&ctx, n - 1).await;
    }
    Ok(format!("{text} {} {}", steps.iter().filter(|step| step.is_ok()).count(), child.is_ok()))
}
