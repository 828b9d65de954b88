//! Walks: the scans of the instances in the order of arrival that a search can choose from.

use std::ops::Range;

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::statement::literals;
use super::{LARGEST_WINDOW, Order};
use crate::history::{AwaitedKind, WaitsFilter};
use crate::provider::{Filter, InstanceStatus};
use crate::sqlite::rows::int;
use crate::sqlite::sql::Sql;

/// An index, or the table, that sorts the instances with one value by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strand<'a> {
    /// All instances.
    All,
    /// Instances without an owner that have this status, which is not `completed`.
    Status(InstanceStatus),
    /// Running instances with a parked activity, which are shown as suspended.
    Parked,
    /// Instances that the node of this epoch owns. All of them are running.
    Owner(i64),
    /// Instances with a label of this name and value.
    Label(&'a str, &'a str),
    /// Instances that this instance started.
    Parent(&'a str),
    /// Instances whose id begins so. The index does not sort them by arrival, so they must be few.
    Ids(&'a str),
    /// Instances that wait for the event of this name alone.
    Awaited(&'a str),
    /// Instances with this cause.
    Cause(&'a str),
    /// Other instances with an activity that has this cause.
    ActivityCause(&'a str),
}

/// A scan of the instances in the order of arrival that covers all matches of one part of the filter: one strand, or
/// several disjoint strands side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk<'a>(pub(super) Vec<Strand<'a>>);

/// Returns the walks that cover all matches of a filter.
pub(super) fn walks<'a>(sql: &Sql, filter: &'a Filter) -> rusqlite::Result<Vec<Walk<'a>>> {
    let labels = filter.labels.iter().map(|(name, value)| Strand::Label(name, value));
    let parent = filter.parent.iter().map(|parent| Strand::Parent(parent.as_str()));
    let event = filter.waits.as_ref().filter(|waits| is_awaited_event(waits));
    let awaited = event.and_then(|waits| waits.name.as_deref()).map(Strand::Awaited);
    let mut walks: Vec<_> = labels.chain(parent).chain(awaited).map(|strand| Walk(vec![strand])).collect();
    if let Some(node) = filter.node {
        walks.push(Walk(vec![Strand::Owner(int(node.0))]));
    }
    if let Some(prefix) = filter.id_prefix.as_deref().filter(|prefix| !prefix.is_empty())
        && are_few(sql, prefix)?
    {
        walks.push(Walk(vec![Strand::Ids(prefix)]));
    }
    if let Some(cause) = &filter.cause {
        walks.push(Walk(vec![Strand::Cause(cause), Strand::ActivityCause(cause)]));
    }
    let wanted = possible_statuses(filter);
    if !wanted.is_empty() && !wanted.contains(&InstanceStatus::Completed) {
        let statuses = InstanceStatus::ALL.into_iter().filter(|status| wanted.contains(status));
        let mut strands: Vec<_> = statuses.map(Strand::Status).collect();
        if wanted.contains(&InstanceStatus::Running) {
            strands.extend(owners(sql)?.into_iter().map(Strand::Owner));
        } else if wanted.contains(&InstanceStatus::Suspended) {
            strands.push(Strand::Parked);
        }
        walks.push(Walk(strands));
    }
    if walks.is_empty() {
        walks.push(Walk(vec![Strand::All]));
    }
    Ok(walks)
}

/// Returns the statuses that a match can have; none if it can have any.
fn possible_statuses(filter: &Filter) -> &[InstanceStatus] {
    match filter {
        Filter { suspension: Some(_), .. } => &[InstanceStatus::Suspended],
        // The index on awaited events is better than that on the statuses.
        Filter { waits: Some(waits), statuses, .. } if is_awaited_event(waits) => statuses,
        Filter { waits: Some(_), statuses, .. } if !is_live(statuses) => {
            &[InstanceStatus::Running, InstanceStatus::Suspended]
        }
        Filter { statuses, .. } => statuses,
    }
}

fn is_awaited_event(waits: &WaitsFilter) -> bool {
    waits.kind == AwaitedKind::Event && waits.name.is_some()
}

/// Returns true if there are statuses, and none of them is finished.
fn is_live(statuses: &[InstanceStatus]) -> bool {
    !statuses.is_empty() && statuses.iter().all(|status| !status.is_finished())
}

/// Returns true if so few ids begin so that each window may sort all of them.
fn are_few(sql: &Sql, prefix: &str) -> rusqlite::Result<bool> {
    let (from, condition, mut params, _) = Strand::Ids(prefix).parts();
    params.push(i64::from(LARGEST_WINDOW + 1).into());
    let count = format!("SELECT count(*) FROM (SELECT 1 FROM {from} WHERE {condition} LIMIT ?)");
    let count = sql.row(&count, params_from_iter(params), |row| row.get::<_, i64>(0))?;
    Ok(count.is_some_and(|count| count <= i64::from(LARGEST_WINDOW)))
}

/// Returns the epochs that own instances.
fn owners(sql: &Sql) -> rusqlite::Result<Vec<i64>> {
    let next = "SELECT min(owner) FROM duroxide_instances INDEXED BY duroxide_instances_owner WHERE owner > ?1";
    let mut owners = Vec::new();
    let mut last = i64::MIN;
    while let Some(owner) = sql.row(next, [last], |row| row.get::<_, Option<i64>>(0))?.flatten() {
        owners.push(owner);
        last = owner;
    }
    Ok(owners)
}

impl Walk<'_> {
    /// Returns the arrival number of entry `n` of a strand within a range, for the strand that reaches it first. `None`
    /// if no strand has that many entries.
    pub(super) fn edge(&self, sql: &Sql, order: Order, range: &Range<i64>, n: u32) -> rusqlite::Result<Option<i64>> {
        let mut nearest = None;
        for strand in &self.0 {
            let (find, params) = strand.edge_statement(order, range, n);
            let edge = sql.row(&find, params_from_iter(params), |row| row.get::<_, i64>(0))?;
            nearest = match (nearest, edge) {
                (Some(nearest), Some(edge)) if order.is_before(nearest, edge) => Some(nearest),
                (nearest, edge) => edge.or(nearest),
            };
        }
        Ok(nearest)
    }

    pub(super) fn count(&self, sql: &Sql, range: &Range<i64>) -> rusqlite::Result<u64> {
        let mut entries = 0;
        for strand in &self.0 {
            let (count, params) = strand.select("count(*)", range);
            let count = sql.row(&count, params_from_iter(params), |row| row.get::<_, i64>(0))?;
            entries += count.unwrap_or(0).max(0).unsigned_abs();
        }
        Ok(entries)
    }
}

impl Strand<'_> {
    /// Returns the table, the condition that selects the entries, its parameters, and the column of the arrival number.
    pub(super) fn parts(&self) -> (&'static str, String, Vec<Value>, &'static str) {
        match *self {
            Self::All => ("duroxide_instances i", "TRUE".to_owned(), Vec::new(), "i.seq"),
            // A literal, because plans do not depend on bound parameters: with a parameter, the partial index would not
            // be used.
            Self::Status(status) => (
                "duroxide_instances i INDEXED BY duroxide_instances_live",
                format!("i.owner IS NULL AND i.status <> 'completed' AND i.status = {}", literals(&[status])),
                Vec::new(),
                "i.seq",
            ),
            Self::Parked => (
                "(SELECT DISTINCT instance FROM duroxide_activities INDEXED BY duroxide_activities_parked
                  WHERE parked IS NOT NULL) t CROSS JOIN duroxide_instances i ON i.seq = t.instance",
                "i.status = 'running'".to_owned(),
                Vec::new(),
                "t.instance",
            ),
            Self::Owner(epoch) => (
                "duroxide_instances i INDEXED BY duroxide_instances_owner",
                "i.owner = ?".to_owned(),
                vec![epoch.into()],
                "i.seq",
            ),
            Self::Label(name, value) => (
                "duroxide_labels l",
                "l.name = ? AND l.value = ?".to_owned(),
                vec![name.to_owned().into(), value.to_owned().into()],
                "l.instance",
            ),
            Self::Parent(parent) => (
                "duroxide_instances i INDEXED BY duroxide_instances_parent",
                "i.parent = ?".to_owned(),
                vec![parent.to_owned().into()],
                "i.seq",
            ),
            // No byte of a text is 0xFF, so this is the least bound above all texts with the prefix.
            Self::Ids(prefix) => (
                "duroxide_instances i INDEXED BY duroxide_instances_id",
                "i.id >= ? AND i.id < CAST(? AS TEXT)".to_owned(),
                vec![prefix.to_owned().into(), [prefix.as_bytes(), &[0xFF]].concat().into()],
                "i.seq",
            ),
            // The conditions of the partial indexes are literals, as above.
            Self::Awaited(name) => (
                "duroxide_instances i INDEXED BY duroxide_instances_awaited",
                "i.waits >= 'e' AND i.waits < 'f' AND i.waits = ?".to_owned(),
                vec![WaitsFilter::event(name).exact().into()],
                "i.seq",
            ),
            Self::Cause(cause) => (
                "duroxide_instances i INDEXED BY duroxide_instances_cause",
                "i.cause IS NOT NULL AND i.cause = ?".to_owned(),
                vec![cause.to_owned().into()],
                "i.seq",
            ),
            Self::ActivityCause(cause) => (
                "(SELECT DISTINCT instance FROM duroxide_activities INDEXED BY duroxide_activities_cause
                  WHERE cause IS NOT NULL AND cause = ?) t CROSS JOIN duroxide_instances i ON i.seq = t.instance",
                "i.cause IS NOT ?".to_owned(),
                vec![cause.to_owned().into(), cause.to_owned().into()],
                "t.instance",
            ),
        }
    }

    /// Builds a query for `columns` of the entries within a range.
    pub(super) fn select(&self, columns: &str, range: &Range<i64>) -> (String, Vec<Value>) {
        let (from, condition, mut params, seq) = self.parts();
        params.extend([range.start.into(), range.end.into()]);
        (format!("SELECT {columns} FROM {from} WHERE {condition} AND {seq} >= ? AND {seq} < ?"), params)
    }

    pub(super) fn edge_statement(&self, order: Order, range: &Range<i64>, n: u32) -> (String, Vec<Value>) {
        let (_, _, _, seq) = self.parts();
        let (select, mut params) = self.select(seq, range);
        params.push(i64::from(n.saturating_sub(1)).into());
        (format!("{select} ORDER BY {seq} {} LIMIT 1 OFFSET ?", order.sql()), params)
    }
}
