//! The times of single requests.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use duroxide::id::{InstanceId, NodeId};
use duroxide::provider::{Admin, Filter, Handlers, Lease, NodeInfo, Page, Provider, Want};
use duroxide::{InstanceStatus, Timestamp};
use duroxide_postgres::PostgresProvider;
use semver::Version;

use super::database::NAMES;
use crate::measure::Times;

/// The median time of a kind of request.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The request.
    pub request: &'static str,
    /// The median, in milliseconds.
    pub ms: f64,
}

/// The number of instances that a request for work claims.
const CLAIMED: usize = 64;
const RUNS: usize = 41;

/// Measures requests of each kind, one at a time. `claims` instances are claimed before the last measurement, while
/// `snapshot` is open: a transaction elsewhere that keeps the database from removing old rows.
///
/// # Errors
/// An error of the database.
pub async fn measure(
    provider: &PostgresProvider,
    claims: usize,
    snapshot: tokio_postgres::Client,
) -> duroxide::Result<Vec<Measured>> {
    let names = |prefix: &str| (0..NAMES).map(|n| (format!("{prefix}-{n}"), Version::new(1, 0, 0))).collect::<Vec<_>>();
    let handlers = Handlers { orchestrations: [names("flow"), names("other")].concat(), ..Handlers::default() };
    let info = NodeInfo {
        id: NodeId::new(),
        name: "sizes".to_owned(),
        build: "sizes".to_owned(),
        handlers,
        lease_time: Duration::from_secs(600),
        details: Default::default(),
    };
    let lease = provider.join(&info).await?;
    let mut node = Node { provider, lease, claim: 0 };
    let (flows, others): (Arc<[_]>, Arc<[_]>) = (names("flow").into(), names("other").into());
    let mut measured = vec![
        Measured { request: "request for work, nothing there", ms: node.ask(&others, RUNS).await? },
        Measured { request: "request for work, 64 claimed", ms: node.ask(&flows, RUNS).await? },
    ];
    let id = |n: usize| InstanceId::try_from(format!("done-{}", n + 1));
    let mut times = Times::default();
    for n in 0..RUNS {
        let begun = Instant::now();
        provider.instance(&id(n)?).await?;
        times.push(begun.elapsed());
    }
    measured.push(Measured { request: "status of an instance", ms: times.percentile_ms(0.5) });
    let label = Filter { labels: [("region".to_owned(), "eu".to_owned())].into(), ..Filter::default() };
    let failed = Filter { statuses: vec![InstanceStatus::Failed], ..Filter::default() };
    for (request, filter) in
        [("list, newest 50", Filter::default()), ("list, label of a half", label), ("list, failed", failed)]
    {
        let mut times = Times::default();
        for _ in 0..RUNS {
            let begun = Instant::now();
            provider.list(&filter, &Page::new(50)).await?;
            times.push(begun.elapsed());
        }
        measured.push(Measured { request, ms: times.percentile_ms(0.5) });
    }
    if claims > 0 {
        snapshot.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await?;
        node.ask(&flows, claims / CLAIMED).await?;
        let request = "request for work, 64 claimed, after the claims under a snapshot";
        measured.push(Measured { request, ms: node.ask(&flows, RUNS).await? });
        snapshot.batch_execute("ROLLBACK").await?;
    }
    Ok(measured)
}

/// A node that claims instances and does nothing with them.
struct Node<'a> {
    provider: &'a PostgresProvider,
    lease: Lease,
    claim: u64,
}

impl Node<'_> {
    /// Asks for work several times. Returns the median time of a request, in milliseconds.
    async fn ask(&mut self, names: &Arc<[(String, Version)]>, times: usize) -> duroxide::Result<f64> {
        let mut measured = Times::default();
        for _ in 0..times {
            let now = Timestamp::from(SystemTime::now());
            let want = Want { orchestrations: names.clone(), instances: CLAIMED, claim: self.claim, ..Want::new(now) };
            let begun = Instant::now();
            let acquired = self.provider.acquire(&self.lease, want).await?;
            measured.push(begun.elapsed());
            self.claim = acquired.claim;
        }
        Ok(measured.percentile_ms(0.5))
    }
}
