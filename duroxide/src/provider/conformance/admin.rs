//! Lists, deleting and pruning: the [`Admin`] part of the contract.

use std::collections::BTreeSet;

use semver::Version;

use super::fixture::*;
use super::list;
use crate::id::{EventId, ExecutionId, Identity};
use crate::message::Lane;
use crate::provider::*;

list![
    lists_are_filtered,
    lists_are_filtered_by_id_version_node_and_end,
    lists_come_in_stable_pages,
    lists_go_by_arrival_despite_clocks,
    a_search_without_time_reaches_the_end,
    page_tokens_of_another_storage_are_refused,
    instances_are_counted_by_group,
    activities_are_counted_by_group,
    timers_are_counted_by_minute,
    histories_are_read_from_either_end_with_previews,
    messages_are_read_in_the_order_of_their_arrival,
    only_finished_instances_are_deleted,
    only_old_finished_instances_are_pruned,
    pruning_continues_where_the_last_batch_ended,
    continued_executions_of_live_instances_are_pruned,
];

pub(super) async fn list(world: &World, filter: &Filter) -> BTreeSet<String> {
    let page = world.admin().list(filter, &Page::new(100)).await.expect("list");
    assert_eq!((&page.next, page.complete), (&None, true));
    page.instances.into_iter().map(|record| record.execution.instance.to_string()).collect()
}

async fn lists_are_filtered(world: World) {
    let node = world.join().await;
    let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let parent_identity = Identity::new();
    let execution = ExecutionId { identity: parent_identity, ..execution("a", 1) };
    let parent = crate::history::Parent { execution, call: crate::id::CallId(1) };
    world.start_owned(&node, "a").await;
    world.start_new(NewInstance { labels: label("team", "blue"), ..new_instance("b") }).await;
    world.start_new(NewInstance { labels: label("team", "red"), parent: Some(parent), ..new_instance("c") }).await;
    world.start_new(NewInstance { name: "other".to_owned(), ..new_instance("d") }).await;
    node.turn(ending("a", 1, 0, completed())).await.expect("finish");
    world.start_by(at(50), new_instance("e")).await;
    let by = Filter::default;
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(list(&world, &by()).await, set(&["a", "b", "c", "d", "e"]));
    assert_eq!(list(&world, &Filter { name: Some("other".to_owned()), ..by() }).await, set(&["d"]));
    assert_eq!(list(&world, &Filter { statuses: vec![InstanceStatus::Completed], ..by() }).await, set(&["a"]));
    let several = vec![InstanceStatus::Completed, InstanceStatus::Suspended];
    assert_eq!(list(&world, &Filter { statuses: several, ..by() }).await, set(&["a"]));
    assert_eq!(list(&world, &Filter { labels: label("team", "blue"), ..by() }).await, set(&["b"]));
    assert_eq!(list(&world, &Filter { labels: label("blue", "team"), ..by() }).await, set(&[]));
    assert_eq!(list(&world, &Filter { parent: Some(id("a")), ..by() }).await, set(&["c"]));
    let of = |identity| Filter { parent: Some(id("a")), parent_identity: Some(identity), ..by() };
    assert_eq!(list(&world, &of(parent_identity)).await, set(&["c"]));
    assert_eq!(list(&world, &of(Identity::new())).await, set(&[]), "another instance had the id");
    assert_eq!(list(&world, &Filter { created_from: Some(at(50)), ..by() }).await, set(&["e"]));
    assert_eq!(
        list(&world, &Filter { created_before: Some(at(50)), name: Some("flow".to_owned()), ..by() }).await,
        set(&["a", "b", "c"])
    );
}

