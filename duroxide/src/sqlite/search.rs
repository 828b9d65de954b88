//! Searches of the instances in the order of their arrival, window by window.
//!
//! A window is the next few hundred entries of a [`Walk`]: of the table itself, or of an index that sorts the instances
//! with one value by arrival. If a filter allows several walks, each window uses the one that is rarest there. Between
//! two windows the search checks its deadline, and its position is the place up to which everything has been searched.

use std::ops::Range;

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::sql::Sql;
use crate::clock::Timestamp;
use crate::provider::{Filter, InstanceStatus};

/// The most that the clocks which set `created_at` and `finished_at` may differ from each other or jump. A bound of
/// time is converted to a bound of arrival with this slack on both sides; rows within the slack are compared with the
/// bound itself.
pub(super) const CLOCKS: i64 = 24 * 3_600_000_000;

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

/// An index, or the table, that sorts the instances with one value by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strand<'a> {
    /// All instances.
    All,
    /// Instances without an owner that have this status, which is not `completed`.
    Status(InstanceStatus),
    /// Instances that the node of this epoch owns. All of them are running.
    Owner(i64),
    /// Instances with a label of this name and value.
    Label(&'a str, &'a str),
    /// Instances that this instance started.
    Parent(&'a str),
}

/// A scan of the instances in the order of arrival that covers all matches of one part of the filter: one strand, or
/// several disjoint strands side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Walk<'a>(Vec<Strand<'a>>);

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

pub(super) struct Search<'a> {
    sql: &'a Sql,
    filter: &'a Filter,
    order: Order,
    walks: Vec<Walk<'a>>,
    left: Range<i64>,
    size: u32,
}

