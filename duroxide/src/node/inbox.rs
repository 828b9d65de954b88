//! The deliveries for the next turn of an instance.

use std::collections::VecDeque;

use super::delivery::Delivery;

/// Deliveries in their order: by rank, and within a rank as they arrived.
///
/// A turn may read the first of many events and end its execution, again and again. So an inbox is passed to a turn and
/// back as a whole, and external events, which can be many, are not searched for the other deliveries.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    ranks: [VecDeque<Delivery>; Delivery::RANKS],
    /// The number of deliveries that are not external events.
    others: usize,
}

impl Inbox {
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.others += usize::from(!delivery.is_event());
        self.ranks[usize::from(delivery.rank())].push_back(delivery);
    }

    /// Takes the first delivery.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.ranks.iter_mut().find_map(VecDeque::pop_front)?;
        self.others -= usize::from(!delivery.is_event());
        Some(delivery)
    }

    /// Adds the deliveries of an inbox that was filled later.
    pub(super) fn append(&mut self, later: Self) {
        for (rank, mut later) in self.ranks.iter_mut().zip(later.ranks) {
            rank.append(&mut later);
        }
        self.others += later.others;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranks.iter().all(VecDeque::is_empty)
    }

    /// Returns the start of an execution, if it has arrived.
    pub(super) fn start(&self) -> Option<&Delivery> {
        self.ranks[0].front()
    }

    /// Returns the deliveries that are not external events.
    pub(super) fn others(&self) -> impl Iterator<Item = &Delivery> {
        let ranks = if self.others > 0 { &self.ranks[..] } else { &[] };
        ranks.iter().flatten().filter(|delivery| !delivery.is_event())
    }

    /// Returns the deliveries that are not external events. Their kind must not be changed.
    pub(super) fn others_mut(&mut self) -> impl Iterator<Item = &mut Delivery> {
        let ranks = if self.others > 0 { &mut self.ranks[..] } else { &mut [] };
        ranks.iter_mut().flatten().filter(|delivery| !delivery.is_event())
    }

    /// Removes all deliveries that match and are not external events. Returns them in their order.
    pub(super) fn remove_others(&mut self, matches: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let mut removed = Vec::new();
        if self.others > 0 {
            for rank in &mut self.ranks {
                let (out, kept) = std::mem::take(rank).into_iter().partition(|d| !d.is_event() && matches(d));
                let out: VecDeque<Delivery> = out;
                *rank = kept;
                removed.extend(out);
            }
        }
        self.others -= removed.len();
        removed
    }

    /// Takes the events that an earlier execution has not read.
    pub(super) fn take_carried(&mut self) -> VecDeque<Delivery> {
        let carried = std::mem::take(&mut self.ranks[usize::from(Delivery::CARRIED)]);
        self.others -= carried.iter().filter(|delivery| !delivery.is_event()).count();
        carried
    }

    /// Returns the outcomes, which are not stored.
    pub(super) fn into_outcomes(mut self) -> Vec<Delivery> {
        self.remove_others(|delivery| matches!(delivery, Delivery::Outcome(_)))
    }
}

#[cfg(test)]
impl FromIterator<Delivery> for Inbox {
    fn from_iter<T: IntoIterator<Item = Delivery>>(deliveries: T) -> Self {
        let mut inbox = Self::default();
        deliveries.into_iter().for_each(|delivery| inbox.push(delivery));
        inbox
    }
}
