//! The gauges of the store, which are read when they are scraped.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::active::{Active, ActiveGroup};
use super::{Client, ClientError};
use crate::provider::InstanceStatus;
use crate::telemetry::{gauge, names};

/// Shows the state of the store as gauges: the instances that have not finished, by name, version and state, with the
/// age of the oldest, and the number of nodes.
///
/// The values are read from the store, so they are right directly after a restart, for instances that no node has in
/// memory, and for instances that have continued as new. Because every reader sees the whole store, **one** process
/// reports them: values of several processes must not be added. Call [`update`](Self::update) before each scrape.
///
/// ```
/// use duroxide::client::StoreMetrics;
/// use duroxide::provider::MemoryProvider;
/// use duroxide::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// let store = StoreMetrics::new(Client::new(MemoryProvider::new()));
/// // In the handler of `/metrics`, before the exporter renders its text:
/// store.update().await?;
/// # Ok(())
/// # }
/// ```
pub struct StoreMetrics {
    client: Client,
    /// Of tokio, since it is held while the store is read: scrapes that come together share one read.
    shown: Mutex<Shown>,
}

/// The gauges that are shown.
#[derive(Default)]
struct Shown {
    at: Option<Instant>,
    groups: HashSet<(String, String, InstanceStatus)>,
}

impl StoreMetrics {
    /// The time for which the values are kept: an update within it does not read the store. 5 s.
    pub const CACHE_TIME: Duration = Duration::from_secs(5);

    /// Creates the gauges of the store of a client.
    pub fn new(client: Client) -> Self {
        Self { client, shown: Mutex::default() }
    }

    /// Reads the store and sets the gauges, unless they were set within [`CACHE_TIME`](Self::CACHE_TIME).
    ///
    /// The read ends after 10 s. Then `duroxide_store_report_complete` is 0, and the values are those of the newest
    /// instances. At most 500 combinations of name, version and state are shown; the instances of the others have the
    /// name [`OTHER`](crate::telemetry::OTHER).
    ///
    /// # Errors
    /// [`ClientError`]: the storage fails, or it does not list instances
    /// ([`AdminNotSupported`](crate::error::ErrorCode::AdminNotSupported)). The gauges keep their values.
    ///
    /// # Cancel safety
    /// If the future is dropped, the gauges keep their values.
    pub async fn update(&self) -> Result<(), ClientError> {
        let mut shown = self.shown.lock().await;
        if shown.at.is_some_and(|at| at.elapsed() < Self::CACHE_TIME) {
            return Ok(());
        }
        let (active, nodes) = (self.client.active().await?, self.client.nodes().await?);
        shown.show(active);
        gauge(names::NODES, &[]).set(nodes.len() as f64);
        shown.at = Some(Instant::now());
        Ok(())
    }
}

impl Shown {
    fn show(&mut self, active: Active) {
        gauge(names::REPORT_COMPLETE, &[]).set(if active.complete { 1.0 } else { 0.0 });
        let mut gone = std::mem::take(&mut self.groups);
        for ActiveGroup { name, version, state, count, age } in active.groups {
            set(&name, &version, state, count as f64, age.as_secs_f64());
            let group = (name, version, state);
            gone.remove(&group);
            self.groups.insert(group);
        }
        // An exporter keeps showing the last value of a gauge.
        gone.iter().for_each(|(name, version, state)| set(name, version, *state, 0.0, 0.0));
        self.groups.extend(gone);
    }
}

fn set(name: &str, version: &str, state: InstanceStatus, count: f64, age: f64) {
    let labels = [("name", name), ("version", version), ("state", state.as_str())];
    gauge(names::ACTIVE, &labels).set(count);
    gauge(names::ACTIVE_AGE, &labels).set(age);
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}