async fn lists_are_filtered_by_id_version_node_and_end(world: World) {
    let node = world.join().await;
    for name in ["order-1", "order-2", "batch-1"] {
        world.start_owned(&node, name).await;
    }
    world.start("order%3").await;
    node.turn(Turn { time: at(40), ..ending("order-1", 1, 0, completed()) }).await.expect("finish");
    node.turn(ending("order-2", 1, 0, Then::Continue)).await.expect("turn");
    let by = Filter::default;
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let prefixed = |prefix: &str| Filter { id_prefix: Some(prefix.to_owned()), ..by() };
    assert_eq!(list(&world, &prefixed("order")).await, set(&["order-1", "order-2", "order%3"]));
    assert_eq!(list(&world, &prefixed("order-")).await, set(&["order-1", "order-2"]));
    assert_eq!(list(&world, &prefixed("order%")).await, set(&["order%3"]));
    assert_eq!(list(&world, &prefixed("rder")).await, set(&[]));
    let containing = |text: &str| Filter { id_contains: Some(text.to_owned()), ..by() };
    assert_eq!(list(&world, &containing("r-1")).await, set(&["order-1"]));
    assert_eq!(list(&world, &containing("r%")).await, set(&["order%3"]));
    assert_eq!(list(&world, &containing("")).await, set(&["order-1", "order-2", "batch-1", "order%3"]));
    assert_eq!(list(&world, &containing("Order")).await, set(&[]), "the case differs");
    let both = Filter { id_contains: Some("-1".to_owned()), ..prefixed("batch") };
    assert_eq!(list(&world, &both).await, set(&["batch-1"]));
    let versioned = |version| Filter { version: Some(version), ..by() };
    assert_eq!(list(&world, &versioned(v1())).await, set(&["order-1", "order-2"]));
    assert_eq!(list(&world, &versioned(Version::new(1, 0, 1))).await, set(&[]));
    let owned = Filter { node: Some(node.lease.epoch), ..by() };
    assert_eq!(list(&world, &owned).await, set(&["order-2", "batch-1"]));
    let finished = |from, before| Filter { finished_from: Some(at(from)), finished_before: Some(at(before)), ..by() };
    assert_eq!(list(&world, &finished(40, 41)).await, set(&["order-1"]));
    assert_eq!(list(&world, &finished(41, 90)).await, set(&[]));
    assert_eq!(list(&world, &finished(0, 40)).await, set(&[]));
}

async fn lists_come_in_stable_pages(world: World) {
    for (name, second) in [("a", 1), ("b", 2), ("d", 3), ("c", 3), ("e", 4)] {
        world.start_by(at(second), new_instance(name)).await;
    }
    let mut names = Vec::new();
    let mut page = Page::new(2);
    loop {
        let part = world.admin().list(&Filter::default(), &page).await.expect("list");
        assert!(part.complete && part.instances.len() <= 2);
        names.extend(part.instances.iter().map(|record| record.execution.instance.to_string()));
        world.start_by(at(9), new_instance(&format!("new {}", names.len()))).await;
        match part.next {
            // Clients may store a token as text, or send it to a browser and back.
            Some(next) => page.after = Some(PageToken::new(next.as_str())),
            None => break,
        }
    }
    assert_eq!(names, ["e", "c", "d", "b", "a"], "newest first, and later arrivals shift nothing");
}

/// Reads all pages of a list.
async fn pages(world: &World, filter: &Filter, mut page: Page) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let part = world.admin().list(filter, &page).await.expect("list");
        names.extend(part.instances.into_iter().map(|record| record.execution.instance.to_string()));
        page.after = part.next;
        if page.after.is_none() {
            return names;
        }
    }
}

async fn lists_go_by_arrival_despite_clocks(world: World) {
    let day = 24 * 3600;
    for (name, second) in [("a", 500 * day), ("b", 500 * day - 9), ("c", 500 * day + 5), ("d", 500 * day - 3)] {
        world.start_by(at(second), new_instance(name)).await;
    }
    assert_eq!(pages(&world, &Filter::default(), Page::new(3)).await, ["d", "c", "b", "a"]);
    let between = |from, before| Filter {
        created_from: Some(at(500 * day + from)),
        created_before: Some(at(500 * day + before)),
        ..Filter::default()
    };
    assert_eq!(pages(&world, &between(-5, 5), Page::new(3)).await, ["d", "a"]);
    assert_eq!(pages(&world, &between(-9, 6), Page::new(3)).await, ["d", "c", "b", "a"]);
    assert_eq!(pages(&world, &between(6, 9), Page::new(3)).await, [""; 0]);
}

