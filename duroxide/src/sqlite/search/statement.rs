//! The statement that reads the matching instances of a window.

use std::borrow::Cow;
use std::ops::Range;

use rusqlite::types::Value;

use super::walk::{Strand, Walk};
use super::{Order, Window};
use crate::history::WaitsFilter;
use crate::id::Identity;
use crate::provider::{Filter, InstanceStatus};
use crate::sqlite::rows::int;

/// A query for columns of the instances `i` of a window that match the filter.
pub(in crate::sqlite) struct Query {
    pub(in crate::sqlite) columns: Cow<'static, str>,
    /// Joined tables, and their parameters.
    pub(in crate::sqlite) joined: Cow<'static, str>,
    pub(in crate::sqlite) joined_params: Vec<Value>,
    /// An additional condition that begins with `AND`, and its parameters.
    pub(in crate::sqlite) condition: String,
    pub(in crate::sqlite) params: Vec<Value>,
    /// The columns to group by; empty: all rows are one group. `None`: the rows are those of the instances, in their order.
    pub(in crate::sqlite) group_by: Option<String>,
    /// The order of the rows of one instance.
    pub(in crate::sqlite) then_by: &'static str,
    pub(in crate::sqlite) limit: usize,
}

impl Query {
    fn order(&self, seq: &str, order: Order) -> String {
        match self.group_by.as_deref() {
            None => format!("ORDER BY {seq} {}{}", order.sql(), self.then_by),
            Some("") => String::new(),
            Some(columns) => format!("GROUP BY {columns}"),
        }
    }
}

/// Builds the statement that reads the matching instances of a window, and its parameters.
pub(super) fn statement(filter: &Filter, order: Order, window: &Window<'_>, query: &Query) -> (String, Vec<Value>) {
    let (matches, values) = condition_on_instances(filter, &window.walk);
    let rest = format!("{matches} {}", query.condition);
    let (find, mut params) = match window.walk.0[..] {
        [strand] => from_strand(strand, order, &window.range, query, &rest),
        _ => from_strands(filter, order, window, query, &rest),
    };
    params.extend(values);
    params.extend(query.params.iter().cloned());
    params.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
    (find, params)
}

/// Builds the statement for a walk of one strand, and its parameters before those of `rest`, the other conditions.
/// CROSS JOIN fixes the order of the loops.
fn from_strand(
    strand: Strand<'_>,
    order: Order,
    range: &Range<i64>,
    query: &Query,
    rest: &str,
) -> (String, Vec<Value>) {
    let Query { columns, joined, .. } = query;
    let (from, entries, values, seq) = strand.parts();
    let instances = match strand {
        Strand::Label(..) => "CROSS JOIN duroxide_instances i ON i.seq = l.instance",
        _ => "",
    };
    let mut params = query.joined_params.clone();
    params.extend(values);
    params.extend([range.start.into(), range.end.into()]);
    let order = query.order(seq, order);
    let find = format!(
        "SELECT {columns} FROM {from} {instances} {joined} WHERE {entries} AND {seq} >= ? AND {seq} < ?
         {rest} {order} LIMIT ?"
    );
    (find, params)
}

/// Builds the statement for a walk of several strands, and its parameters before those of `rest`, the other conditions.
fn from_strands(filter: &Filter, order: Order, window: &Window<'_>, query: &Query, rest: &str) -> (String, Vec<Value>) {
    let Query { columns, joined, .. } = query;
    let (mut entries, mut params) = (Vec::new(), Vec::new());
    for strand in &window.walk.0 {
        let (mut select, values) = strand.select("i.seq AS seq", &window.range);
        params.extend(values);
        // The index contains the name, so most rows need not be read.
        if let Some(name) = &filter.name {
            select.push_str(" AND i.name = ?");
            params.push(name.clone().into());
        }
        entries.push(select);
    }
    params.extend(query.joined_params.iter().cloned());
    let (entries, order) = (entries.join(" UNION ALL "), query.order("s.seq", order));
    let find = format!(
        "SELECT {columns} FROM ({entries}) s CROSS JOIN duroxide_instances i ON i.seq = s.seq {joined} WHERE TRUE
         {rest} {order} LIMIT ?"
    );
    (find, params)
}

/// Builds the condition of a filter on instances `i`, which begins with `AND` unless it is empty, and its parameters.
pub(in crate::sqlite) fn condition(filter: &Filter) -> (String, Vec<Value>) {
    condition_on_instances(filter, &Walk(vec![Strand::All]))
}

