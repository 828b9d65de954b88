//! Searches of real tables, and the plans of their statements.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;

use super::walk::Strand;
use super::*;
use crate::clock::Timestamp;
use crate::history::{AwaitedKind, TextMap, WaitsFilter};
use crate::id::{Epoch, InstanceId};
use crate::provider::InstanceStatus;
use crate::sqlite::admin::records;
use crate::sqlite::records::record;
use crate::sqlite::sql::OwnSql;

fn filter(change: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter::default();
    change(&mut filter);
    filter
}

/// Creates a database with that many instances, created a second apart. Every tenth has failed; every 300th has the
/// label `rare`, the others `common`.
fn database(folder: &tempfile::TempDir, instances: i64) -> OwnSql {
    let mut sql = OwnSql::open(&folder.path().join("state.db"), Duration::ZERO, Arc::default()).unwrap();
    crate::sqlite::schema::migrate(sql.connection_mut()).unwrap();
    sql.session()
        .run(
            "INSERT INTO duroxide_instances (seq, id, name, status, created_at, updated_at, start_id)
         WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         SELECT n, 'i' || n, 'flow', iif(n % 10 = 0, 'failed', 'completed'), n * 1000000, 0, x'00' FROM n",
            [instances],
        )
        .unwrap();
    let labels = "INSERT INTO duroxide_labels SELECT iif(seq % 300 = 0, 'rare', 'common'), 'x', seq
        FROM duroxide_instances";
    sql.session().run(labels, []).unwrap();
    sql
}

fn plan(sql: &Sql, (statement, params): (String, Vec<Value>)) -> String {
    let explain = format!("EXPLAIN QUERY PLAN {statement}");
    sql.rows(&explain, params_from_iter(params), |row| row.get::<_, String>(3)).unwrap().join("; ")
}

#[test]
fn each_kind_of_list_walks_in_the_order_of_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 10);
    let sql = own.session();
    let cases = [
        (filter(|_| ()), "SEARCH i USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (filter(|f| f.name = Some("flow".to_owned())), "SEARCH i USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (
            filter(|f| f.statuses = vec![InstanceStatus::Failed]),
            "SEARCH i USING INDEX duroxide_instances_live (status=? AND seq>? AND seq<?)",
        ),
        (
            filter(|f| {
                f.statuses = vec![InstanceStatus::Running];
                f.name = Some("flow".to_owned());
            }),
            "SEARCH i USING INDEX duroxide_instances_live (status=? AND seq>? AND seq<?)",
        ),
        (
            filter(|f| f.labels = TextMap::from([("common".to_owned(), "x".to_owned())])),
            "SEARCH l USING PRIMARY KEY (name=? AND value=? AND instance>? AND instance<?); \
             SEARCH i USING INTEGER PRIMARY KEY (rowid=?)",
        ),
        (
            filter(|f| f.parent = Some(InstanceId::new("i1").unwrap())),
            "SEARCH i USING INDEX duroxide_instances_parent (parent=? AND rowid>? AND rowid<?)",
        ),
        (
            filter(|f| f.waits = Some(WaitsFilter::event("Approval"))),
            "SEARCH i USING INDEX duroxide_instances_awaited (waits=? AND rowid>? AND rowid<?)",
        ),
    ];
    for (filter, expected) in cases {
        for walk in walks(&sql, &filter).unwrap() {
            let edge = walk.0[0].edge_statement(Order::NewestFirst, &(1..9), 50);
            let window = Window { walk, range: 1..9, entries: None, is_last: false };
            let plan = plan(&sql, statement(&filter, Order::NewestFirst, &window, &records(50)));
            assert!(plan.starts_with(expected), "{filter:?}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{filter:?} is sorted: {plan}");
            let edge = self::plan(&sql, edge);
            assert!(edge.starts_with("SEARCH") && !edge.contains("TEMP B-TREE"), "{filter:?}: {edge}");
        }
    }
}