async fn a_search_without_time_reaches_the_end(world: World) {
    let numbered = |n: usize| format!("i{n}");
    let rare = |n: usize| n.is_multiple_of(97);
    let start = |n| {
        let labels = [("kind".to_owned(), if rare(n) { "rare" } else { "common" }.to_owned())].into();
        let name = if rare(n) { "rare" } else { "flow" }.to_owned();
        start(NewInstance { labels, name, ..new_instance(&numbered(n)) }, IfExists::Error, None)
    };
    let started = world.provider.submit((0..1000).map(start).collect()).await.expect("submit");
    assert!(started.iter().all(Result::is_ok));
    let expected: Vec<_> = (0..1000).rev().filter(|n| rare(*n)).map(numbered).collect();
    let in_no_time = || Page::new(3).time_limit(std::time::Duration::ZERO);
    let filters = [
        Filter { name: Some("rare".to_owned()), ..Filter::default() },
        Filter { labels: [("kind".to_owned(), "rare".to_owned())].into(), ..Filter::default() },
        Filter { name: Some("rare".to_owned()), statuses: vec![InstanceStatus::Running], ..Filter::default() },
    ];
    for filter in filters {
        assert_eq!(pages(&world, &filter, in_no_time()).await, expected, "{filter:?}");
    }
}

async fn page_tokens_of_another_storage_are_refused(world: World) {
    for text in ["", "next", "-1", "a", "a-1", "a+1", "a1x", "a99999999999999999999"] {
        let page = Page::new(3).after(PageToken::new(text));
        let errors = [
            world.admin().list(&Filter::default(), &page).await.map(drop),
            world.admin().prune(&Filter::default(), at(9), &page).await.map(drop),
        ];
        for error in errors {
            let error = error.expect_err(text);
            assert_eq!(
                (error.code(), error.is_retryable()),
                (crate::error::ErrorCode::InvalidPageToken, false),
                "{text:?}"
            );
        }
    }
}

/// Returns the groups as a key, a count, and the times `oldest` and `next` in seconds.
pub(super) async fn groups(
    world: &World,
    of: Subject,
    filter: &Filter,
    by: &[Dimension],
) -> Vec<(String, u64, Option<i64>, Option<i64>)> {
    let found = world.admin().groups(of, filter, by, Page::DEFAULT_TIME_LIMIT).await.expect("count");
    assert!(found.complete);
    let second = |time: Option<crate::clock::Timestamp>| time.map(|time| time.as_micros() / 1_000_000);
    let shown = |group: Group| {
        let key: Vec<_> = group.key.into_iter().map(|value| value.unwrap_or_else(|| "-".to_owned())).collect();
        (key.join(" "), group.count, second(group.oldest), second(group.next))
    };
    found.groups.into_iter().map(shown).collect()
}

/// Returns an expected group.
pub(super) fn counted(
    key: &str,
    count: u64,
    oldest: impl Into<Option<i64>>,
    next: impl Into<Option<i64>>,
) -> (String, u64, Option<i64>, Option<i64>) {
    (key.to_owned(), count, oldest.into(), next.into())
}

async fn instances_are_counted_by_group(world: World) {
    let node = world.join().await;
    let of = Subject::Instances;
    let by = Filter::default;
    assert_eq!(groups(&world, of, &by(), &[]).await, []);
    let labels = |value: &str| [("it's \"a\" label".to_owned(), value.to_owned())].into();
    for (name, second) in [("a", 7), ("b", 5), ("c", 9)] {
        world.start_by(at(second), NewInstance { labels: labels("x"), ..new_instance(name) }).await;
    }
    world.start_by(at(3), NewInstance { name: "other".to_owned(), labels: labels("y"), ..new_instance("d") }).await;
    for name in ["e", "f"] {
        world.start_owned(&node, name).await;
    }
    node.turn(ending("e", 1, 0, completed())).await.expect("finish");
    let all = groups(&world, of, &by(), &[]).await;
    assert_eq!(all, [counted("", 6, 1, 3)], "the first of those without an owner has been ready since second 3");
    let by_status = groups(&world, of, &by(), &[Dimension::Status]).await;
    assert_eq!(by_status, [counted("completed", 1, None, None), counted("running", 5, 1, 3)]);
    let by_name = groups(&world, of, &by(), &[Dimension::Name, Dimension::Version, Dimension::Status]).await;
    let expected = [
        counted("flow - running", 4, 1, 5),
        counted("flow 1.0.0 completed", 1, None, None),
        counted("other - running", 1, 3, 3),
    ];
    assert_eq!(by_name, expected);
    let live = Filter { statuses: vec![InstanceStatus::Running, InstanceStatus::Suspended], ..by() };
    let label = Dimension::Label("it's \"a\" label".to_owned());
    let by_label = groups(&world, of, &live, std::slice::from_ref(&label)).await;
    assert_eq!(by_label, [counted("-", 1, 1, None), counted("x", 3, 5, 5), counted("y", 1, 3, 3)]);
    let owner = node.lease.epoch.0.to_string();
    let by_node = groups(&world, of, &live, &[Dimension::Node]).await;
    assert_eq!(by_node, [counted("-", 4, 3, 3), counted(&owner, 1, 1, None)]);
    let some = Filter { name: Some("flow".to_owned()), labels: labels("x"), ..by() };
    assert_eq!(groups(&world, of, &some, &[label, Dimension::Tag]).await, [counted("x -", 3, 5, 5)]);
}

