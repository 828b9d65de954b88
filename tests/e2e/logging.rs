//! Plain `tracing` in user code: each line is logged once, no matter how often it is replayed.

use std::sync::{Mutex, OnceLock, PoisonError};

use duroxide::prelude::*;
use duroxide::{Registry, RuntimeOptions};
use support::until_events;
use tokio::sync::watch;
use tracing::Instrument;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A logged line: the names of its spans from the outermost inwards, and its level and fields.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) spans: Vec<String>,
    pub(crate) text: String,
}

/// The log of this process. Turns run on their own threads, so only a global subscriber sees their lines.
pub(crate) struct Log {
    lines: Mutex<Vec<Line>>,
    changed: watch::Sender<()>,
}

pub(crate) fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| Log { lines: Mutex::default(), changed: watch::Sender::default() });
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Collector);
        tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this process");
    });
    log
}

impl Log {
    /// Returns the lines that contain a text.
    pub(crate) fn with(&self, text: &str) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.text.contains(text)).cloned().collect()
    }

    /// Waits for a line that contains a text.
    pub(crate) async fn until(&self, text: &str) -> Line {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(line) = self.with(text).pop() {
                return line;
            }
            changes.changed().await.expect("the log is never dropped");
        }
    }
}

struct Collector;

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() > tracing::Level::INFO {
            return;
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let line = Line { spans: spans.map(|span| span.name().to_owned()).collect(), text: text.0 };
        let log = log();
        log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        log.changed.send_replace(());
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

/// Options without a cache: every turn begins with a replay.
fn without_cache() -> RuntimeOptions {
    let mut options = RuntimeOptions::default();
    options.max_idle_instances = 0;
    options
}

#[orchestration]
async fn logs(ctx: OrchestrationContext, name: String) -> duroxide::Result<()> {
    for step in 0..5 {
        tracing::info!("{name} before {step}");
        let nap = async {
            tracing::info!("{name} within {step}");
            ctx.sleep(hours(1)).await;
        };
        nap.await;
        tracing::warn!(step, "{name} behind");
    }
    Ok(())
}

#[tokio::test]
async fn replayed_lines_are_logged_once() {
    let log = log();
    let test = crate::builder().options(without_cache()).start().await.unwrap();
    logs::start(&test.client(), "logs", "repeats".to_owned()).await.unwrap().result().await.unwrap();
    for step in 0..5 {
        for (when, times) in [("before", 1), ("within", 1)] {
            assert_eq!(log.with(&format!("repeats {when} {step}")).len(), times, "{when} {step}");
        }
    }
    assert_eq!(log.with("repeats behind").len(), 5);
}

/// An orchestration in two builds, without and with log lines: replay reaches the lines of the second build first.
enum Logs<const LOGGING: bool> {}

impl<const LOGGING: bool> Orchestration for Logs<LOGGING> {
    const NAME: &'static str = "talk";
    type Input = String;
    type Output = ();
    type Error = duroxide::Error;
}

impl<const LOGGING: bool> OrchestrationFn for Logs<LOGGING> {
    async fn run(ctx: OrchestrationContext, name: String) -> duroxide::Result<()> {
        if LOGGING {
            tracing::info!("{name} logs first");
        }
        ctx.sleep(hours(1)).await;
        if LOGGING {
            tracing::info!("{name} logs last");
        }
        Ok(())
    }
}

#[tokio::test]
async fn line_first_met_in_a_replay_is_logged_when_live() {
    let log = log();
    let quiet = Registry::empty().with_orchestration::<Logs<false>>();
    let test = crate::builder().registry(quiet).start().await.unwrap();
    let handle = test.client().start("talk", "old", &"old").await.unwrap();
    until_events(&handle, 2).await;
    let loud = Registry::empty().with_orchestration::<Logs<true>>();
    let test = test.crash().registry(loud).start().await.unwrap();
    let handle = test.client().handle("old");
    handle.result().await.unwrap();
    assert_eq!((log.with("old logs first").len(), log.with("old logs last").len()), (0, 1));
    test.client().start("talk", "new", &"new").await.unwrap().result().await.unwrap();
    assert_eq!((log.with("new logs first").len(), log.with("new logs last").len()), (1, 1));
}

#[orchestration]
async fn within_a_span(ctx: OrchestrationContext) -> duroxide::Result<()> {
    let order = async {
        ctx.sleep(hours(1)).await;
        tracing::info!("spanned once");
        let ship = async {
            ctx.sleep(hours(1)).await;
            tracing::info!("spanned twice");
        };
        ship.instrument(tracing::info_span!("shipping")).await;
    };
    order.instrument(tracing::info_span!("ordering")).await;
    Ok(())
}

#[tokio::test]
async fn span_opened_in_a_replay_contains_the_live_lines() {
    let log = log();
    let test = crate::builder().options(without_cache()).start().await.unwrap();
    within_a_span::start(&test.client(), "span").await.unwrap().result().await.unwrap();
    let spans = |text| log.with(text).into_iter().map(|line| line.spans).collect::<Vec<_>>();
    assert_eq!(spans("spanned once"), [["ordering"]]);
    assert_eq!(spans("spanned twice"), [["ordering", "shipping"]]);
}

#[orchestration]
async fn takes_text(ctx: OrchestrationContext, text: String) -> duroxide::Result<String> {
    drop(ctx);
    Ok(text)
}

#[tokio::test]
async fn suspension_is_logged_with_its_code_and_instance() {
    let log = log();
    let test = crate::started().await;
    test.client().start("takes_text", "suspended-and-logged", &5).await.unwrap();
    let line = log.until("suspended-and-logged").await;
    assert!(line.text.starts_with("ERROR") && line.text.contains("DUR0022"), "{line:?}");
}

const SECRET: &str = "a secret that no log line holds";

/// The line of the attempt that takes too long.
const HANGS: &str = "the third attempt hangs";

/// Fails once with an error, then with a panic, and then takes too long.
#[activity(timeout = "1s", retry(max_attempts = 3, initial_interval = "1s"))]
async fn fails_in_each_way(ctx: ActivityContext, secret: String) -> duroxide::Result<String> {
    match ctx.attempt() {
        1 => Err(duroxide::Error::new(secret)),
        2 => panic!("{secret}"),
        _ => {
            tracing::info!("{HANGS}");
            std::future::pending().await
        }
    }
}

#[orchestration]
async fn logged_by_the_node(ctx: OrchestrationContext, secret: String) -> duroxide::Result<String> {
    ctx.sleep(hours(1)).await;
    let failed = fails_in_each_way::call(&ctx, secret.clone()).await;
    if ctx.try_event_named::<u32>("finish").is_none() {
        ctx.event_named::<u32>("finish").await;
    }
    failed.map(|_| secret).or(Ok(SECRET.to_owned()))
}

#[tokio::test]
async fn life_of_an_instance_is_logged_at_info() {
    let log = log();
    let test = crate::started().await;
    logged_by_the_node::start(&test.client(), "logged-life", SECRET.to_owned()).await.unwrap();
    let test = test.crash().start().await.unwrap();
    let handle = test.client().handle("logged-life");
    // The clock stands still while the last attempt hangs.
    let times_out = async {
        log.until(HANGS).await;
        test.advance(seconds(1));
    };
    join!(test.sleep(hours(2)), times_out);
    until_events(&handle, 5).await;
    handle.raise_named("finish", &"no number").await.unwrap();
    handle.wait_for(|status| status.suspension.is_some()).await.unwrap();
    handle.resume().await.unwrap();
    handle.terminate("the test ends").await.unwrap();
    takes_text::start(&test.client(), "logged-life, too", SECRET.to_owned()).await.unwrap().result().await.unwrap();

    let lines: Vec<_> = log.with("logged-life").into_iter().map(|line| line.text).collect();
    let started = "orchestration=\"logged_by_the_node\" version=1.0.0";
    for parts in [
        &["INFO", "orchestration started", started][..],
        &["INFO", "instance taken over"],
        &["WARN", "attempt=1 reason=\"it returned an error\" next_attempt="],
        &["WARN", "attempt=2 reason=\"it panicked\" next_attempt="],
        &["WARN", "attempt=3 reason=\"one attempt took longer than its start-to-close limit\"", "the last attempt"],
        &["WARN", "an activity has timed out"],
        &["ERROR", "instance suspended", "DUR0023"],
        &["INFO", "instance resumed"],
        &["INFO", "orchestration ended", "orchestration=\"takes_text\"", "status=completed"],
    ] {
        assert!(lines.iter().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {lines:#?}");
    }
    assert!(log.with(SECRET).is_empty(), "{:?}", log.with(SECRET));
}

/// Set in the process that [`library_installs_no_subscriber`] starts.
const ALONE: &str = "DUROXIDE_TEST_ALONE";

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn run_without_a_subscriber() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let test = crate::builder().options(without_cache()).start().await.unwrap();
    logs::start(&test.client(), "logs", "alone".to_owned()).await.unwrap().result().await.unwrap();
    test.client().start("takes_text", "suspended", &5).await.unwrap();
    test.client().handle("suspended").wait_for(|status| status.suspension.is_some()).await.unwrap();
    test.shutdown().await.unwrap();
    assert!(!tracing::dispatcher::has_been_set(), "a subscriber was set");
    // A subscriber that the program installs later gets all lines from then on.
    let log = log();
    let test = crate::builder().options(without_cache()).start().await.unwrap();
    logs::start(&test.client(), "logs", "late".to_owned()).await.unwrap().result().await.unwrap();
    assert_eq!(log.with("late behind").len(), 5);
    assert_eq!(log.with("late before 0").len(), 1);
}

#[test]
fn library_installs_no_subscriber() {
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logging::run_without_a_subscriber", "--include-ignored", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    let errors = String::from_utf8_lossy(&alone.stderr);
    assert_eq!(errors.matches("instance suspended: instance suspended").count(), 1, "{errors}");
    assert!(alone.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&alone.stderr));
}