#[test]
fn few_instances_are_found_without_a_scan_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 5_000);
    let sql = own.session();
    let update = "UPDATE duroxide_instances SET status = 'running', owner = iif(seq % 3 = 0, NULL, 7),
        waits = CASE seq / 100 % 4 WHEN 0 THEN 'a:charge' WHEN 1 THEN 'e:Approval' WHEN 2 THEN 'e*2' ELSE 't' END
        WHERE seq % 100 = 7";
    sql.run(update, []).unwrap();
    sql.run("UPDATE duroxide_instances SET cause = 'gateway' WHERE seq % 500 = 0", []).unwrap();
    let activity =
        "INSERT INTO duroxide_activities (instance, execution, call, scheduled, name, detached, visible_at, cause)
        SELECT seq, 1, n, 1, 'charge', 0, 0, 'gateway' FROM duroxide_instances, (SELECT 1 AS n UNION SELECT 2)
        WHERE seq % 250 = 0";
    sql.run(activity, []).unwrap();
    let cases = [
        (filter(|f| f.waits = Some(AwaitedKind::Event.into())), 50, 13 + 12),
        (filter(|f| f.waits = Some(WaitsFilter::event("Approval"))), 13, 13),
        (filter(|f| f.waits = Some(WaitsFilter::activity("charge"))), 50, 13),
        (filter(|f| f.cause = Some("gateway".to_owned())), 20, 20),
        (filter(|f| f.cause = Some("other".to_owned())), 0, 0),
        (filter(|f| f.node = Some(Epoch(7))), 34, 34),
        (filter(|f| f.node = Some(Epoch(8))), 0, 0),
        (filter(|f| f.id_prefix = Some("i48".to_owned())), 111, 111),
        (filter(|f| f.id_prefix = Some("i48\u{10FFFF}".to_owned())), 0, 0),
        (filter(|f| f.id_prefix = Some("i".to_owned())), 5_000, 5_000),
    ];
    for (filter, expected_entries, expected) in cases {
        let mut search = Search::new(&sql, &filter, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some((window, mut some)) =
            search.next(&[records(9000)], |row| row.get::<_, i64>(record::SEQ)).unwrap()
        {
            looked_at += search.entries(&window, &window.range).unwrap();
            found.append(&mut some);
        }
        assert_eq!((found.len(), looked_at), (expected, expected_entries), "{filter:?}");
        assert!(found.is_sorted_by(|a, b| a > b), "{filter:?}: newest first, each once");
    }
    let plan = plan(&sql, statement_of_first_window(&sql, &filter(|f| f.id_prefix = Some("i48".to_owned()))));
    assert!(plan.starts_with("SEARCH i USING INDEX duroxide_instances_id (id>? AND id<?)"), "{plan}");
}

#[test]
fn running_instances_are_found_with_and_without_an_owner() {
    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 5_000);
    let sql = own.session();
    let update = "UPDATE duroxide_instances SET status = 'running', owner = CASE seq % 3 WHEN 0 THEN NULL
        WHEN 1 THEN 7 ELSE 9 END, name = iif(seq % 4 = 0, 'rare', name) WHERE seq % 2 = 0";
    sql.run(update, []).unwrap();
    let mut running = filter(|f| f.statuses = vec![InstanceStatus::Running, InstanceStatus::Failed]);
    for every in [2, 4] {
        let window = statement_of_first_window(&sql, &running);
        let plan = plan(&sql, window);
        for part in [
            "duroxide_instances_live (status=? AND seq>? AND seq<?",
            "duroxide_instances_owner (owner=? AND rowid>? AND rowid<?)",
        ] {
            assert!(plan.contains(part), "{plan}");
        }
        assert!(!plan.contains("SCAN i"), "{plan}");
        let mut search = Search::new(&sql, &running, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some((window, mut some)) =
            search.next(&[records(9000)], |row| row.get::<_, i64>(record::SEQ)).unwrap()
        {
            looked_at += search.entries(&window, &window.range).unwrap();
            found.append(&mut some);
        }
        assert_eq!(found, (1..=5_000).rev().filter(|n| n % every == 0).collect::<Vec<_>>());
        assert_eq!(looked_at, 2_500);
        running.name = Some("rare".to_owned());
    }
}

