//! Searches of the instances in the order of their arrival, window by window.
//!
//! A window is the next few hundred entries of a [`Walk`]: of the table itself, or of an index that sorts the instances
//! with one value by arrival. Each window has a snapshot of its own, and between two windows the caller checks its deadline.

use std::ops::Range;

use duroxide::Timestamp;
use duroxide::error::ErrorCode;
use duroxide::id::Identity;
use duroxide::provider::{Filter, InstanceStatus};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{int, label};

/// The number of entries in the first window, and the largest number in a later one.
const FIRST_WINDOW: i64 = 256;
const LARGEST_WINDOW: i64 = 4096;
/// The most that the clocks which set `created_at` and `finished_at` may differ from each other or jump: a day. A bound of
/// time is converted to a bound of arrival with twice this slack on both sides; rows within the slack are compared with the
/// bound itself.
const CLOCKS: i64 = 24 * 3_600_000_000;

/// A statement that is composed for a filter. All values are parameters.
#[derive(Default)]
pub(crate) struct Query {
    text: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Query {
    /// Adds literal text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value, as a parameter of this type.
    pub(crate) fn value(mut self, value: impl ToSql + Sync + Send + 'static, of: &str) -> Self {
        self.values.push(Box::new(value));
        self.text.push_str(&format!("${}::{of}", self.values.len()));
        self
    }

    pub(crate) async fn rows(&self, connection: &Connection) -> Result<Vec<Row>, Fault> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| &**value as _).collect();
        connection.query_text(&self.text, &values).await
    }

    async fn number(&self, connection: &Connection) -> Result<Option<i64>, Fault> {
        match self.rows(connection).await?.first() {
            Some(row) => Ok(row.try_get(0)?),
            None => Ok(None),
        }
    }
}

/// The direction of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    OldestFirst,
}

impl Order {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::NewestFirst => "DESC",
            Self::OldestFirst => "ASC",
        }
    }
}

/// A scan of the instances in the order of arrival that covers all matches of one part of the filter.
enum Walk {
    All,
    /// Instances with one of these statuses. With `Suspended`, including those with parked activities.
    Statuses(Vec<InstanceStatus>),
    Label(String, String),
    Parent(String),
    /// Instances that have not finished.
    Live,
    /// Instances that have this cause, or an activity that has it.
    Cause(String),
    /// Instances that the node of this epoch owns.
    Owner(i64),
    /// Instances with an id from the first text on and before the second one. The index does not sort them by arrival, so they
    /// must be few.
    Ids(String, String),
}

impl Walk {
    fn of(filter: &Filter) -> Self {
        if let Some(parent) = &filter.parent {
            return Self::Parent(parent.as_str().to_owned());
        }
        if let Some((name, value)) = filter.labels.iter().next() {
            return Self::Label(label(name), label(value));
        }
        if let Some(cause) = &filter.cause {
            return Self::Cause(cause.clone());
        }
        if let Some(node) = filter.node {
            return Self::Owner(int(node.0));
        }
        if filter.suspension.is_some() {
            return Self::Statuses(vec![InstanceStatus::Suspended]);
        }
        if filter.waits.is_some() {
            return Self::Live;
        }
        // Completed instances are the majority, and have no index.
        if filter.statuses.is_empty() || filter.statuses.contains(&InstanceStatus::Completed) {
            return Self::All;
        }
        Self::Statuses(filter.statuses.clone())
    }

    /// Returns the selections of the entries, as the text between SELECT and the range, and the name of the number.
    fn selections(&self, what: &str) -> Vec<(Query, &'static str)> {
        let select = |from: &str| Query::default().text("SELECT ").text(what).text(" FROM ").text(from);
        match self {
            Self::All => vec![(select("instances i WHERE TRUE"), "i.seq")],
            Self::Label(name, value) => {
                let select = select("labels w WHERE w.name = ").value(name.clone(), "text");
                vec![(select.text(" AND w.value = ").value(value.clone(), "text"), "w.instance")]
            }
            Self::Parent(parent) => {
                vec![(select("instances i WHERE i.parent = ").value(parent.clone(), "text"), "i.seq")]
            }
            _ => (0..self.sources()).map(|n| (self.source(n, select("")), "i.seq")).collect(),
        }
    }

    /// Returns the number of sources whose union holds the entries; zero if they are one table.
    fn sources(&self) -> usize {
        match self {
            Self::All | Self::Label(..) | Self::Parent(_) => 0,
            Self::Statuses(statuses) => with_status(statuses).len(),
            Self::Live | Self::Cause(_) | Self::Owner(_) | Self::Ids(..) => 1,
        }
    }

