//! Sends spans as OTLP in JSON over HTTP.

use std::io::{BufRead, BufReader, Error, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::{Value, json};

/// The exporter. It blocks its caller, which is the thread of the batch processor.
#[derive(Debug)]
pub(crate) struct HttpExporter {
    collector: String,
}

impl HttpExporter {
    pub(crate) fn new(collector: &str) -> Self {
        Self { collector: collector.to_owned() }
    }

    fn post(&self, body: &str) -> Result<(), Error> {
        let mut connection = TcpStream::connect(&self.collector)?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (host, length) = (&self.collector, body.len());
        write!(
            connection,
            "POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut status = String::new();
        BufReader::new(connection).read_line(&mut status)?;
        if status.contains(" 200") { Ok(()) } else { Err(Error::other(format!("the collector answered {status:?}"))) }
    }
}

impl SpanExporter for HttpExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans: Vec<_> = batch.iter().map(span).collect();
        let service = json!([{ "key": "service.name", "value": { "stringValue": "checkout" } }]);
        let scopes = json!([{ "scope": { "name": "duroxide" }, "spans": spans }]);
        let body = json!({ "resourceSpans": [{ "resource": { "attributes": service }, "scopeSpans": scopes }] });
        self.post(&body.to_string()).map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }
}

fn span(span: &SpanData) -> Value {
    let attribute = |attribute: &opentelemetry::KeyValue| json!({ "key": attribute.key.as_str(), "value": { "stringValue": attribute.value.as_str() } });
    let link = |link: &opentelemetry::trace::Link| json!({ "traceId": link.span_context.trace_id().to_string(), "spanId": link.span_context.span_id().to_string() });
    json!({
        "traceId": span.span_context.trace_id().to_string(),
        "spanId": span.span_context.span_id().to_string(),
        "parentSpanId": span.parent_span_id.to_string(),
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": nanoseconds(span.start_time),
        "endTimeUnixNano": nanoseconds(span.end_time),
        "attributes": span.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
    })
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
