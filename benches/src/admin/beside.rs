//! The cost of work beside lists: three clients list a label that half of all instances have, ten times a second each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use duroxide::sqlite::SqliteProvider;
use duroxide::{Client, Filter, Runtime};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::measure::Times;
use crate::orchestrations;

/// The figures of one round.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// True if lists were read during the round.
    pub with_lists: bool,
    /// The median time from a start to its result, through the queue, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of these times, in milliseconds.
    pub p99_ms: f64,
    /// Instances of one activity a second, 256 at once, by the client of the runtime.
    pub hello_per_second: f64,
    /// The number of lists that were read.
    pub lists: usize,
}

const CLIENTS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(100);

/// Measures rounds without and with lists, alternately. The lists are read through the provider of the runtime.
///
/// # Errors
/// An error of the provider or of the client.
pub async fn beside(path: &Path, rounds: usize, n: u64) -> duroxide::Result<Vec<Beside>> {
    let provider = SqliteProvider::open(path)?;
    let runtime = Runtime::builder().provider(provider.clone()).start().await?;
    // Like a client of another process: its instances go through the queue.
    let other = Client::new(SqliteProvider::open(path)?);
    let lists_read = Arc::new(AtomicUsize::new(0));
    let mut measured = Vec::new();
    for round in 0..2 * rounds {
        let with_lists = round % 2 == 1;
        let lookers: Vec<_> = if with_lists {
            (0..CLIENTS).map(|_| tokio::spawn(look(Client::new(provider.clone()), lists_read.clone()))).collect()
        } else {
            Vec::new()
        };
        let mut times = Times::default();
        for i in 0..n / 40 {
            let begun = Instant::now();
            orchestrations::hello::start(&other, format!("queued-{round}-{i}"), i).await?.result().await?;
            times.push(begun.elapsed());
        }
        let client = runtime.client();
        let begun = Instant::now();
        let all = stream::iter(0..n).map(async |i| {
            orchestrations::hello::start(&client, format!("hello-{round}-{i}"), i).await?.result().await?;
            duroxide::Result::<_>::Ok(())
        });
        all.buffer_unordered(256).try_collect::<()>().await?;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let hello_per_second = n as f64 / begun.elapsed().as_secs_f64();
        lookers.iter().for_each(tokio::task::JoinHandle::abort);
        let lists = lists_read.swap(0, Ordering::Relaxed);
        let (p50_ms, p99_ms) = (times.percentile_ms(0.5), times.percentile_ms(0.99));
        measured.push(Beside { with_lists, p50_ms, p99_ms, hello_per_second, lists });
    }
    runtime.shutdown().await?;
    Ok(measured)
}

async fn look(client: Client, lists_read: Arc<AtomicUsize>) -> duroxide::Result<()> {
    let filter = Filter { labels: [("region".to_owned(), "eu".to_owned())].into(), ..Filter::default() };
    let mut ticks = tokio::time::interval(BETWEEN);
    loop {
        ticks.tick().await;
        client.list(&filter, 50).await?;
        lists_read.fetch_add(1, Ordering::Relaxed);
    }
}