    /// Adds source number `n`: the text after FROM, with a condition.
    fn source(&self, n: usize, query: Query) -> Query {
        match self {
            Self::Statuses(statuses) => query.text(with_status(statuses).get(n).map_or("", String::as_str)),
            Self::Live => query.text("live i WHERE TRUE"),
            // No index has the owner, which changes often. There are fewer live instances than finished ones.
            Self::Owner(epoch) => query.text("live i WHERE i.owner = ").value(*epoch, "bigint"),
            Self::Ids(from, before) => {
                let query = query.text("instances i WHERE i.id >= ").value(from.clone(), "text");
                query.text(" AND i.id < ").value(before.clone(), "text")
            }
            Self::Cause(cause) => {
                let query = query.text("(SELECT seq FROM instances WHERE cause = ").value(cause.clone(), "text");
                let query = query.text(" UNION SELECT seq FROM live WHERE cause = ").value(cause.clone(), "text");
                let query = query.text(" UNION SELECT instance FROM activities WHERE cause = ");
                query.value(cause.clone(), "text").text(") i WHERE TRUE")
            }
            Self::All | Self::Label(..) | Self::Parent(_) => query,
        }
    }
}

/// Returns the sources of the instances with one of these statuses, as the texts after FROM.
fn with_status(statuses: &[InstanceStatus]) -> Vec<String> {
    // A literal, since a plan for any status could not use the partial index.
    let of = |status: &InstanceStatus| {
        format!("instances i WHERE i.status <> 'completed' AND i.status = '{}'", status.as_str())
    };
    let mut sources: Vec<_> = statuses.iter().map(of).collect();
    if statuses.contains(&InstanceStatus::Suspended) {
        let parked =
            "(SELECT DISTINCT instance AS seq FROM activities WHERE parked AND rejected IS NOT NULL) i WHERE TRUE";
        sources.push(parked.to_owned());
    }
    sources
}

/// A part of a search.
pub(crate) struct Window {
    /// The range of arrival numbers that it covers.
    pub(crate) range: Range<i64>,
    /// True if it is the last window of the search.
    pub(crate) is_last: bool,
}

pub(crate) struct Search<'a> {
    connection: &'a Connection,
    filter: &'a Filter,
    order: Order,
    walk: Walk,
    left: Range<i64>,
    size: i64,
}

impl<'a> Search<'a> {
    /// Begins a search of the instances whose arrival numbers are in the range.
    pub(crate) async fn new(
        connection: &'a Connection,
        filter: &'a Filter,
        order: Order,
        range: Range<i64>,
    ) -> Result<Self, Fault> {
        let mut left = range;
        if let Some(from) = filter.created_from {
            let from = from.as_micros().saturating_sub(2 * CLOCKS);
            left.start = left.start.max(first_since(connection, from).await?);
        }
        if let Some(before) = filter.created_before {
            left.end = left.end.min(arrived_by(connection, before).await?);
        }
        if let Some(before) = filter.updated_before {
            left.end = left.end.min(arrived_by(connection, before).await?);
        }
        let walk = match Walk::of(filter) {
            Walk::All => few_ids(connection, filter).await?.unwrap_or(Walk::All),
            walk => walk,
        };
        Ok(Self { connection, filter, order, walk, left, size: FIRST_WINDOW })
    }

