//! The gauges of the store, computed from its counts.

use std::collections::HashMap;

use super::active::{Active, ActiveGroup, Unowned};
use super::queues::{QueueGroup, Queues, Waiting};
use crate::clock::Timestamp;
use crate::provider::NodeRecord;
use crate::telemetry::{OTHER, names};

/// The most groups that are told apart, so that the labels of the gauges are bounded.
pub(super) const MAX_GROUPS: usize = 500;
/// The value of a label that an item does not have.
pub(super) const NONE: &str = "none";

/// A gauge: the name of its metric, and its labels.
pub(super) type Series = (&'static str, Vec<(&'static str, String)>);

/// The number of items with one key, and the earliest of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) items: u64,
    pub(super) since: Option<Timestamp>,
}

impl Count {
    pub(super) fn add(&mut self, items: u64, since: Option<Timestamp>) {
        self.items += items;
        self.since = self.since.into_iter().chain(since).min();
    }
}

/// Returns the values of the gauges.
pub(super) fn report(active: &Active, queues: &Queues, nodes: &[NodeRecord], now: Timestamp) -> Vec<(Series, f64)> {
    let complete = if active.complete && queues.complete { 1.0 } else { 0.0 };
    let mut values = vec![
        ((names::REPORT_COMPLETE, Vec::new()), complete),
        ((names::NODES, Vec::new()), nodes.len() as f64),
        ((names::CAUSED, Vec::new()), active.causes.iter().sum::<u64>() as f64),
        ((names::LARGEST_CAUSE, Vec::new()), active.causes.iter().max().copied().unwrap_or_default() as f64),
    ];
    for ActiveGroup { name, version, state, count, oldest } in &active.groups {
        let labels = vec![("name", name.clone()), ("version", version.clone()), ("state", state.as_str().to_owned())];
        values.push(((names::ACTIVE, labels.clone()), *count as f64));
        values.push(((names::ACTIVE_AGE, labels), now.since(*oldest).as_secs_f64()));
    }
    for QueueGroup { name, tag, state, count, due } in &queues.groups {
        let labels = vec![("name", name.clone()), ("tag", tag.clone()), ("state", state.clone())];
        let age = due.map_or(0.0, |due| now.since(due).as_secs_f64());
        values.push(((names::QUEUE, labels.clone()), *count as f64));
        values.push(((names::QUEUE_AGE, labels), age));
    }
    let due = queues.waiting.iter().map(|waiting| waiting.due).chain(active.unowned.iter().map(|unowned| unowned.due));
    let age = due.min().map_or(0.0, |due| now.since(due).as_secs_f64());
    values.push(((names::RUNNABLE_AGE, Vec::new()), age));
    let unclaimed = unclaimed(active, queues, nodes, now).into_iter();
    let value = |([name], count): ([String; 1], Count)| ((names::UNCLAIMED, vec![("name", name)]), count.items as f64);
    values.extend(unclaimed.map(value));
    values
}

/// Counts the waiting items that are due and that no live node can claim, by name.
fn unclaimed(active: &Active, queues: &Queues, nodes: &[NodeRecord], now: Timestamp) -> Vec<([String; 1], Count)> {
    let handlers = || nodes.iter().map(|node| &node.info.handlers);
    let mut names = HashMap::<[String; 1], Count>::new();
    let mut add = |name: &String, count| names.entry([name.clone()]).or_default().add(count, None);
    for Waiting { name, tag, count, due } in &queues.waiting {
        if *due <= now && !handlers().any(|handlers| handlers.serves(name, tag.as_deref())) {
            add(name, *count);
        }
    }
    for Unowned { name, version, count, due } in &active.unowned {
        if *due <= now && !handlers().any(|handlers| handlers.has_code(name, version.as_deref())) {
            add(name, *count);
        }
    }
    largest(names)
}