/// Builds the condition of a filter on instances `i`, except for the part that the walk already satisfies, and its
/// parameters.
fn condition_on_instances(filter: &Filter, walk: &Walk<'_>) -> (String, Vec<Value>) {
    let mut condition = String::new();
    let mut params = Vec::new();
    let mut and = |sql: &str, values: Vec<Value>| {
        condition.push_str(" AND ");
        condition.push_str(sql);
        params.extend(values);
    };
    if let Some(name) = &filter.name {
        and("i.name = ?", vec![name.clone().into()]);
    }
    let is_satisfied = matches!(walk.0[..], [Strand::Status(status)] if status != InstanceStatus::Running);
    if !filter.statuses.is_empty() && !is_satisfied {
        and(&condition_on_status(&filter.statuses), Vec::new());
    }
    for (name, value) in filter.labels.iter().filter(|(name, value)| walk.0 != [Strand::Label(name, value)]) {
        let sql = "EXISTS (SELECT 1 FROM duroxide_labels o WHERE o.name = ? AND o.value = ? AND o.instance = i.seq)";
        and(sql, vec![name.clone().into(), value.clone().into()]);
    }
    if let Some(from) = filter.created_from {
        and("i.created_at >= ?", vec![from.as_micros().into()]);
    }
    if let Some(before) = filter.created_before {
        and("i.created_at < ?", vec![before.as_micros().into()]);
    }
    if let Some(prefix) = &filter.id_prefix {
        and("substr(i.id, 1, length(?)) = ?", vec![prefix.clone().into(), prefix.clone().into()]);
    }
    if let Some(text) = &filter.id_contains {
        and("instr(i.id, ?) > 0", vec![text.clone().into()]);
    }
    if let Some(version) = &filter.version {
        and("i.version = ?", vec![version.to_string().into()]);
    }
    if let Some(node) = filter.node {
        and("i.owner = ?", vec![int(node.0).into()]);
    }
    if let Some(from) = filter.finished_from {
        and("i.finished_at >= ?", vec![from.as_micros().into()]);
    }
    if let Some(before) = filter.finished_before {
        and("i.finished_at < ?", vec![before.as_micros().into()]);
    }
    if let Some(from) = filter.updated_from {
        and("i.updated_at >= ?", vec![from.as_micros().into()]);
    }
    if let Some(before) = filter.updated_before {
        and("i.updated_at < ?", vec![before.as_micros().into()]);
    }
    if let Some(waits) = &filter.waits {
        let (condition, values) = condition_on_waits(waits);
        and(condition, values);
    }
    // A plus keeps the index on causes out: the activities of one instance are few, those with one cause may be many.
    if let Some(cause) = filter.cause.as_ref().filter(|_| !matches!(walk.0[..], [Strand::Cause(_), ..])) {
        let sql = "(i.cause = ? OR EXISTS (
            SELECT 1 FROM duroxide_activities s WHERE s.instance = i.seq AND +s.cause = ?))";
        and(sql, vec![cause.clone().into(), cause.clone().into()]);
    }
    if let Some(code) = filter.suspension {
        let (first, end) = Filter::causes_of(code);
        let sql = "((i.status = 'suspended' AND i.cause >= ? AND i.cause < ?) OR (i.status = 'running' AND EXISTS (
            SELECT 1 FROM duroxide_activities s
            WHERE s.instance = i.seq AND s.parked IS NOT NULL AND +s.cause >= ? AND +s.cause < ?)))";
        let range = [first.to_owned(), end].map(Value::from);
        and(sql, [range.clone(), range].concat());
    }
    if let Some(parent) = filter.parent.as_ref().filter(|_| !matches!(walk.0[..], [Strand::Parent(_)])) {
        and("i.parent = ?", vec![parent.as_str().to_owned().into()]);
    }
    if let Some(identity) = filter.parent_identity {
        let values = [identity, Identity::UNKNOWN].map(|identity| identity.0.as_bytes().to_vec().into());
        // It is missing in a row that was written before the column was added, and whose parent was gone.
        and("i.parent IS NOT NULL AND (i.parent_identity IS NULL OR i.parent_identity IN (?, ?))", values.to_vec());
    }
    (condition, params)
}

fn condition_on_waits(waits: &WaitsFilter) -> (&'static str, Vec<Value>) {
    if let Some(exact) = waits.exact() {
        return ("i.waits = ?", vec![exact.into()]);
    }
    let first = waits.kind.prefix();
    // All prefixes are ASCII.
    let end = char::from(u8::try_from(first).unwrap_or(b'~').saturating_add(1));
    ("i.waits >= ? AND i.waits < ?", vec![first.to_string().into(), end.to_string().into()])
}

/// Builds the condition that instances `i` are shown with one of the statuses. A running instance with a parked activity is
/// shown as suspended.
fn condition_on_status(statuses: &[InstanceStatus]) -> String {
    let parked = "(i.status = 'running' AND EXISTS (
        SELECT 1 FROM duroxide_activities s WHERE s.instance = i.seq AND s.parked IS NOT NULL))";
    let stored = format!("i.status IN ({})", literals(statuses));
    let has = |status| statuses.contains(&status);
    match (has(InstanceStatus::Running), has(InstanceStatus::Suspended)) {
        (true, false) => format!("{stored} AND NOT {parked}"),
        (false, true) => format!("({stored} OR {parked})"),
        (true, true) | (false, false) => stored,
    }
}

/// Formats statuses as SQL literals.
pub(in crate::sqlite) fn literals(statuses: &[InstanceStatus]) -> String {
    let quoted: Vec<_> = statuses.iter().map(|status| format!("'{}'", status.as_str())).collect();
    quoted.join(", ")
}
