//! Metrics, and the names of spans and their fields.
//!
//! ```text
//! node, client ── counters, histograms ──►┐
//! provider wrapper ── operations ────────►├── `metrics` facade ──► the recorder that the program has installed
//! StoreMetrics ── gauges of the store ───►┘
//! ```
//!
//! The library records through the [`metrics`](https://docs.rs/metrics) facade: the program chooses the exporter. Install
//! the recorder before the runtime starts, since handles are kept: a handle that was made before the recorder stays
//! without effect. Without a recorder, an update costs a few nanoseconds.
//!
//! [`METRICS`] is the table of all metrics, with their labels and units. It is the source of the page [Metrics
//! specification].
//!
//! [Metrics specification]: https://github.com/duroxide/duroxide/blob/main/docs/metrics-specification.md

mod facade;
mod handles;
mod requests;
mod silence;
pub(crate) mod spans;
mod table;
mod trace_context;

pub(crate) use facade::{Counter, Gauge, Histogram, counter, gauge, histogram};
pub(crate) use handles::{ActivityMetrics, AttemptOutcome, NodeMetrics, OrchestrationMetrics, terminated};
pub use requests::REQUEST_OPERATIONS;
pub(crate) use requests::RequestOperation;
pub(crate) use silence::silenced;
pub use spans::fields;
#[cfg(feature = "metrics")]
pub use table::describe;
pub use table::{METRICS, Metric, MetricKind, Unit, names};
pub use trace_context::{TRACEPARENT, TRACESTATE};
pub(crate) use trace_context::{follow, inject};

/// The value of a label `name` or `version` for code that is not registered where the metric is recorded. It bounds the
/// number of values, since a client may choose any name.
pub const OTHER: &str = "_other";
