//! Tracing: log events of user code appear once, not again on every replay.

use std::sync::OnceLock;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher, level_filters::LevelFilter};

/// Runs a function under a dispatcher that drops events.
pub(crate) fn silenced<T>(run: impl FnOnce() -> T) -> T {
    static SILENCER: OnceLock<Dispatch> = OnceLock::new();
    if !dispatcher::has_been_set() {
        return run();
    }
    // One for the whole process: every new dispatcher makes tracing rebuild its cache of callsites.
    let silencer = SILENCER.get_or_init(|| Dispatch::new(Silencer { real: dispatcher::get_default(Dispatch::clone) }));
    dispatcher::with_default(silencer, run)
}

/// Drops events. Spans go to the real dispatcher, because they outlive the replay.
///
/// It never answers [`Interest::never`]: tracing would cache a callsite that is first reached during a replay as
/// disabled, and lose its live events.
struct Silencer {
    real: Dispatch,
}

impl Subscriber for Silencer {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && self.real.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.real.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.real.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.real.record_follows_from(span, follows);
    }

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        self.real.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.real.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.real.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.real.try_close(id)
    }
}
