//! Headers: of a start, which its activities and children inherit, and of external events.

use duroxide::history::{EventKind, HistoryEvent, Input, TextMap};
use duroxide::prelude::*;
use duroxide::{ErrorCode, Registry};

/// Returns the headers of its second attempt, which comes from the queue, not directly from the turn.
#[activity(retry(max_attempts = 2, initial_interval = "1ms"))]
async fn reads_headers(ctx: ActivityContext) -> duroxide::Result<TextMap> {
    if ctx.attempt() == 1 { Err(duroxide::Error::new("again")) } else { Ok(ctx.headers().clone()) }
}

#[activity]
fn reads_headers_at_once(ctx: ActivityContext) -> duroxide::Result<TextMap> {
    Ok(ctx.headers().clone())
}

#[event]
struct Note;

/// Returns its own headers, those of two activities, and those of its children.
#[orchestration]
async fn collects_headers(ctx: OrchestrationContext, depth: u32) -> duroxide::Result<Vec<TextMap>> {
    let mut found = vec![ctx.headers()];
    found.push(reads_headers_at_once::call(&ctx).await?);
    found.push(reads_headers::call(&ctx).await?);
    if depth > 0 {
        found.extend(collects_headers::call(&ctx, depth - 1).await?);
        found.extend(
            ctx.call_orchestration::<Vec<TextMap>>("collects_headers", &(depth - 1))
                .await
                .map_err(duroxide::Error::new)?,
        );
    }
    Ok(found)
}

#[orchestration]
async fn continues_with_headers(ctx: OrchestrationContext, round: u32) -> duroxide::Result<TextMap> {
    if round == 0 {
        ctx.sleep(hours(1)).await;
        return continues_with_headers::continue_as_new(&ctx, 1).await;
    }
    ctx.event::<Note>().await;
    ctx.event::<Note>().await;
    Ok(ctx.headers())
}

fn registry() -> Registry {
    Registry::empty()
        .with::<reads_headers>()
        .with::<reads_headers_at_once>()
        .with::<collects_headers>()
        .with::<continues_with_headers>()
}

fn trace() -> TextMap {
    TextMap::from([("empty".to_owned(), String::new()), ("traceparent".to_owned(), "00-ab-cd-01".to_owned())])
}

#[tokio::test]
async fn headers_of_a_start_reach_activities_and_children() {
    let test = crate::builder().registry(registry()).start().await.unwrap();
    let client = test.client();
    let start = collects_headers::start(&client, "typed", 1).header("traceparent", "old").header("empty", "");
    let typed = start.header("traceparent", "00-ab-cd-01").await.unwrap();
    assert_eq!(typed.result().await.unwrap(), vec![trace(); 9]);
    let start = client.start("collects_headers", "by name", &0).header("traceparent", "00-ab-cd-01");
    let by_name = start.header("empty", "").await.unwrap();
    let found = by_name.result_as::<Vec<TextMap>, duroxide::Error>().await.unwrap();
    assert_eq!(found, vec![trace(); 3]);
    let none = collects_headers::start(&client, "none", 0).await.unwrap();
    assert_eq!(none.result().await.unwrap(), vec![TextMap::new(); 3]);
    for history in [by_name.history().await.unwrap(), none.history().await.unwrap()] {
        duroxide::testing::check_history(&registry(), &history).expect("the replay returns the same headers");
    }
}

fn headers_of_events(history: &[HistoryEvent]) -> Vec<&TextMap> {
    let of = |event: &'_ HistoryEvent| matches!(&event.kind, EventKind::Input(Input::EventRaised { .. }));
    let raised = history.iter().filter(|event| of(event));
    raised
        .map(|event| match &event.kind {
            EventKind::Input(Input::EventRaised { headers, .. }) => headers,
            _ => unreachable!("filtered above"),
        })
        .collect()
}

#[tokio::test]
async fn event_headers_are_recorded_and_survive_continue_as_new() {
    let test = crate::builder().registry(registry()).start().await.unwrap();
    let start = continues_with_headers::start(&test.client(), "x", 0).header("tenant", "north");
    let handle = start.await.unwrap();
    handle.raise(Note).header("traceparent", "00-ab-cd-01").header("empty", "").await.unwrap();
    test.client().handle("x").raise_named("Note", &Note).header("n", "2").await.unwrap();
    // Both events are delivered, and none is consumed.
    crate::settled(&test).await;
    let test = test.crash().start().await.unwrap();
    test.advance(hours(1));
    let handle = continues_with_headers::handle(&test.client(), "x");
    assert_eq!(handle.result().await.unwrap()["tenant"], "north", "the second execution has the headers of the start");
    let second = TextMap::from([("n".to_owned(), "2".to_owned())]);
    for execution in 1..=2 {
        let history = handle.history_of(execution).await.unwrap();
        assert_eq!(headers_of_events(&history), [&trace(), &second], "execution {execution}");
    }
}

#[tokio::test]
async fn mock_with_context_sees_the_headers() {
    let builder = crate::builder().registry(registry());
    let mocked = builder
        .mock_with_context::<reads_headers>(|ctx, ()| Ok([("mocked".to_owned(), ctx.headers()["n"].clone())].into()));
    let test = mocked.start().await.unwrap();
    let handle = collects_headers::start(&test.client(), "x", 0).header("n", "1").await.unwrap();
    assert_eq!(handle.result().await.unwrap()[2]["mocked"], "1");
}

#[tokio::test]
async fn headers_beyond_the_limits_are_refused() {
    let test = crate::builder().registry(registry()).start().await.unwrap();
    let client = test.client();
    let handle = continues_with_headers::start(&client, "x", 0).await.unwrap();
    let (name, value) = ("n".repeat(129), "v".repeat(1025));
    for (name, value, limit) in
        [(name.as_str(), "v", "128"), ("n", value.as_str(), "1024"), ("", "v", "empty"), ("n", "\n", "control")]
    {
        let start = continues_with_headers::start(&client, "new", 0).header(name, value).await.unwrap_err();
        let raise = handle.raise(Note).header(name, value).await.unwrap_err();
        for error in [start, raise] {
            assert_eq!(error.code(), ErrorCode::InvalidId, "{error}");
            assert!(error.to_string().contains("header") && error.to_string().contains(limit), "{error}");
        }
    }
    let longest = handle.raise(Note).header("n".repeat(128), "v".repeat(1024));
    longest.await.unwrap();
}
