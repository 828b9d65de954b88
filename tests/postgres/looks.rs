//! Claims while the rows of earlier ones cannot be removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::id::NodeId;
use duroxide::provider::*;
use duroxide::{InstanceId, Timestamp};
use semver::Version;
use support::postgres::Cluster;
use support::schema::Schema;

/// The claims of the test, and those of one request.
const CLAIMS: usize = 12_000;
const BATCH: usize = 64;
/// The looks from the beginning in each second: the first ones, until 256 items were claimed.
const WHOLE: usize = 256 / BATCH + 1;
/// The entries that any other look may read: those of the last quarter of a second, one per millisecond, and its own.
const ENTRIES: usize = 250 + 2 * BATCH;

fn start(n: usize) -> Submission {
    let id = InstanceId::new(format!("i-{n}")).expect("a good id");
    let time = Timestamp::from_micros(i64::try_from(n).expect("small") * 1000);
    let new = NewInstance::new(id, "flow", MessageRow::new("start"));
    Submission::Start(StartRequest { new, if_exists: IfExists::Error, lease: None, time, resent: false })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_under_a_held_snapshot_read_no_old_entries() {
    // A server of its own, whose counters no other test changes.
    let Some(cluster) = Cluster::start(&[]) else { return };
    let schema = Schema::new(&cluster.url(), "looks");
    let provider = schema.connect();
    let (client, connection) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM ready";
    client.batch_execute(&schema.within(snapshot)).await.expect("begin");
    let flow = ("flow".to_owned(), Version::new(1, 0, 0));
    let lease = provider
        .join(&NodeInfo {
            id: NodeId::new(),
            name: "test".to_owned(),
            build: "a".to_owned(),
            handlers: Handlers { orchestrations: vec![flow.clone()], ..Handlers::default() },
            lease_time: Duration::from_secs(3600),
            details: Default::default(),
        })
        .await
        .expect("join");
    let want =
        Want { orchestrations: Arc::new([flow]), instances: BATCH, ..Want::new(Timestamp::from_micros(1 << 40)) };
    let (mut begun, mut claimed, mut requests, mut claim) = (0, 0, 0, 0);
    let clock = Instant::now();
    while claimed < CLAIMS {
        if begun == claimed {
            let starts = (begun..begun + 8 * BATCH).map(start).collect();
            begun += 8 * BATCH;
            for started in provider.submit(starts).await.expect("submit") {
                started.expect("started");
            }
        }
        let acquired = provider.acquire(&lease, Want { claim, ..want.clone() }).await.expect("acquire");
        claim = acquired.claim;
        claimed += acquired.instances.len();
        requests += 1;
    }
    let seconds = usize::try_from(clock.elapsed().as_secs()).expect("small") + 1;
    client.batch_execute("COMMIT").await.expect("commit");
    // The counters of a session are complete once it has ended.
    drop(provider);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'duroxide%'";
    while client.query_one(open, &[]).await.expect("query").get::<_, i64>(0) > 0 {}
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'ready_queue'";
    let read: i64 = client.query_one(read, &[]).await.expect("query").get(0);
    let read = usize::try_from(read).expect("a count");
    assert!(read >= claimed, "the entries are counted: {read}");
    let most = (seconds + 1) * WHOLE * claimed + requests * ENTRIES;
    assert!(
        read <= most,
        "{requests} requests have read {read} entries of {claimed} claims in {seconds} s, not {most}"
    );
}
