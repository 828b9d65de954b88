//! A turn of an execution that is older than an hour begins a trace of its own, with a link to the start.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::sync::{Arc, Mutex};

use duroxide::prelude::*;
use duroxide::testing::TestRuntime;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Keeps the spans that have ended.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[activity]
async fn remind() -> duroxide::Result<()> {
    Ok(())
}

#[orchestration]
async fn reminders(ctx: OrchestrationContext) -> duroxide::Result<()> {
    remind::call(&ctx).await?;
    ctx.sleep(minutes(59)).await;
    ctx.sleep(minutes(1)).await;
    Ok(())
}

#[tokio::test]
async fn old_execution_begins_traces_of_its_own_with_a_link() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test"))).init();
    let test = TestRuntime::start().await.unwrap();
    let request = tracing::info_span!("request");
    let start = async { reminders::start(&test.client(), "reminders").await };
    start.instrument(request).await.unwrap().result().await.unwrap();
    test.shutdown().await.unwrap();
    provider.shutdown().unwrap();

    let spans = kept.0.lock().unwrap();
    let start = &spans.iter().find(|span| span.name == "duroxide.start").unwrap().span_context;
    let (young, old): (Vec<_>, Vec<_>) = spans
        .iter()
        .filter(|span| ["duroxide.turn", "duroxide.attempt"].contains(&&*span.name))
        .partition(|span| span.span_context.trace_id() == start.trace_id());
    assert!(young.len() >= 3 && young.iter().all(|span| span.links.links.is_empty()), "{young:#?}");
    // The last turn alone is an hour after the start.
    let [last] = &old[..] else { panic!("{old:#?}") };
    let linked: Vec<_> =
        last.links.iter().map(|link| (link.span_context.trace_id(), link.span_context.span_id())).collect();
    assert_eq!(linked, [(start.trace_id(), start.span_id())]);
    assert_eq!(last.parent_span_id, opentelemetry::trace::SpanId::INVALID);
}
