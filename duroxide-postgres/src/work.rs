//! The work that a transaction leaves, and the nodes that are told of it.
//!
//! A message for an owner concerns that node. Work without an owner is for any node that has the code: one of them is told,
//! and further ones only while the work is not taken, since each request for work costs the server. The choice is a guess,
//! from the members as they were last read: of two random ones the node with more free places.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use duroxide::id::Epoch;

use crate::rollout::Members;

/// A queue of items without an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Queue {
    /// Instances of an orchestration: its name, and the version to which they are pinned.
    Instances(String, Option<String>),
    /// Activities: their name and their tag.
    Activities(String, Option<String>),
}

/// The work that transactions have left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// It concerns all nodes.
    pub(crate) for_all: bool,
    /// The nodes for which there is mail or a cancellation.
    pub(crate) owners: BTreeSet<Epoch>,
    /// The queues with new items.
    pub(crate) queues: BTreeSet<Queue>,
}

impl Work {
    /// Returns work that concerns all nodes.
    pub(crate) fn for_all() -> Self {
        Self { for_all: true, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.for_all && self.owners.is_empty() && self.queues.is_empty()
    }

    /// Returns true if it may concern one of these nodes.
    pub(crate) fn concerns(&self, nodes: &BTreeSet<Epoch>) -> bool {
        self.for_all || !self.queues.is_empty() || !self.owners.is_disjoint(nodes)
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.for_all |= other.for_all;
        self.owners.extend(other.owners);
        self.queues.extend(other.queues);
    }

    pub(crate) fn add_instance(&mut self, name: &str, version: Option<&str>) {
        self.queues.insert(Queue::Instances(name.to_owned(), version.map(str::to_owned)));
    }

    pub(crate) fn add_activity(&mut self, name: &str, tag: Option<&str>) {
        self.queues.insert(Queue::Activities(name.to_owned(), tag.map(str::to_owned)));
    }
}

/// The nodes of other processes that are told of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    All,
    /// None, if it is empty.
    Nodes(BTreeSet<Epoch>),
}

impl Told {
    /// The most nodes that a notification names.
    const NAMED: usize = 100;

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Nodes(nodes) if nodes.is_empty())
    }

    fn limited(self) -> Self {
        match self {
            Self::Nodes(nodes) if nodes.len() > Self::NAMED => Self::All,
            told => told,
        }
    }
}

/// The queues whose work may not be taken yet.
#[derive(Default)]
pub(crate) struct Untaken(BTreeMap<Queue, Search>);

/// The search for a node that takes the work of a queue.
struct Search {
    told: BTreeSet<Epoch>,
    /// The number of nodes that are told next.
    next: usize,
}

impl Untaken {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the queues.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.0.keys()
    }

    /// Chooses the nodes that are told of new work. `own` are told within this process. `members`: as they were last read.
    pub(crate) fn tell(&mut self, work: Work, members: Option<&Members>, own: &BTreeSet<Epoch>) -> Told {
        if work.for_all {
            return Told::All;
        }
        let mut told: BTreeSet<Epoch> = work.owners.difference(own).copied().collect();
        for queue in work.queues {
            let candidates = members.map(|members| members.candidates(&queue)).unwrap_or_default();
            if candidates.is_empty() {
                // A node with this code may have joined since, or the members were not read yet.
                return Told::All;
            }
            let others: Vec<_> = candidates.into_iter().filter(|(epoch, _)| !own.contains(epoch)).collect();
            let chosen = choose(&others).and_then(|place| others.get(place)).map(|(epoch, _)| *epoch);
            let search = self.0.entry(queue).or_insert_with(|| Search { told: own.clone(), next: 1 });
            search.told.extend(chosen);
            told.extend(chosen);
        }
        Told::Nodes(told).limited()
    }

    /// Chooses the nodes that are told next of work in these queues, which was not taken: each time twice as many, and at last
    /// all. The work of the other queues was taken.
    pub(crate) fn tell_more(&mut self, waiting: &BTreeSet<Queue>, members: Option<&Members>) -> Told {
        let mut told = BTreeSet::new();
        let mut all = false;
        for (queue, mut search) in std::mem::take(&mut self.0) {
            if !waiting.contains(&queue) {
                continue;
            }
            let candidates = members.map(|members| members.candidates(&queue)).unwrap_or_default();
            let mut left: Vec<_> = candidates.into_iter().filter(|(epoch, _)| !search.told.contains(epoch)).collect();
            if left.is_empty() {
                all = true;
                continue;
            }
            for _ in 0..search.next {
                let Some(place) = choose(&left) else { break };
                let (chosen, _) = left.swap_remove(place);
                search.told.insert(chosen);
                told.insert(chosen);
            }
            search.next *= 2;
            self.0.insert(queue, search);
        }
        if all { Told::All } else { Told::Nodes(told).limited() }
    }
}

