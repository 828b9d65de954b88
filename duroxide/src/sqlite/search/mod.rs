//! Searches of the instances in the order of their arrival, window by window.
//!
//! A window is the next few hundred entries of a [`Walk`]: of the table itself, or of an index that sorts the instances
//! with one value by arrival. If a filter allows several walks, each window uses the one that is rarest there. Between
//! two windows the search checks its deadline, and its position is the place up to which everything has been searched.

mod bounds;
mod statement;
#[cfg(test)]
mod tests;
mod walk;

use std::ops::Range;

use rusqlite::{Row, params_from_iter};

pub(super) use self::bounds::{CLOCKS, arrived_by};
pub(super) use self::statement::{Query, condition, literals};

use self::bounds::first_since;
use self::statement::statement;
use self::walk::{Walk, walks};
use super::sql::Sql;
use crate::provider::Filter;

/// The number of entries in the first window, and the largest number in a later one. The first window is enough for
/// most pages. The largest one limits the delay until a passed deadline is noticed, and the lifetime of a snapshot, to
/// about a millisecond.
const FIRST_WINDOW: u32 = 256;
const LARGEST_WINDOW: u32 = 4096;

/// The direction of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    fn sql(self) -> &'static str {
        match self {
            Self::NewestFirst => "DESC",
            Self::OldestFirst => "ASC",
        }
    }

    /// Returns true if the search reaches the first number before the second.
    fn is_before(self, first: i64, second: i64) -> bool {
        match self {
            Self::NewestFirst => first > second,
            Self::OldestFirst => first < second,
        }
    }
}

/// A part of a search.
#[derive(Debug, Clone)]
pub(super) struct Window<'a> {
    walk: Walk<'a>,
    /// The range of arrival numbers that it covers.
    pub(super) range: Range<i64>,
    /// The number of entries of the walk in it, if known.
    entries: Option<u64>,
    /// True if it is the last window of the search.
    pub(super) is_last: bool,
}

pub(super) struct Search<'a, 'c> {
    sql: &'a Sql<'c>,
    filter: &'a Filter,
    order: Order,
    walks: Vec<Walk<'a>>,
    left: Range<i64>,
    size: u32,
}

impl<'a, 'c> Search<'a, 'c> {
    /// Begins a search of the instances whose arrival numbers are in the range.
    pub(super) fn new(sql: &'a Sql<'c>, filter: &'a Filter, order: Order, range: Range<i64>) -> rusqlite::Result<Self> {
        let mut left = range;
        if let Some(from) = filter.created_from {
            left.start = left.start.max(first_since(sql, from.as_micros().saturating_sub(2 * CLOCKS))?);
        }
        if let Some(before) = filter.created_before {
            left.end = left.end.min(arrived_by(sql, before)?);
        }
        if let Some(before) = filter.updated_before {
            left.end = left.end.min(arrived_by(sql, before)?);
        }
        let size = FIRST_WINDOW;
        Ok(Self { sql, filter, order, walks: walks(sql, filter)?, left, size })
    }

    /// Searches the next window: returns the rows of each query, or `None` if everything has been searched. An
    /// interrupted window counts as not searched.
    pub(super) fn next<T>(
        &mut self,
        queries: &[Query],
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<(Window<'a>, Vec<T>)>> {
        let Some(window) = self.window()? else { return Ok(None) };
        let mut found = Vec::new();
        for query in queries {
            let (find, params) = statement(self.filter, self.order, &window, query);
            found.append(&mut self.sql.rows(&find, params_from_iter(params), &mut read)?);
        }
        match self.order {
            Order::NewestFirst => self.left.end = window.range.start,
            Order::OldestFirst => self.left.start = window.range.end,
        }
        self.size = (self.size * 4).min(LARGEST_WINDOW);
        Ok(Some((window, found)))
    }

    /// Returns the arrival number after which, in the order of the search, the remaining instances follow.
    pub(super) fn position(&self) -> i64 {
        match self.order {
            Order::NewestFirst => self.left.end,
            Order::OldestFirst => self.left.start - 1,
        }
    }

    fn window(&self) -> rusqlite::Result<Option<Window<'a>>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let mut rarest: Option<(&Walk<'a>, Option<i64>)> = None;
        for walk in &self.walks {
            let edge = walk.edge(self.sql, self.order, &self.left, self.size)?;
            // In the rarest walk, the same number of entries covers the widest range.
            let is_rarer = rarest.is_none_or(|(_, rarest)| match (rarest, edge) {
                (None, _) => false,
                (_, None) => true,
                (Some(rarest), Some(edge)) => self.order.is_before(rarest, edge),
            });
            if is_rarer {
                rarest = Some((walk, edge));
            }
        }
        let Some((walk, edge)) = rarest else { return Ok(None) };
        let range = match (edge, self.order) {
            (None, _) => self.left.clone(),
            (Some(edge), Order::NewestFirst) => edge..self.left.end,
            (Some(edge), Order::OldestFirst) => self.left.start..edge + 1,
        };
        let entries = edge.filter(|_| walk.0.len() == 1).map(|_| u64::from(self.size));
        let is_last = range == self.left;
        Ok(Some(Window { walk: walk.clone(), range, entries, is_last }))
    }

    /// Counts the entries of a part of a window: the instances that the search has examined.
    pub(super) fn entries(&self, window: &Window<'a>, part: &Range<i64>) -> rusqlite::Result<u64> {
        match window.entries {
            Some(entries) if *part == window.range => Ok(entries),
            _ => window.walk.count(self.sql, part),
        }
    }
}