async fn activities_are_counted_by_group(world: World) {
    let node = world.join().await;
    let of = Subject::Activities;
    world.start_owned(&node, "i").await;
    let tagged = |call, tag: &str| NewActivity { tag: Some(tag.to_owned()), ..new_activity(call, call) };
    let activities = vec![
        NewActivity { eager: true, ..new_activity(1, 1) },
        NewActivity { eager: true, ..new_activity(2, 2) },
        NewActivity { eager: true, ..new_activity(3, 3) },
        tagged(4, "gpu"),
        tagged(5, "gpu"),
        NewActivity { name: "other".to_owned(), ..new_activity(6, 6) },
    ];
    let events = (1..=6).map(|n| event(n, "scheduled")).collect();
    node.turn(Turn { activities, events, ..turn("i", 1, 0) }).await.expect("turn");
    let tenure_of = |call| Tenure { activity: activity_id("i", 1, call), attempt: 1, claim: 0 };
    node.commit(retry(tenure_of(2), 130)).await.expect("retry");
    node.commit(park(tenure_of(3))).await.expect("park");
    let queues = groups(&world, of, &Filter::default(), &[Dimension::Name, Dimension::Tag, Dimension::State]).await;
    let expected = [
        counted("other - waiting", 1, 2, None),
        counted("work - parked", 1, None, None),
        counted("work - retrying", 1, None, 130),
        counted("work - running", 1, None, None),
        counted("work gpu waiting", 2, 2, None),
    ];
    assert_eq!(queues, expected);
    let minutes = groups(&world, of, &Filter::default(), &[Dimension::Minute]).await;
    assert_eq!(minutes, [counted("-", 5, 2, None), counted(&Dimension::minute(at(120)), 1, None, 130)]);
    let suspended = Filter { statuses: vec![InstanceStatus::Suspended], ..Filter::default() };
    assert_eq!(groups(&world, of, &suspended, &[Dimension::Status]).await, [counted("suspended", 6, 2, 130)]);
    let other = Filter { name: Some("other".to_owned()), ..Filter::default() };
    assert_eq!(groups(&world, of, &other, &[]).await, [], "the filter is one of instances");
}

async fn timers_are_counted_by_minute(world: World) {
    let node = world.join().await;
    let of = Subject::Timers;
    for name in ["i", "done"] {
        world.start_owned(&node, name).await;
        let timer = |second| {
            let mut timer = outgoing(name, "timer");
            timer.message.visible_at = Some(at(second));
            timer
        };
        let messages = vec![timer(70), timer(110), timer(130), outgoing(name, "no timer")];
        node.turn(Turn { messages, ..ending(name, 1, 0, Then::Continue) }).await.expect("turn");
    }
    node.turn(ending("done", 1, 1, completed())).await.expect("finish");
    let forecast = groups(&world, of, &Filter::default(), &[Dimension::Minute]).await;
    let minute = |second| Dimension::minute(at(second));
    assert_eq!(forecast, [counted(&minute(60), 2, None, 70), counted(&minute(120), 1, None, 130)]);
    let by_name = groups(&world, of, &Filter::default(), &[Dimension::Name, Dimension::Status]).await;
    assert_eq!(by_name, [counted("flow running", 3, None, 70)]);
    let other = Filter { name: Some("other".to_owned()), ..Filter::default() };
    assert_eq!(groups(&world, of, &other, &[]).await, []);
}

