//! The gauges of the store, which are read when they are scraped.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::report::{Series, report};
use super::{Client, ClientError};
use crate::telemetry::gauge;

/// Shows the state of the store as gauges: the instances that have not finished, by name, version and state, and the
/// activities, by name, tag and state, with the ages of the oldest; the items that wait for a node and the age of the oldest;
/// the items that no node can claim; the instances with the most frequent cause; and the number of nodes.
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
    series: HashSet<Series>,
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
    /// instances. Of each gauge, at most 500 combinations of labels are shown; the items of the others have the
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
        let (active, queues) = (self.client.active().await?, self.client.queues().await?);
        // Read last, so that the node of an item is among them.
        let nodes = self.client.nodes().await?;
        shown.show(report(&active, &queues, &nodes, self.client.now()));
        shown.at = Some(Instant::now());
        Ok(())
    }
}

impl Shown {
    fn show(&mut self, values: Vec<(Series, f64)>) {
        let mut gone = std::mem::take(&mut self.series);
        for (series, value) in values {
            set(&series, value);
            gone.remove(&series);
            self.series.insert(series);
        }
        // An exporter keeps showing the last value of a gauge.
        gone.iter().for_each(|series| set(series, 0.0));
        self.series.extend(gone);
    }
}

fn set((name, labels): &Series, value: f64) {
    let labels: Vec<_> = labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
    gauge(name, &labels).set(value);
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}
