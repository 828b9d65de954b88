//! Counts of many activities and timers.

use std::time::Duration;

use duroxide::provider::*;

use crate::direct::World;

/// More than fit into one window.
const MANY: u64 = 9000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_activities_and_timers_end_with_their_time() {
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
    copy("activities", "'instance', -n");
    copy("messages", "'instance', -n");
    copy("instances", "'seq', -n, 'id', 'i-' || n, 'identity', md5(random()::text)::uuid");
    let admin = world.provider.admin().expect("it has an Admin");
    for of in [Subject::Activities, Subject::Timers] {
        let by = [Dimension::Name];
        let count = async |time: Duration| admin.groups(of, &Filter::default(), &by, time).await.expect("count");
        let all = count(Duration::from_secs(60)).await;
        assert_eq!((all.complete, all.groups[0].count), (true, MANY), "{of:?}");
        let some = count(Duration::ZERO).await;
        assert!(!some.complete && some.groups[0].count < MANY, "{of:?}: {some:?}");
    }
}