async fn messages_are_read_in_the_order_of_their_arrival(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "a").await;
    let admin = world.admin();
    assert_eq!(admin.messages(&id("none")).await.expect("read"), None);
    let sent: Vec<_> = (0..MessagePreviews::LIMIT + 1).map(|n| message(&format!("event {n}"))).collect();
    for some in sent.chunks(200) {
        let send = some.iter().map(|message| Submission::Send(send_request("a", message.clone()))).collect();
        assert!(world.provider.submit(send).await.expect("submit").iter().all(Result::is_ok));
    }
    let read = admin.messages(&id("a")).await.expect("read").expect("exists");
    assert_eq!((read.messages.len(), read.more), (MessagePreviews::LIMIT, true));
    let start = &read.messages[0];
    assert_eq!((start.lane, start.data.as_str()), (Lane::Start, "start"));
    let ids: Vec<_> = read.messages[1..].iter().map(|message| message.id).collect();
    assert_eq!(ids, sent[..ids.len()].iter().map(|message| message.id).collect::<Vec<_>>());
    let consumed = read.messages.iter().map(|message| message.id).collect();
    node.turn(Turn { consumed, ..ending("a", 1, 0, Then::Continue) }).await.expect("turn");
    let read = admin.messages(&id("a")).await.expect("read").expect("exists");
    let left: Vec<_> = read.messages.iter().map(|message| message.data.as_str()).collect();
    assert_eq!((left, read.more), (vec!["event 999", "event 1000"], false));
}

async fn only_finished_instances_are_deleted(world: World) {
    let node = with_activity(&world, "done").await;
    world.start("live").await;
    let parting = NewActivity { detached: true, eager: true, ..new_activity(2, 3) };
    node.turn(Turn { activities: vec![parting], ..ending("done", 1, 2, completed()) }).await.expect("finish");
    let results = world.admin().delete(&[id("done"), id("live"), id("none")], &[]).await.expect("delete");
    let expected = [Ok(()), Err(DeleteError::Live(InstanceStatus::Running)), Err(DeleteError::NotFound)];
    assert_eq!(results, expected);
    assert!(world.admin().delete(&[], &[]).await.expect("delete").is_empty());
    assert!(world.find("done").await.is_none() && world.find("live").await.is_some());
    assert!(world.history("done", 1).await.is_empty());
    assert_eq!(node.mail().await.cancelled, [activity_id("done", 1, 2)]);
    world.submit(start(another("done"), IfExists::Error, None)).await.expect("start");
    assert_eq!(world.record("done").await.last_event, EventId(0));
}

async fn only_old_finished_instances_are_pruned(world: World) {
    let node = world.join().await;
    for (name, second) in [("old", 10), ("older", 9), ("new", 30)] {
        world.start_owned(&node, name).await;
        node.turn(Turn { time: at(second), ..ending(name, 1, 0, completed()) }).await.expect("finish");
    }
    world.start_owned(&node, "live").await;
    node.turn(Turn { time: at(9), ..ending("live", 1, 0, Then::Continue) }).await.expect("turn");
    let prune = async || world.prune(&Filter::default(), at(20), 10).await;
    let other = Filter { name: Some("other".to_owned()), ..Filter::default() };
    assert_eq!(world.prune(&other, at(100), 10).await, [0]);
    assert_eq!(prune().await, [2]);
    assert_eq!(prune().await, [0]);
    assert_eq!(list(&world, &Filter::default()).await, ["live", "new"].map(str::to_owned).into());
}

async fn pruning_continues_where_the_last_batch_ended(world: World) {
    let node = world.join().await;
    for name in ["a", "b", "c", "d"] {
        world.start_owned(&node, name).await;
        node.turn(Turn { time: at(9), ..ending(name, 1, 0, completed()) }).await.expect("finish");
    }
    let admin = world.admin();
    let first = admin.prune(&Filter::default(), at(20), &Page::new(1)).await.expect("prune");
    assert_eq!(first.executions, 1);
    assert_eq!(list(&world, &Filter::default()).await, ["b", "c", "d"].map(str::to_owned).into(), "oldest first");
    let next = Page::new(2).after(first.next.clone()).time_limit(std::time::Duration::ZERO);
    let second = admin.prune(&Filter::default(), at(20), &next).await.expect("prune");
    assert_eq!(second.executions, 2);
    let again = admin.prune(&Filter::default(), at(20), &next).await.expect("prune");
    assert_eq!(again, Pruned { executions: 1, next: None }, "a batch can be repeated");
    assert!(list(&world, &Filter::default()).await.is_empty());
}

