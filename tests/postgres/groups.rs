//! Counts of many activities and timers, and lists of few instances among many.

use std::time::Duration;

use duroxide::id::Epoch;
use duroxide::provider::*;

use crate::direct::World;

/// More than fit into one window.
const MANY: u64 = 9000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_end_with_their_time_and_lists_with_their_matches() {
    let Some(mut world) = World::open("groups").await else { return };
    // Each instance has an activity and a timer.
    let first = world.instance().await.instance;
    let copy = |table: &str, changes: &str| {
        let source = format!(
            "{table} t JOIN instances i ON i.seq = t.{}",
            if table == "instances" { "seq" } else { "instance" }
        );
        world.schema.execute(&format!(
            "INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object({changes}))).*
             FROM generate_series(2, {MANY}) n, {source} WHERE i.id = '{first}'"
        ));
    };
    copy("activities", "'instance', 1000000 + n");
    copy("messages", "'instance', 1000000 + n");
    copy("instances", "'seq', 1000000 + n, 'id', 'i-' || n, 'identity', md5(random()::text)::uuid");
    let admin = world.provider.admin().expect("it has an Admin");
    for of in [Subject::Activities, Subject::Timers] {
        let by = [Dimension::Name];
        let count = async |time: Duration| admin.groups(of, &Filter::default(), &by, time).await.expect("count");
        let all = count(Duration::from_secs(60)).await;
        assert_eq!((all.complete, all.groups[0].count), (true, MANY), "{of:?}");
        let some = count(Duration::ZERO).await;
        assert!(!some.complete && some.groups[0].count < MANY, "{of:?}: {some:?}");
    }

    // A list by node, or by a rare beginning of the id, reads no other instances.
    let by_node = Filter { node: Some(Epoch(MANY)), ..Filter::default() };
    let by_id = |prefix: &str| Filter { id_prefix: Some(prefix.to_owned()), ..Filter::default() };
    for (filter, found, searched) in
        [(by_node, 0, 0), (by_id("i-89"), 111, 111), (by_id("i-89\u{10FFFF}"), 0, 0), (by_id("\u{10FFFF}"), 0, MANY)]
    {
        let page = admin.list(&filter, &Page::new(1000)).await.expect("list");
        assert_eq!((page.instances.len(), page.searched), (found, searched), "{filter:?}");
    }
}
