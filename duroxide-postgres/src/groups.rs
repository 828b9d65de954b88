//! Counts instances, activities and timers.
//!
//! All are counted window by window, and a count whose time is over between two of them is incomplete: instances as lists are
//! searched, activities and timers in the order of their instances, without a walk over the finished ones.

use std::time::Instant;

use duroxide::Timestamp;
use duroxide::provider::{Dimension, Filter, Group, Grouping, Groups, Subject};
use tokio_postgres::Row;

use crate::connect::Connection;
use crate::fault::Fault;
use crate::rows::{AT_ONCE, FIRST_TIME, label, natural, read_label};
use crate::search::{Order, Query, Search, condition};

/// The number of activities or timers in a window, except that an instance is in one window with all its own.
const WINDOW: i64 = 4096;
/// The table of the parts of an instance `i` that change while it lives.
const LIVE: &str = "LEFT JOIN live l ON l.seq = i.seq";

pub(crate) async fn groups(
    connection: &Connection,
    of: Subject,
    filter: &Filter,
    by: &[Dimension],
    deadline: Instant,
) -> Result<Groups, Fault> {
    let mut grouping = Grouping::default();
    let items = match of {
        Subject::Activities => Items { of, table: "activities", alias: "a", waiting: "TRUE" },
        Subject::Timers => {
            let waiting = "m.visible_at IS NOT NULL AND i.finished_at IS NULL";
            Items { of, table: "messages", alias: "m", waiting }
        }
        Subject::Instances => return instances(connection, filter, by, grouping, deadline).await,
        // A subject of a later version.
        _ => return Ok(grouping.finish(false)),
    };
    let mut after = i64::MIN;
    loop {
        let last = items.end_of_window(connection, after).await?;
        add(&mut grouping, &items.count(filter, by, after, last).rows(connection).await?, by)?;
        let Some(last) = last else { return Ok(grouping.finish(true)) };
        if Instant::now() >= deadline {
            return Ok(grouping.finish(false));
        }
        after = last;
    }
}

/// Items that belong to instances.
struct Items {
    of: Subject,
    table: &'static str,
    /// The name of the table in a statement.
    alias: &'static str,
    /// The condition of those that are counted.
    waiting: &'static str,
}

impl Items {
    /// Returns the last instance of the window after an instance; `None` if it is the last window.
    async fn end_of_window(&self, connection: &Connection, after: i64) -> Result<Option<i64>, Fault> {
        let find = format!("SELECT instance FROM {} WHERE instance > ", self.table);
        let find = Query::default().text(&find).value(after, "bigint").text(" ORDER BY instance OFFSET ");
        let rows = find.value(WINDOW, "bigint").text(" LIMIT 1").rows(connection).await?;
        rows.first().map(|row| Ok(row.try_get("instance")?)).transpose()
    }

    /// Returns the query that counts the items of a window.
    fn count(&self, filter: &Filter, by: &[Dimension], after: i64, last: Option<i64>) -> Query {
        let Self { of, table, alias, waiting } = *self;
        let from = format!(" FROM {table} {alias} JOIN instances i ON i.seq = {alias}.instance {LIVE} WHERE {waiting}");
        let mut query = columns(of, by).text(&from).text(&format!(" AND {alias}.instance > ")).value(after, "bigint");
        if let Some(last) = last {
            query = query.text(&format!(" AND {alias}.instance <= ")).value(last, "bigint");
        }
        // One more than is kept, so that the excess is noticed.
        let limit = format!(" LIMIT {}", Groups::LIMIT + 1);
        condition(filter, query).text(&group_by(by)).text(&limit)
    }
}

async fn instances(
    connection: &Connection,
    filter: &Filter,
    by: &[Dimension],
    mut grouping: Grouping,
    deadline: Instant,
) -> Result<Groups, Fault> {
    let mut search = Search::new(connection, filter, Order::NewestFirst, 0..i64::MAX).await?;
    let mut is_complete = true;
    while let Some(window) = search.window().await? {
        let joined = format!("{LIVE} LEFT JOIN ready r ON r.seq = i.seq");
        let query = search.matches_of(columns(Subject::Instances, by), &window, &joined).text(&group_by(by));
        add(&mut grouping, &query.rows(connection).await?, by)?;
        search.advance(&window);
        if !window.is_last && Instant::now() >= deadline {
            is_complete = false;
            break;
        }
    }
    Ok(grouping.finish(is_complete))
}

fn group_by(by: &[Dimension]) -> String {
    let numbers: Vec<String> = (1..=by.len()).map(|n| n.to_string()).collect();
    if numbers.is_empty() { String::new() } else { format!(" GROUP BY {}", numbers.join(", ")) }
}