async fn continued_executions_of_live_instances_are_pruned(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let large = text(&"large".repeat(1000));
    for number in 1..=3 {
        let mut next = outgoing("i", "again");
        next.message.lane = Lane::Start;
        let mut turn = ending("i", number, 0, Then::ContinueAsNew { version: None });
        turn.events[0].payload = large.clone();
        turn.time = at(10 * i64::try_from(number).expect("small"));
        turn.messages = vec![next];
        node.turn(turn).await.expect("continue");
    }
    node.turn(Turn { time: at(40), ..ending("i", 4, 0, Then::Continue) }).await.expect("turn");
    assert_eq!(world.prune(&Filter::default(), at(25), 1).await, [1, 1]);
    let mut left = Vec::new();
    for number in 1..=4 {
        left.push(world.history("i", number).await.len());
    }
    assert_eq!(left, [0, 0, 1, 1]);
    assert_eq!(world.history("i", 3).await[0].payload, large, "a payload that another execution holds is kept");
    assert_eq!(world.prune(&Filter::default(), at(1000), 10).await, [1]);
    assert_eq!(world.history("i", 4).await.len(), 1, "the current execution is never removed");
    node.turn(Turn { time: at(50), ..ending("i", 4, 1, completed()) }).await.expect("finish");
    assert_eq!(world.prune(&Filter::default(), at(1000), 10).await, [1]);
    assert!(world.find("i").await.is_none());
}

async fn histories_are_read_from_either_end_with_previews(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "a").await;
    let value = "v".repeat(5000);
    let long = |n| EventRow { payload: text(&value), ..event(n, "long") };
    let first = vec![event(1, "started"), long(2), event(3, "third")];
    let consumed = vec![new.start.id];
    node.turn(Turn { events: first, consumed, ..turn("a", 1, 0) }).await.expect("a turn");
    node.turn(Turn { events: vec![long(4), event(5, "fifth")], ..turn("a", 1, 3) }).await.expect("a turn");
    let read = async |query: HistoryQuery| world.admin().events(&execution("a", 1), &query).await.expect("read");
    let ids = |read: &EventPreviews| read.events.iter().map(|event| event.id.0).collect::<Vec<_>>();
    for (query, expected, more) in [
        (HistoryQuery::first(2), vec![1, 2], true),
        (HistoryQuery::first(9), vec![1, 2, 3, 4, 5], false),
        (HistoryQuery::after(EventId(2), 2), vec![3, 4], true),
        (HistoryQuery::after(EventId(5), 2), vec![], false),
        (HistoryQuery::last(2), vec![4, 5], true),
        (HistoryQuery::before(EventId(4), 2), vec![2, 3], true),
        (HistoryQuery::before(EventId(3), 2), vec![1, 2], false),
        (HistoryQuery::before(EventId(1), 2), vec![], false),
    ] {
        let read = read(query).await;
        assert_eq!((ids(&read), read.more), (expected, more), "{query:?}");
    }
    let EventPreview { value: cut, length, at, data, decision, .. } =
        read(HistoryQuery::after(EventId(1), 1).preview(3)).await.events.remove(0);
    assert_eq!((&cut[..], length, &*data, decision), (&b"\"vv"[..], 5002, "long", true));
    assert_eq!(at, long(2).at);
    let whole = read(HistoryQuery::after(EventId(3), 1).preview(usize::MAX)).await.events.remove(0);
    assert_eq!(whole.value, long(4).payload.as_bytes());
    let null = read(HistoryQuery::first(1)).await.events.remove(0);
    assert_eq!((&null.value[..], null.length), (&b"null"[..], 4));
    let other = ExecutionId { identity: identity("b"), ..execution("a", 1) };
    assert_eq!(world.admin().events(&other, &HistoryQuery::last(5)).await.expect("read"), EventPreviews::default());
}