    /// Returns the next window, or `None` if everything has been searched.
    pub(crate) async fn window(&self) -> Result<Option<Window>, Fault> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let mut nearest: Option<i64> = None;
        let column = if matches!(self.walk, Walk::Label(..)) { "w.instance" } else { "i.seq" };
        for (select, number) in self.walk.selections(column) {
            let edge = ranged(select, number, &self.left)
                .text(&format!(" ORDER BY {number} {} OFFSET ", self.order.sql()))
                .value(self.size - 1, "bigint")
                .text(" LIMIT 1");
            let edge = edge.number(self.connection).await?;
            nearest = match (nearest, edge, self.order) {
                (Some(one), Some(other), Order::NewestFirst) => Some(one.max(other)),
                (Some(one), Some(other), Order::OldestFirst) => Some(one.min(other)),
                (one, other, _) => one.or(other),
            };
        }
        let range = match (nearest, self.order) {
            (None, _) => self.left.clone(),
            (Some(edge), Order::NewestFirst) => edge..self.left.end,
            (Some(edge), Order::OldestFirst) => self.left.start..edge + 1,
        };
        let is_last = range == self.left;
        Ok(Some(Window { range, is_last }))
    }

    /// Marks a window as searched.
    pub(crate) fn advance(&mut self, window: &Window) {
        match self.order {
            Order::NewestFirst => self.left.end = window.range.start,
            Order::OldestFirst => self.left.start = window.range.end,
        }
        self.size = (self.size * 4).min(LARGEST_WINDOW);
    }

    /// Returns the arrival number after which, in the order of the search, the remaining instances follow.
    pub(crate) fn position(&self) -> i64 {
        match self.order {
            Order::NewestFirst => self.left.end,
            Order::OldestFirst => self.left.start - 1,
        }
    }

    /// Counts the entries of a part of a window: the instances that the search has examined.
    pub(crate) async fn entries(&self, part: &Range<i64>) -> Result<u64, Fault> {
        let mut entries = 0;
        for (select, number) in self.walk.selections("count(*)") {
            let count = ranged(select, number, part).number(self.connection).await?;
            entries += count.unwrap_or(0).max(0).unsigned_abs();
        }
        Ok(entries)
    }

    /// Begins a query for columns of the matching instances `i` of a window; `joined` follows the FROM.
    pub(crate) fn matches(&self, window: &Window, columns: &str, joined: &str) -> Query {
        self.matches_of(Query::default().text("SELECT ").text(columns), window, joined)
    }

    /// As [`matches`](Self::matches), with columns that have values.
    pub(crate) fn matches_of(&self, columns: Query, window: &Window, joined: &str) -> Query {
        let query = columns.text(" FROM ");
        let (query, number) = match &self.walk {
            Walk::Label(name, value) => {
                let query = query.text("labels w JOIN instances i ON i.seq = w.instance ").text(joined);
                let query = query.text(" WHERE w.name = ").value(name.clone(), "text");
                (query.text(" AND w.value = ").value(value.clone(), "text"), "w.instance")
            }
            Walk::All | Walk::Parent(_) => (query.text("instances i ").text(joined).text(" WHERE TRUE"), "i.seq"),
            walk => {
                // The range of a window may hold many instances that are not entries.
                let mut query = query.text("instances i ").text(joined).text(" WHERE i.seq IN (");
                for n in 0..walk.sources() {
                    let select = if n == 0 { "SELECT i.seq FROM " } else { " UNION ALL SELECT i.seq FROM " };
                    query = ranged(walk.source(n, query.text(select)), "i.seq", &window.range);
                }
                (query.text(")"), "i.seq")
            }
        };
        condition(self.filter, ranged(query, number, &window.range))
    }
}

/// Returns the walk of the instances whose ids begin as the filter asks, if they are so few that each window may sort all of
/// them.
async fn few_ids(connection: &Connection, filter: &Filter) -> Result<Option<Walk>, Fault> {
    let Some(prefix) = filter.id_prefix.as_ref() else { return Ok(None) };
    let Some(end) = after(prefix) else { return Ok(None) };
    let walk = Walk::Ids(prefix.clone(), end);
    let count = walk.source(0, Query::default().text("SELECT count(*) FROM (SELECT 1 FROM "));
    let count = count.text(" LIMIT ").value(LARGEST_WINDOW + 1, "bigint").text(") n").number(connection).await?;
    Ok(count.filter(|count| *count <= LARGEST_WINDOW).map(|_| walk))
}

