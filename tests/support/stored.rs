//! Reads arbitrary stored bytes, which must be accepted or refused with an error. The fuzz targets and a test call it.

use duroxide::history::HistoryEvent;
use duroxide::id::EventId;
use duroxide::prelude::*;
use duroxide::provider::Message;
use duroxide::provider::{EventRow, MessageRow};
use duroxide::testing::check_history;
use duroxide::{Payload, Registry, Timestamp};

/// The time at which the histories of the corpus were recorded: 2020-01-01, where a test's virtual clock begins.
const RECORDED: i64 = 1_577_836_800_000_000;

/// Reads a history, and replays it if all of its events are valid. Each line is an event: `D` (decision) or `I` (input), a
/// blank, its data, a tab, its payload.
pub fn history(text: &str) {
    let Some(events) = events(text) else { return };
    for event in &events {
        let again = HistoryEvent::try_from(EventRow::from(event));
        assert_eq!(again.as_ref(), Ok(event), "an event is written as it was read");
    }
    // The history may not match the code; only a panic fails the test.
    let _ = check_history(&registry(), &events);
}

/// Parses the lines of a history. Returns `None` if an event is invalid.
pub fn events(text: &str) -> Option<Vec<HistoryEvent>> {
    (1..).zip(text.lines()).map(|(id, line)| event(id, line).try_into().ok()).collect()
}

fn event(id: u64, line: &str) -> EventRow {
    let (event, payload) = line.split_once('\t').unwrap_or((line, "null"));
    EventRow {
        id: EventId(id),
        time: Timestamp::from_micros(RECORDED),
        decision: event.starts_with('D'),
        format: 1,
        data: event.get(2..).unwrap_or_default().to_owned(),
        payload: payload_of(payload),
        at: None,
    }
}

/// Reads a message: its data, a tab, its payload.
pub fn message(text: &str) {
    let (data, payload) = text.split_once('\t').unwrap_or((text, "null"));
    let row = MessageRow { payload: payload_of(payload), ..MessageRow::new(data) };
    let Ok(message) = Message::try_from(row) else { return };
    let again = Message::try_from(MessageRow::from(&message));
    assert_eq!(again, Ok(message), "a message is written as it was read");
}

fn payload_of(json: &str) -> Payload {
    Payload::from_json_bytes(json.as_bytes().to_vec())
}

/// Returns the registry that the histories are replayed against.
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