impl<'a> Search<'a> {
    /// Begins a search of the instances whose arrival numbers are in the range.
    pub(super) fn new(sql: &'a Sql, filter: &'a Filter, order: Order, range: Range<i64>) -> rusqlite::Result<Self> {
        let mut left = range;
        if let Some(from) = filter.created_from {
            left.start = left.start.max(first_since(sql, from.as_micros().saturating_sub(2 * CLOCKS))?);
        }
        if let Some(before) = filter.created_before {
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

/// A query for columns of the instances `i` of a window that match the filter.
pub(super) struct Query {
    pub(super) columns: &'static str,
    /// Joined tables, and their parameters.
    pub(super) joined: &'static str,
    pub(super) joined_params: Vec<Value>,
    /// An additional condition that begins with `AND`, and its parameters.
    pub(super) condition: String,
    pub(super) params: Vec<Value>,
    /// The order of the rows of one instance.
    pub(super) then_by: &'static str,
    pub(super) limit: usize,
}

/// Returns the walks that cover all matches of a filter.
fn walks<'a>(sql: &Sql, filter: &'a Filter) -> rusqlite::Result<Vec<Walk<'a>>> {
    let labels = filter.labels.iter().map(|(name, value)| Strand::Label(name, value));
    let parent = filter.parent.iter().map(|parent| Strand::Parent(parent.as_str()));
    let mut walks: Vec<_> = labels.chain(parent).map(|strand| Walk(vec![strand])).collect();
    if !filter.statuses.is_empty() && !filter.statuses.contains(&InstanceStatus::Completed) {
        let statuses = InstanceStatus::ALL.into_iter().filter(|status| filter.statuses.contains(status));
        let mut strands: Vec<_> = statuses.map(Strand::Status).collect();
        if filter.statuses.contains(&InstanceStatus::Running) {
            strands.extend(owners(sql)?.into_iter().map(Strand::Owner));
        }
        walks.push(Walk(strands));
    }
    if walks.is_empty() {
        walks.push(Walk(vec![Strand::All]));
    }
    Ok(walks)
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
    fn edge(&self, sql: &Sql, order: Order, range: &Range<i64>, n: u32) -> rusqlite::Result<Option<i64>> {
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

    fn count(&self, sql: &Sql, range: &Range<i64>) -> rusqlite::Result<u64> {
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
    fn parts(&self) -> (&'static str, String, Vec<Value>, &'static str) {
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
        }
    }

    /// Builds a query for `columns` of the entries within a range.
    fn select(&self, columns: &str, range: &Range<i64>) -> (String, Vec<Value>) {
        let (from, condition, mut params, seq) = self.parts();
        params.extend([range.start.into(), range.end.into()]);
        (format!("SELECT {columns} FROM {from} WHERE {condition} AND {seq} >= ? AND {seq} < ?"), params)
    }

    fn edge_statement(&self, order: Order, range: &Range<i64>, n: u32) -> (String, Vec<Value>) {
        let (_, _, _, seq) = self.parts();
        let (select, mut params) = self.select(seq, range);
        params.push(i64::from(n.saturating_sub(1)).into());
        (format!("{select} ORDER BY {seq} {} LIMIT 1 OFFSET ?", order.sql()), params)
    }
}

/// Builds the statement that reads the matching instances of a window, and its parameters.
fn statement(filter: &Filter, order: Order, window: &Window<'_>, query: &Query) -> (String, Vec<Value>) {
    let Query { columns, joined, condition, then_by, .. } = query;
    let order = order.sql();
    let (matches, values) = condition_on_instances(filter, &window.walk);
    // CROSS JOIN fixes the order of the loops.
    let (find, mut params) = if let [strand] = window.walk.0[..] {
        let (from, entries, walk_values, seq) = strand.parts();
        let instances = match strand {
            Strand::Label(..) => "CROSS JOIN duroxide_instances i ON i.seq = l.instance",
            _ => "",
        };
        let mut params = query.joined_params.clone();
        params.extend(walk_values);
        params.extend([window.range.start.into(), window.range.end.into()]);
        let find = format!(
            "SELECT {columns} FROM {from} {instances} {joined} WHERE {entries} AND {seq} >= ? AND {seq} < ?
             {matches} {condition} ORDER BY {seq} {order}{then_by} LIMIT ?"
        );
        (find, params)
    } else {
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
        let find = format!(
            "SELECT {columns} FROM ({}) s CROSS JOIN duroxide_instances i ON i.seq = s.seq {joined} WHERE TRUE
             {matches} {condition} ORDER BY s.seq {order}{then_by} LIMIT ?",
            entries.join(" UNION ALL ")
        );
        (find, params)
    };
    params.extend(values);
    params.extend(query.params.iter().cloned());
    params.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
    (find, params)
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
    if !filter.statuses.is_empty() && !matches!(walk.0[..], [Strand::Status(_)]) {
        and(&format!("i.status IN ({})", literals(&filter.statuses)), Vec::new());
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
    if let Some(parent) = filter.parent.as_ref().filter(|_| !matches!(walk.0[..], [Strand::Parent(_)])) {
        and("i.parent = ?", vec![parent.as_str().to_owned().into()]);
    }
    (condition, params)
}

/// Formats statuses as SQL literals.
pub(super) fn literals(statuses: &[InstanceStatus]) -> String {
    let quoted: Vec<_> = statuses.iter().map(|status| format!("'{}'", status.as_str())).collect();
    quoted.join(", ")
}

/// Returns a bound of arrival: all instances that were created or finished before a time are below it.
pub(super) fn arrived_by(sql: &Sql, before: Timestamp) -> rusqlite::Result<i64> {
    first_since(sql, before.as_micros().saturating_add(2 * CLOCKS))
}

/// Finds, by bisection, an arrival number whose instance was created at a time or later, while its predecessor was
/// created earlier.
///
/// Times of creation rise only roughly with the arrival numbers, so there may be several such numbers. Any of them is
/// exact enough: if each clock differs from the true time by less than [`CLOCKS`], the instances below it arrived
/// before the time plus that slack, and the others arrived after the time minus that slack. So a bound that is moved by
/// twice [`CLOCKS`] excludes no match.
fn first_since(sql: &Sql, time: i64) -> rusqlite::Result<i64> {
    let ends = "SELECT coalesce((SELECT min(seq) FROM duroxide_instances), 0),
                       coalesce((SELECT max(seq) FROM duroxide_instances), 0)";
    let ends = sql.row(ends, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let (mut low, last) = ends.unwrap_or_default();
    let mut high = last.saturating_add(1);
    while low < high {
        let middle = low + (high - low) / 2;
        let find = "SELECT seq, created_at FROM duroxide_instances WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT 1";
        match sql.row(find, (middle, high), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))? {
            Some((seq, created)) if created < time => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::history::TextMap;
    use crate::id::InstanceId;
    use crate::sqlite::admin::records;

    fn filter(change: impl FnOnce(&mut Filter)) -> Filter {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    }

    /// Creates a database with that many instances, created a second apart. Every tenth has failed; every 300th has the
    /// label `rare`, the others `common`.
    fn database(folder: &tempfile::TempDir, instances: i64) -> Sql {
        let mut sql = Sql::open(&folder.path().join("state.db"), Duration::ZERO, Arc::default()).unwrap();
        super::super::schema::migrate(sql.connection_mut()).unwrap();
        sql.run(
            "INSERT INTO duroxide_instances (seq, id, name, status, created_at, updated_at, start_id)
             WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             SELECT n, 'i' || n, 'flow', iif(n % 10 = 0, 'failed', 'completed'), n * 1000000, 0, x'00' FROM n",
            [instances],
        )
        .unwrap();
        let labels = "INSERT INTO duroxide_labels SELECT iif(seq % 300 = 0, 'rare', 'common'), 'x', seq
            FROM duroxide_instances";
        sql.run(labels, []).unwrap();
        sql
    }

    fn plan(sql: &Sql, (statement, params): (String, Vec<Value>)) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {statement}");
        sql.rows(&explain, params_from_iter(params), |row| row.get::<_, String>(3)).unwrap().join("; ")
    }

    #[test]
    fn each_kind_of_list_walks_in_the_order_of_arrival() {
        let folder = tempfile::tempdir().unwrap();
        let sql = database(&folder, 10);
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
    fn running_instances_are_found_with_and_without_an_owner() {
        let folder = tempfile::tempdir().unwrap();
        let sql = database(&folder, 5_000);
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
            while let Some((window, mut some)) = search.next(&[records(9000)], |row| row.get::<_, i64>(15)).unwrap() {
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
        let sql = database(&folder, 5_000);
        let both = filter(|f| f.statuses = vec![InstanceStatus::Failed, InstanceStatus::Suspended]);
        let mut search = Search::new(&sql, &both, Order::NewestFirst, i64::MIN..i64::MAX).unwrap();
        let (window, found) = search.next(&[records(1000)], |row| row.get::<_, i64>(15)).unwrap().unwrap();
        assert_eq!((found.len(), found.first(), found.last()), (256, Some(&5_000), Some(&2_450)));
        assert!(!window.is_last);
    }

    #[test]
    fn search_ends_at_its_deadline_and_continues_there() {
        use super::super::admin::list;
        use super::super::admin_reader::Deadline;
        use super::super::remove::prunable;

        let folder = tempfile::tempdir().unwrap();
        let sql = database(&folder, 1_000);
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
        let sql = database(&folder, 5_000);
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
        let sql = database(&folder, 1);
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
            while let Some((window, mut some)) = search.next(&[records(1000)], |row| row.get::<_, i64>(15)).unwrap() {
                looked_at += search.entries(&window, &window.range).unwrap();
                found.append(&mut some);
            }
            let expected: Vec<_> = (1..=1_000).rev().filter(|n| (from..before).contains(&created(*n))).collect();
            assert_eq!(found, expected, "from hour {} on", from / hour);
        }
        assert!(looked_at < 77 * 250, "{looked_at} instances were looked at in 77 searches of 1,000");
    }
}