/// Adds partial counts. Without a dimension, SQL counts nothing as one group of zero.
fn add(grouping: &mut Grouping, rows: &[Row], by: &[Dimension]) -> Result<(), Fault> {
    for row in rows {
        let key = by.iter().enumerate().map(|(n, dimension)| value(row, n, dimension)).collect::<Result<_, _>>()?;
        let time = |column: &str| Ok::<_, Fault>(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
        let group = Group { key, count: natural(row, "count")?, oldest: time("oldest")?, next: time("next")? };
        if group.count > 0 {
            grouping.add(group);
        }
    }
    Ok(())
}

fn value(row: &Row, n: usize, dimension: &Dimension) -> Result<Option<String>, Fault> {
    let value: Option<String> = row.try_get(n)?;
    Ok(match dimension {
        Dimension::Label(_) => value.map(|value| read_label(&value)),
        Dimension::Minute => {
            let micros = |text: String| text.parse().map_err(|_| Fault::Unreadable(format!("minute {text}")));
            value.map(micros).transpose()?.map(|micros| Dimension::minute(Timestamp::from_micros(micros)))
        }
        _ => value,
    })
}

/// Begins a query with the columns of the key, the count and its times.
fn columns(of: Subject, by: &[Dimension]) -> Query {
    let mut query = Query::default().text("SELECT ");
    for dimension in by {
        query = match dimension {
            Dimension::Label(name) => query
                .text("(SELECT o.value FROM labels o WHERE o.instance = i.seq AND o.name = ")
                .value(label(name), "text")
                .text("), "),
            dimension => query.text(&column(of, dimension)).text(", "),
        };
    }
    let times = match of {
        Subject::Activities => format!(
            "min(CASE WHEN {waits} AND a.ready_at < {FIRST_TIME} THEN a.ready_at + {AT_ONCE} END) AS oldest,
             min(CASE WHEN {waits} AND a.ready_at >= {FIRST_TIME} THEN a.ready_at END) AS next",
            waits = "a.owner IS NULL AND NOT a.parked"
        ),
        Subject::Timers => "NULL::bigint AS oldest, min(m.visible_at) AS next".to_owned(),
        _ => format!(
            "min(CASE WHEN i.finished_at IS NULL THEN i.created_at END) AS oldest,
             min(CASE WHEN r.ready_at < {FIRST_TIME} THEN r.ready_at + {AT_ONCE} ELSE r.ready_at END) AS next"
        ),
    };
    query.text("count(*) AS count, ").text(&times)
}

/// Returns the expression of a dimension that is not a label, as text. Activities are `a`, timers `m`, and their instances `i`
/// and `l`.
fn column(of: Subject, dimension: &Dimension) -> String {
    let minute = |time: &str| format!("(greatest({time}, 0) / 60000000 * 60000000)::text");
    let column = match (of, dimension) {
        (Subject::Activities, Dimension::Name) => "a.name",
        (Subject::Activities, Dimension::Node) => "a.owner::text",
        (Subject::Activities, Dimension::Tag) => "a.tag",
        (Subject::Activities, Dimension::State) => {
            "CASE WHEN a.parked THEN 'parked' WHEN a.owner IS NOT NULL THEN 'running'
                  WHEN a.attempt > 1 THEN 'retrying' ELSE 'waiting' END"
        }
        (Subject::Activities, Dimension::Minute) => {
            return format!(
                "CASE WHEN a.owner IS NULL AND NOT a.parked AND a.ready_at >= {FIRST_TIME} THEN {} END",
                minute("a.ready_at")
            );
        }
        (Subject::Timers, Dimension::Minute) => return minute("m.visible_at"),
        (Subject::Activities, Dimension::Cause) => "a.cause",
        (_, Dimension::Name) => "i.name",
        (_, Dimension::Version) => "CASE WHEN l.seq IS NULL THEN i.version ELSE l.version END",
        (_, Dimension::Status) => {
            "CASE WHEN i.status = 'running' AND EXISTS (SELECT 1 FROM activities s
                WHERE s.instance = i.seq AND s.parked AND s.rejected IS NOT NULL) THEN 'suspended' ELSE i.status END"
        }
        (_, Dimension::Node) => "l.owner::text",
        (_, Dimension::Waits) => "l.waits",
        (_, Dimension::Cause) => {
            "coalesce(l.cause, i.cause, (SELECT s.cause FROM activities s
                WHERE s.instance = i.seq AND s.cause IS NOT NULL ORDER BY s.execution, s.call LIMIT 1))"
        }
        (_, Dimension::Code) => {
            "left(CASE i.status WHEN 'suspended' THEN l.cause WHEN 'running' THEN (SELECT s.cause FROM activities s
                WHERE s.instance = i.seq AND s.parked AND s.rejected IS NOT NULL
                ORDER BY s.execution, s.call LIMIT 1) END, 7)"
        }
        _ => "NULL::text",
    };
    column.to_owned()
}
