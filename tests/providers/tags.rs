//! Claims beside many activities with a tag that no node serves.

use std::sync::Arc;

use duroxide::Timestamp;
use duroxide::provider::{Acquired, ActivityGroup, Handlers, Lease, NodeInfo, Provider, Want};
use duroxide::sqlite::SqliteProvider;

use crate::store::{Store, node};

/// The most steps of the database in one claim. One that reads the backlog takes more than a step for each of its rows.
const STEPS: u64 = 3_000;

/// An instance with 20,000 activities that have no owner and the tag `nowhere`: half of them are ready at once, half since a
/// time, and one of four is in quarantine. Behind them come one without a tag, one with the tag `served`, and one with this
/// tag that is not due yet.
const BACKLOG: &str = "
    INSERT INTO duroxide_instances (seq, id, name, status, created_at, updated_at, start_id)
    VALUES (1, 'i', 'flow', 'running', 1, 1, randomblob(16));
    WITH n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
    INSERT INTO duroxide_activities (instance, execution, call, scheduled, name, tag, detached, visible_at, crashes)
    SELECT 1, 1, n, 1, 'work', 'nowhere', 0, iif(n % 2, n, n - (1 << 62)), iif(n % 4 > 1, 3, 0) FROM n;
    INSERT INTO duroxide_activities (instance, execution, call, scheduled, name, tag, detached, visible_at)
    VALUES (1, 1, 20001, 1, 'work', NULL, 0, 30001), (1, 1, 20002, 1, 'work', 'served', 0, 30002),
        (1, 1, 20003, 1, 'work', 'served', 0, 2000000)";

#[tokio::test]
async fn backlog_of_an_unserved_tag_is_not_read_by_claims() {
    let store = Store::new();
    let provider = store.open();
    store.raw().execute_batch(BACKLOG).expect("fill");
    for (tags, expected) in [(Some(vec!["served".to_owned()]), 2), (Some(Vec::new()), 0), (None, 8)] {
        let handlers = Handlers { activities: vec!["work".to_owned()], tags: tags.clone(), ..Handlers::default() };
        let lease = provider.join(&NodeInfo { handlers, ..node() }).await.expect("join");
        let want = Want {
            activities: vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 8 }],
            tags: tags.clone().map(Into::into),
            ..Want::new(Timestamp::from_micros(1_000_000))
        };
        let (acquired, steps) = claim(&provider, &lease, want.clone()).await;
        assert_eq!(acquired.activities.len(), expected, "{tags:?}");
        assert!(steps < STEPS, "{steps} steps for the tags {tags:?}");
        let alone = Want { claim: acquired.claim, alone: true, ..want };
        let (acquired, steps) = claim(&provider, &lease, alone).await;
        assert_eq!(acquired.activities.len(), usize::from(tags.is_none()), "{tags:?}: one is claimed alone");
        assert!(steps < STEPS, "{steps} steps for the tags {tags:?}, with those in quarantine");
        if expected == 2 {
            assert_eq!(acquired.next_due, Some(Timestamp::from_micros(2_000_000)), "the next one with a served tag");
        }
    }
}

/// Returns the answer to a request, and the steps of the database.
async fn claim(provider: &SqliteProvider, lease: &Lease, want: Want) -> (Acquired, u64) {
    let before = provider.stats().steps;
    let acquired = provider.acquire(lease, want).await.expect("acquire");
    (acquired, provider.stats().steps - before)
}