fn statement_of_first_window(sql: &Sql, filter: &Filter) -> (String, Vec<Value>) {
    let search = Search::new(sql, filter, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
    let window = search.window().unwrap().unwrap();
    statement(filter, Order::NewestFirst, &window, &records(50))
}

#[test]
fn several_statuses_are_sorted_within_a_window_only() {
    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 5_000);
    let sql = own.session();
    let both = filter(|f| f.statuses = vec![InstanceStatus::Failed, InstanceStatus::Suspended]);
    let mut search = Search::new(&sql, &both, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
    let (window, found) = search.next(&[records(1000)], |row| row.get::<_, i64>(record::SEQ)).unwrap().unwrap();
    assert_eq!((found.len(), found.first(), found.last()), (256, Some(&5_000), Some(&2_450)));
    assert!(!window.is_last);
}

#[test]
fn search_ends_at_its_deadline_and_continues_there() {
    use crate::sqlite::admin::list;
    use crate::sqlite::admin_reader::Deadline;
    use crate::sqlite::remove::prunable;

    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 1_000);
    let sql = own.session();
    let none = filter(|f| f.name = Some("none".to_owned()));
    let (mut before, mut searched) = (i64::MAX, Vec::new());
    loop {
        let page = list(&sql, &none, before, 10, Deadline::after(Duration::ZERO)).unwrap();
        searched.push((page.searched, page.complete));
        let Some(next) = page.next else { break };
        before = next.arrival("list").unwrap();
    }
    assert_eq!(searched, [(256, false), (256, false), (256, false), (232, true)]);
    let prune = |after, deadline| prunable(&sql, &none, Timestamp::MAX, after, 10, deadline).unwrap().1;
    assert_eq!(prune(0, Deadline::after(Duration::ZERO)), Some(256));
    assert_eq!(prune(256, Deadline::after(Duration::ZERO)), Some(512));
    assert_eq!(prune(0, Deadline::after(Duration::MAX)), None);
}

#[test]
fn search_takes_the_rarest_walk() {
    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 5_000);
    let sql = own.session();
    let mut rare = filter(|f| {
        f.labels = TextMap::from([("common".to_owned(), "x".to_owned())]);
        f.statuses = vec![InstanceStatus::Failed];
    });
    let walk = |filter: &Filter| {
        let search = Search::new(&sql, filter, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
        let Some(window) = search.window().unwrap() else { panic!("nothing to search") };
        matches!(window.walk.0[..], [Strand::Status(_)])
    };
    assert!(walk(&rare), "every tenth has failed, nearly all have the label");
    rare.labels = TextMap::from([("rare".to_owned(), "x".to_owned())]);
    assert!(!walk(&rare), "every 300th has the label");
}

#[test]
fn bounds_of_time_exclude_no_match_if_clocks_differ() {
    let folder = tempfile::tempdir().unwrap();
    let own = database(&folder, 1);
    let sql = own.session();
    sql.run("DELETE FROM duroxide_instances", []).unwrap();
    // An hour apart by the true time; every seventh clock is 20 hours ahead, every eleventh 20 hours behind.
    let hour = 3_600_000_000;
    let created = |n: i64| (n + if n % 7 == 0 { 20 } else { 0 } - if n % 11 == 0 { 20 } else { 0 }) * hour;
    sql.run("BEGIN", []).unwrap();
    for n in 1..=1_000 {
        let insert = "INSERT INTO duroxide_instances (seq, id, name, created_at, updated_at, start_id)
            VALUES (?1, 'i' || ?1, 'flow', ?2, 0, x'00')";
        sql.run(insert, (n, created(n))).unwrap();
    }
    sql.run("COMMIT", []).unwrap();
    let mut looked_at = 0;
    for (from, before) in (0..1_000).step_by(13).map(|hours| (hours * hour, (hours + 5) * hour)) {
        let within = filter(|f| {
            f.created_from = Some(Timestamp::from_micros(from));
            f.created_before = Some(Timestamp::from_micros(before));
        });
        let mut search = Search::new(&sql, &within, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
        let mut found = Vec::new();
        while let Some((window, mut some)) =
            search.next(&[records(1000)], |row| row.get::<_, i64>(record::SEQ)).unwrap()
        {
            looked_at += search.entries(&window, &window.range).unwrap();
            found.append(&mut some);
        }
        let expected: Vec<_> = (1..=1_000).rev().filter(|n| (from..before).contains(&created(*n))).collect();
        assert_eq!(found, expected, "from hour {} on", from / hour);
    }
    assert!(looked_at < 77 * 250, "{looked_at} instances were looked at in 77 searches of 1,000");
}
