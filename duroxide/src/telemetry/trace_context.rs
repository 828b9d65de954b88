//! The trace context of W3C in the headers of an instance: `traceparent` and `tracestate`.
//!
//! ```text
//! client: duroxide.start ── headers ──► turns ── headers ──► attempts of activities, turns of children
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::Span;

type Headers = BTreeMap<String, String>;

/// The header with the ids of a trace and of its last span.
pub const TRACEPARENT: &str = "traceparent";
/// The header with the data of vendors.
pub const TRACESTATE: &str = "tracestate";

/// The age of an execution from which its spans begin traces of their own, with a link: no trace is a week long.
#[cfg(feature = "opentelemetry")]
const MAX_TRACE: Duration = Duration::from_secs(3600);

/// Adds the context of the current span, unless the caller has set one.
#[cfg(feature = "opentelemetry")]
pub(crate) fn inject(headers: &mut Headers) {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if headers.contains_key(TRACEPARENT) || !span.is_valid() {
        return;
    }
    let flags = span.trace_flags().to_u8();
    headers.insert(TRACEPARENT.to_owned(), format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()));
    let state = span.trace_state().header();
    // The limit of a header; the state is optional.
    if !state.is_empty() && state.len() <= 1024 {
        headers.insert(TRACESTATE.to_owned(), state);
    }
}

/// Makes a span a child of the span that the headers name, or links it if the execution is old.
#[cfg(feature = "opentelemetry")]
pub(crate) fn follow(span: &Span, headers: &Headers, age: Duration) {
    use opentelemetry::Context;
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let Some(remote) = parse(headers) else { return };
    if age < MAX_TRACE {
        // The error means that no layer of OpenTelemetry receives the span.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    } else {
        span.add_link(remote);
    }
}

#[cfg(feature = "opentelemetry")]
fn parse(headers: &Headers) -> Option<opentelemetry::trace::SpanContext> {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    let mut parts = headers.get(TRACEPARENT)?.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have further parts.
    let is_valid = version.len() == 2 && version != "ff" && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
    if !is_valid || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let state = headers.get(TRACESTATE).and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, state)).filter(SpanContext::is_valid)
}

#[cfg(not(feature = "opentelemetry"))]
pub(crate) fn inject(_: &mut Headers) {}

#[cfg(not(feature = "opentelemetry"))]
pub(crate) fn follow(_: &Span, _: &Headers, _: Duration) {}

#[cfg(all(test, feature = "opentelemetry"))]
mod tests {
    use super::*;

    #[test]
    fn trace_context_is_read_as_w3c_defines_it() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |text: &str| parse(&Headers::from([(TRACEPARENT.to_owned(), text.to_owned())]));
        let context = read(valid).expect("valid");
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(read(&format!("{}-later", valid.replacen("00", "01", 1))).is_some(), "a later version");
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-xyf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }
}
