//! Exports the spans of a runtime to a collector, as OTLP in JSON over HTTP.
//!
//! The trace of a start continues in its orchestration, its activities and its children: the feature `opentelemetry` of
//! Duroxide carries the trace context of W3C in the headers of the instance.
//!
//! ```text
//! docker run -p 4318:4318 otel/opentelemetry-collector    # or any program that accepts OTLP on this port
//! cargo run -p opentelemetry-example
//! ```
//!
//! The exporter here is as small as possible. A program would use the crate `opentelemetry-otlp`.

mod exporter;

use duroxide::prelude::*;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use exporter::HttpExporter;

#[activity]
async fn charge(order: u32) -> duroxide::Result<u32> {
    // This line, and the spans of clients that the activity uses, belong to the span of the attempt.
    tracing::info!(order, "charging");
    Ok(order * 100)
}

#[orchestration]
async fn ship(ctx: OrchestrationContext, order: u32) -> duroxide::Result<String> {
    ctx.sleep(seconds(1)).await;
    Ok(format!("shipped {order}"))
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: u32) -> duroxide::Result<String> {
    charge::call(&ctx, order).await?;
    Ok(ship::call(&ctx, order).await?)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    let provider = install("127.0.0.1:4318");
    println!("{}", run().await?);
    provider.shutdown()?;
    Ok(())
}

/// Exports the spans of this process from now on.
fn install(collector: &str) -> SdkTracerProvider {
    let exporter = HttpExporter::new(collector);
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("checkout"));
    tracing_subscriber::registry().with(layer).with(tracing_subscriber::fmt::layer()).init();
    provider
}

async fn run() -> duroxide::Result<String> {
    let runtime = Runtime::builder().in_memory().start().await?;
    // As the middleware of a web server would make it.
    let request = tracing::info_span!("POST /orders");
    let start = async { checkout::start(&runtime.client(), "order-17", 17).await };
    let handle = start.instrument(request).await?;
    let shipped = handle.result().await?;
    runtime.shutdown().await?;
    Ok(shipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    /// A collector that accepts requests of OTLP, and passes on their spans.
    fn collector() -> (String, mpsc::Receiver<Value>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (spans, received) = mpsc::channel();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = BufReader::new(connection.expect("a connection"));
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    connection.read_line(&mut line).expect("a line");
                    if let Some(value) = line.strip_prefix("Content-Length: ") {
                        length = value.trim().parse().expect("a length");
                    }
                }
                let mut body = vec![0; length];
                connection.read_exact(&mut body).expect("a body");
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let exported = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
                exported.iter().for_each(|span| spans.send(span.clone()).expect("a receiver"));
                connection.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("an answer");
            }
        });
        (address, received)
    }

    fn attribute<'a>(span: &'a Value, name: &str) -> &'a str {
        let all = span["attributes"].as_array().expect("attributes");
        let found = all.iter().find(|attribute| attribute["key"] == name);
        found.and_then(|attribute| attribute["value"]["stringValue"].as_str()).unwrap_or_default()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn trace_of_a_request_continues_in_activities_and_children() {
        let (address, received) = collector();
        let provider = install(&address);
        assert_eq!(run().await.expect("a result"), "shipped 17");
        provider.shutdown().expect("all spans are exported");
        let spans: Vec<_> = received.try_iter().collect();
        let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();

        let request = named("POST /orders")[0];
        let start = named("duroxide.start")[0];
        assert_eq!(start["parentSpanId"], request["spanId"]);
        let turns = named("duroxide.turn");
        let of = |name: &str| turns.iter().filter(|turn| attribute(turn, "duroxide.orchestration") == name).count();
        assert!(of("checkout") >= 2 && of("ship") >= 2, "{turns:?}");
        let attempt = named("duroxide.attempt");
        assert_eq!(attempt.len(), 1);
        assert_eq!(attribute(attempt[0], "duroxide.activity"), "charge");
        for span in turns.iter().chain(&attempt) {
            assert_eq!(span["traceId"], request["traceId"], "{span}");
            assert_eq!(span["parentSpanId"], start["spanId"], "{span}");
        }
    }
}