/// Returns the largest groups, and adds up the others: under one name, and by the last part of their keys if there are several.
pub(super) fn largest<const N: usize>(groups: HashMap<[String; N], Count>) -> Vec<([String; N], Count)> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    // Ordered by key as well, so that groups of equal size do not change places.
    groups.sort_unstable_by(|(a, a_count), (b, b_count)| b_count.items.cmp(&a_count.items).then_with(|| a.cmp(b)));
    let merged = if N > 1 { N - 1 } else { N };
    let mut others = HashMap::<[String; N], Count>::new();
    for (mut key, count) in groups.split_off(groups.len().min(MAX_GROUPS)) {
        key.iter_mut().take(merged).for_each(|part| OTHER.clone_into(part));
        others.entry(key).or_default().add(count.items, count.since);
    }
    groups.extend(others);
    groups
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::active::ActiveState;
    use crate::id::{Epoch, NodeId};
    use crate::provider::{Handlers, NodeInfo};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn key<const N: usize>(parts: [&str; N]) -> [String; N] {
        parts.map(str::to_owned)
    }

    #[test]
    fn smallest_groups_beyond_the_limit_share_one_name() {
        let group = |number: u64| {
            (
                key([&format!("name-{number}"), "1.0.0", "running"]),
                Count { items: number, since: Some(at(number as i64)) },
            )
        };
        let shown = largest((1..=MAX_GROUPS as u64 + 2).map(group).collect());
        assert_eq!(shown.len(), MAX_GROUPS + 1);
        assert_eq!(shown.last(), Some(&(key([OTHER, OTHER, "running"]), Count { items: 1 + 2, since: Some(at(1)) })));
        let alone = largest(
            (1..=MAX_GROUPS as u64 + 2)
                .map(|number| (key([&format!("{number}")]), Count { items: number, since: None }))
                .collect(),
        );
        assert_eq!(alone.last(), Some(&(key([OTHER]), Count { items: 1 + 2, since: None })));
    }

    fn node(handlers: Handlers) -> NodeRecord {
        let (id, name, build) = (NodeId::new(), "n".to_owned(), "b".to_owned());
        let info =
            NodeInfo { id, name, build, handlers, lease_time: Duration::from_secs(5), details: Default::default() };
        NodeRecord::departed(info, Epoch(1), Timestamp::default())
    }

    #[test]
    fn items_that_are_due_and_that_no_node_serves_are_unclaimed() {
        let waiting = |name: &str, tag: Option<&str>, count, due| Waiting {
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            count,
            due: at(due),
        };
        let group = QueueGroup {
            name: "ship".to_owned(),
            tag: NONE.to_owned(),
            state: "waiting".to_owned(),
            count: 5,
            due: Some(at(20)),
        };
        let queues = Queues {
            groups: vec![group],
            waiting: vec![
                waiting("ship", Some("warehouse"), 2, 40),
                waiting("ship", Some("gpu"), 3, 20),
                waiting("ship", None, 4, 30),
                waiting("gone", None, 5, 200),
            ],
            complete: true,
        };
        let unowned = |version: &str, count, due| Unowned {
            name: "flow".to_owned(),
            version: Some(version.to_owned()),
            count,
            due: at(due),
        };
        let active = Active {
            groups: Vec::new(),
            unowned: vec![unowned("1.0.0", 7, 60), unowned("2.0.0", 8, 60)],
            causes: vec![3, 412],
            complete: false,
        };
        let handlers = Handlers {
            orchestrations: vec![("flow".to_owned(), semver::Version::new(1, 0, 0))],
            activities: vec!["ship".to_owned()],
            tags: Some(vec!["gpu".to_owned()]),
        };
        let values = report(&active, &queues, &[node(handlers)], at(100));
        let of = |metric: &str| {
            let values = values.iter().filter(|((name, _), _)| *name == metric);
            let mut values: Vec<_> =
                values.map(|((_, labels), value)| (labels.first().map(|(_, l)| l.as_str()), *value)).collect();
            values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            values
        };
        assert_eq!(of(names::UNCLAIMED), [(Some("flow"), 8.0), (Some("ship"), 2.0)]);
        assert_eq!(of(names::RUNNABLE_AGE), [(None, 80.0)]);
        assert_eq!(of(names::QUEUE_AGE), [(Some("ship"), 80.0)]);
        assert_eq!((of(names::CAUSED), of(names::LARGEST_CAUSE)), (vec![(None, 415.0)], vec![(None, 412.0)]));
        assert_eq!(of(names::REPORT_COMPLETE), [(None, 0.0)]);
    }

    #[test]
    fn statuses_are_labels() {
        let group = ActiveGroup {
            name: "flow".to_owned(),
            version: NONE.to_owned(),
            state: ActiveState::Paused,
            count: 2,
            oldest: at(40),
        };
        let active = Active { groups: vec![group], unowned: Vec::new(), causes: Vec::new(), complete: true };
        let queues = Queues { groups: Vec::new(), waiting: Vec::new(), complete: true };
        let values = report(&active, &queues, &[], at(100));
        let age = values.iter().find(|((name, _), _)| *name == names::ACTIVE_AGE).expect("a value");
        assert_eq!(age.1, 60.0);
        assert_eq!(age.0.1[2], ("state", "paused".to_owned()));
    }
}
