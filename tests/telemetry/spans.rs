//! The spans of the library: each has the level and the fields of the specification.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex, PoisonError};

use duroxide::prelude::*;
use duroxide::testing::TestRuntime;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A span when it was made.
#[derive(Debug, Clone)]
struct Made {
    name: &'static str,
    level: tracing::Level,
    has_parent: bool,
    fields: BTreeMap<&'static str, String>,
}

/// The spans of this process: nodes have threads of their own, which a subscriber of the test's thread does not see.
struct Spans {
    made: Mutex<Vec<Made>>,
    changed: watch::Sender<()>,
}

fn spans() -> &'static Spans {
    static SPANS: LazyLock<Spans> = LazyLock::new(|| {
        let subscriber = tracing_subscriber::registry().with(Collector);
        tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this process");
        Spans { made: Mutex::default(), changed: watch::Sender::default() }
    });
    &SPANS
}

impl Spans {
    /// Waits for a span with this name and this value of a field.
    async fn until(&self, name: &str, field: &str, value: &str) -> Made {
        let mut changed = self.changed.subscribe();
        loop {
            let has = |made: &&Made| made.name == name && made.fields.get(field).is_some_and(|of| of == value);
            if let Some(made) = self.made.lock().unwrap_or_else(PoisonError::into_inner).iter().find(has) {
                return made.clone();
            }
            changed.changed().await.expect("the sender lives");
        }
    }
}

struct Collector;

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !attributes.metadata().name().starts_with("duroxide.") {
            return;
        }
        let mut fields = Fields(BTreeMap::new());
        attributes.record(&mut fields);
        let has_parent = context.span(id).is_some_and(|span| span.parent().is_some());
        let (name, level) = (attributes.metadata().name(), *attributes.metadata().level());
        let made = Made { name, level, has_parent, fields: fields.0 };
        spans().made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        spans().changed.send_replace(());
    }
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

/// Returns the levels and the fields of the spans, as the specification lists them.
fn specified() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = super::doc("duroxide-telemetry-spec.md");
    let rows = page.lines().filter(|line| line.starts_with("| `duroxide.")).map(|line| {
        let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let fields = columns[4].split(", ").map(|field| field.trim_matches('`').to_owned()).collect();
        (columns[0].trim_matches('`').to_owned(), (columns[1].to_owned(), fields))
    });
    rows.collect()
}

#[activity(name = "spans-work")]
async fn work() -> duroxide::Result<()> {
    Ok(())
}

#[orchestration(name = "spans-flow")]
async fn flow(ctx: OrchestrationContext) -> duroxide::Result<()> {
    Ok(work::call(&ctx).await?)
}

#[tokio::test]
async fn spans_have_the_fields_of_the_specification() {
    let spans = spans();
    let test = TestRuntime::start().await.unwrap();
    let client = test.client();
    let node = client.nodes().await.unwrap()[0].info.id.to_string();
    flow::start(&client, "spans-1").await.unwrap().result().await.unwrap();
    let made = [
        spans.until("duroxide.start", "duroxide.instance", "spans-1").await,
        spans.until("duroxide.turn", "duroxide.instance", "spans-1").await,
        spans.until("duroxide.attempt", "duroxide.instance", "spans-1").await,
        spans.until("duroxide.commit", "duroxide.node", &node).await,
        spans.until("duroxide.acquire", "duroxide.node", &node).await,
    ];
    let shown = made.iter().map(|made| {
        let fields = made.fields.keys().map(|field| (*field).to_owned()).collect();
        (made.name.to_owned(), (made.level.as_str().to_lowercase(), fields))
    });
    assert_eq!(shown.collect::<BTreeMap<_, (_, BTreeSet<_>)>>(), specified());
    let [start, turn, attempt, commit, acquire] = &made;
    for span in [turn, attempt, commit, acquire] {
        assert_eq!((span.has_parent, &span.fields["duroxide.node"]), (false, &node), "{span:?}");
    }
    assert_eq!(start.fields["duroxide.orchestration"], "spans-flow");
    assert_eq!((&*turn.fields["duroxide.execution"], &*turn.fields["duroxide.version"]), ("1", "1.0.0"));
    assert_eq!(attempt.fields["duroxide.activity"], "spans-work");
    assert_eq!((&*attempt.fields["duroxide.call"], &*attempt.fields["duroxide.attempt"]), ("1", "1"));
    assert_eq!(commit.fields["duroxide.commits"], "1");
}
