//! A process that runs a node until its input ends.

use std::io::Read;
use std::time::Duration;

use duroxide::RuntimeOptions;
use duroxide::prelude::*;
use duroxide_postgres::{PostgresOptions, PostgresRuntime};

use crate::effects::Effects;

/// The variables of the process: the name of the schema, the URL by which the node reaches it, the URL of the record of
/// effects, and the lease time in milliseconds.
pub(crate) const SCHEMA: &str = "CHAOS_SCHEMA";
pub(crate) const URL: &str = "CHAOS_URL";
pub(crate) const EFFECTS: &str = "CHAOS_EFFECTS_URL";
pub(crate) const LEASE: &str = "CHAOS_LEASE";

/// The pause between attempts to start while the server is down.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let variable = |name| std::env::var(name).unwrap();
    let options = PostgresOptions::new(variable(URL)).schema(variable(SCHEMA));
    let effects = Effects::new(&variable(EFFECTS));
    let lease = Duration::from_millis(variable(LEASE).parse().unwrap());
    let runtime_options = RuntimeOptions::new().lease_time(lease).retry_time(Duration::from_secs(600));
    let runtime = loop {
        let builder = Runtime::builder().postgres_with(options.clone()).options(runtime_options.clone());
        match builder.state(effects.clone()).start().await {
            Ok(runtime) => break runtime,
            Err(error) => tracing::warn!(%error, "the node does not start"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    tracing::info!("the node has started");
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    input.await.unwrap().unwrap();
    if let Err(error) = runtime.shutdown().await {
        tracing::warn!(%error, "the node has not left");
    }
}