/// Chooses of two random candidates the one with more places, and returns its position. They may be the same one: the places
/// are not those of this moment, so each candidate has a chance.
fn choose(candidates: &[(Epoch, i32)]) -> Option<usize> {
    let count = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
    let any = || {
        // Each state has keys of its own, from a random origin.
        let random = RandomState::new().hash_one(0);
        let place = usize::try_from(random.checked_rem(count)?).ok()?;
        candidates.get(place).map(|(_, places)| (place, places))
    };
    let (first, second) = (any()?, any()?);
    Some(if first.1 >= second.1 { first.0 } else { second.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::members_with_places;

    fn flow() -> Queue {
        Queue::Instances("flow".to_owned(), None)
    }

    fn work() -> Work {
        Work { queues: [flow()].into(), ..Work::default() }
    }

    fn one(told: Told) -> Epoch {
        match told {
            Told::Nodes(nodes) if nodes.len() == 1 => *nodes.first().expect("one"),
            told => panic!("{told:?}"),
        }
    }

    #[test]
    fn work_is_told_to_one_node_and_to_more_while_it_waits() {
        let members = members_with_places(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)], "flow");
        let own = [Epoch(1)].into();
        let mut untaken = Untaken::default();
        let first = one(untaken.tell(work(), Some(&members), &own));
        let second = one(untaken.tell_more(&[flow()].into(), Some(&members)));
        assert!(first != Epoch(1) && second != Epoch(1) && first != second);
        let Told::Nodes(others) = untaken.tell_more(&[flow()].into(), Some(&members)) else { panic!("too many") };
        assert_eq!(others.len(), 2, "twice as many");
        assert_eq!(untaken.tell_more(&[flow()].into(), Some(&members)), Told::All, "there may be a new one");
        assert!(untaken.is_empty());
        untaken.tell(work(), Some(&members), &own);
        assert_eq!(untaken.tell_more(&BTreeSet::new(), Some(&members)), Told::Nodes(BTreeSet::new()));
        assert!(untaken.is_empty(), "it was taken");
    }

    #[test]
    fn node_with_more_places_is_told_more_often() {
        let members = members_with_places(&[(1, 0), (2, 64)], "flow");
        let mut told = [0, 0, 0];
        for _ in 0..400 {
            let node = one(Untaken::default().tell(work(), Some(&members), &BTreeSet::new()));
            told[usize::try_from(node.0).expect("small")] += 1;
        }
        // One of four, and three of four.
        assert!(told[1] > 40 && told[2] > 240, "{told:?}");
    }

    #[test]
    fn owner_is_told_and_nodes_that_are_not_known_are_not_left_out() {
        let members = members_with_places(&[(1, 1), (2, 1)], "other");
        let mail = || Work { owners: [Epoch(1), Epoch(7)].into(), ..Work::default() };
        let own = [Epoch(1)].into();
        assert_eq!(one(Untaken::default().tell(mail(), Some(&members), &own)), Epoch(7));
        assert!(mail().concerns(&own) && !mail().concerns(&[Epoch(2)].into()));
        assert_eq!(Untaken::default().tell(work(), Some(&members), &own), Told::All, "no member has the code");
        assert_eq!(Untaken::default().tell(work(), None, &own), Told::All, "the members were not read");
    }
}