/// Returns the least text that is above all texts with a prefix, if there is one. Ids are ordered by the numbers of their
/// characters.
fn after(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn ranged(query: Query, number: &str, range: &Range<i64>) -> Query {
    let query = query.text(&format!(" AND {number} >= ")).value(range.start, "bigint");
    query.text(&format!(" AND {number} < ")).value(range.end, "bigint")
}

/// Adds the condition of a filter on instances `i`.
pub(crate) fn condition(filter: &Filter, mut query: Query) -> Query {
    if let Some(name) = &filter.name {
        query = query.text(" AND i.name = ").value(name.clone(), "text");
    }
    if !filter.statuses.is_empty() {
        let statuses: Vec<&'static str> = filter.statuses.iter().map(|status| status.as_str()).collect();
        query = query.text(" AND CASE WHEN i.status = 'running' AND EXISTS (SELECT 1 FROM activities a
            WHERE a.instance = i.seq AND a.parked AND a.rejected IS NOT NULL) THEN 'suspended' ELSE i.status END = ANY (");
        query = query.value(statuses, "text[]").text(")");
    }
    for (name, value) in &filter.labels {
        query = query.text(" AND EXISTS (SELECT 1 FROM labels o WHERE o.name = ").value(label(name), "text");
        query = query.text(" AND o.value = ").value(label(value), "text").text(" AND o.instance = i.seq)");
    }
    if let Some(from) = filter.created_from {
        query = query.text(" AND i.created_at >= ").value(from.as_micros(), "bigint");
    }
    if let Some(before) = filter.created_before {
        query = query.text(" AND i.created_at < ").value(before.as_micros(), "bigint");
    }
    if let Some(prefix) = &filter.id_prefix {
        query = query.text(" AND starts_with(i.id, ").value(prefix.clone(), "text").text(")");
    }
    if let Some(text) = &filter.id_contains {
        query = query.text(" AND strpos(i.id, ").value(text.clone(), "text").text(") > 0");
    }
    if let Some(version) = &filter.version {
        // The version of a live instance is in its other row.
        query = query.text(
            " AND CASE WHEN EXISTS (SELECT 1 FROM live v WHERE v.seq = i.seq)
            THEN (SELECT v.version FROM live v WHERE v.seq = i.seq) ELSE i.version END = ",
        );
        query = query.value(version.to_string(), "text");
    }
    if let Some(node) = filter.node {
        query = query.text(" AND EXISTS (SELECT 1 FROM live v WHERE v.seq = i.seq AND v.owner = ");
        query = query.value(int(node.0), "bigint").text(")");
    }
    if let Some(from) = filter.finished_from {
        query = query.text(" AND i.finished_at >= ").value(from.as_micros(), "bigint");
    }
    if let Some(before) = filter.finished_before {
        query = query.text(" AND i.finished_at < ").value(before.as_micros(), "bigint");
    }
    // The time of the last change of a live instance is in its other row.
    const UPDATED: &str = " AND coalesce((SELECT v.updated_at FROM live v WHERE v.seq = i.seq), i.updated_at)";
    if let Some(from) = filter.updated_from {
        query = query.text(UPDATED).text(" >= ").value(from.as_micros(), "bigint");
    }
    if let Some(before) = filter.updated_before {
        query = query.text(UPDATED).text(" < ").value(before.as_micros(), "bigint");
    }
    if let Some(waits) = &filter.waits {
        query = query.text(" AND EXISTS (SELECT 1 FROM live v WHERE v.seq = i.seq AND ");
        query = match waits.exact() {
            Some(exact) => query.text("v.waits = ").value(exact, "text"),
            None => query.text("starts_with(v.waits, ").value(waits.kind.prefix().to_string(), "text").text(")"),
        };
        query = query.text(")");
    }
    if let Some(cause) = &filter.cause {
        query = query.text(" AND (i.cause = ").value(cause.clone(), "text");
        query = query.text(" OR EXISTS (SELECT 1 FROM live v WHERE v.seq = i.seq AND v.cause = ");
        query = query.value(cause.clone(), "text");
        query = query.text(") OR EXISTS (SELECT 1 FROM activities a WHERE a.instance = i.seq AND a.cause = ");
        query = query.value(cause.clone(), "text").text("))");
    }
    if let Some(code) = filter.suspension {
        query = suspended_by(code, query);
    }
    if let Some(parent) = &filter.parent {
        query = query.text(" AND i.parent = ").value(parent.as_str().to_owned(), "text");
    }
    if let Some(identity) = filter.parent_identity {
        query = query.text(" AND i.parent_identity IN (").value(identity.0, "uuid");
        query = query.text(", ").value(Identity::UNKNOWN.0, "uuid").text(")");
    }
    query
}

/// Adds the condition that an instance `i` is suspended with this code, or has an activity that is parked with it.
fn suspended_by(code: ErrorCode, query: Query) -> Query {
    let (first, end) = Filter::causes_of(code);
    let within = |query: Query, cause: &str| {
        let query = query.text(&format!(" AND {cause} >= ")).value(first, "text");
        query.text(&format!(" AND {cause} < ")).value(end.clone(), "text").text(")")
    };
    let query = query.text(" AND (i.status = 'suspended' AND EXISTS (SELECT 1 FROM live v WHERE v.seq = i.seq");
    let query = within(query, "v.cause");
    let query = query.text(
        " OR i.status = 'running' AND EXISTS (SELECT 1 FROM activities a
            WHERE a.instance = i.seq AND a.parked AND a.rejected IS NOT NULL",
    );
    within(query, "a.cause").text(")")
}

/// Returns a bound of arrival: all instances that were created or finished before a time are below it.
pub(crate) async fn arrived_by(connection: &Connection, before: Timestamp) -> Result<i64, Fault> {
    first_since(connection, before.as_micros().saturating_add(2 * CLOCKS)).await
}

/// Finds, by bisection, an arrival number whose instance was created at a time or later, while its predecessor was created
/// earlier. Times of creation rise only roughly with the arrival numbers, so there may be several such numbers; with the
/// slack of [`CLOCKS`], any of them is exact enough.
async fn first_since(connection: &Connection, time: i64) -> Result<i64, Fault> {
    let ends = "SELECT coalesce((SELECT min(seq) FROM instances), 0) AS first,
        coalesce((SELECT max(seq) FROM instances), 0) AS last";
    let ends = connection.query(step!(ends)).await?;
    let end = |column: &str| ends.first().map_or(Ok(0), |row| row.try_get::<_, i64>(column));
    let (mut low, mut high) = (end("first")?, end("last")?.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let find = "SELECT seq, created_at FROM instances WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT 1";
        match connection.query(step!(find, middle, high)).await?.first() {
            Some(row) if row.try_get::<_, i64>("created_at")? < time => low = row.try_get::<_, i64>("seq")? + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
