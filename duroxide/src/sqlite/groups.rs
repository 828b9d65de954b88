//! Counts instances, activities and timers.
//!
//! Instances are counted window by window, as lists are searched. There are few activities and timers, so these are
//! counted by one statement.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, params_from_iter};

use super::admin::unless_interrupted;
use super::admin_reader::Deadline;
use super::rows::{AT_ONCE, FIRST_TIME, natural};
use super::search::{Order, Query, Search, condition};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::provider::{Dimension, Filter, Group, Grouping, Groups, InstanceStatus, Subject};

/// The status of an instance. One with a parked activity is shown as suspended.
const SHOWN_STATUS: &str = "iif(i.status = 'running' AND EXISTS (
    SELECT 1 FROM duroxide_activities s WHERE s.instance = i.seq AND s.parked IS NOT NULL), 'suspended', i.status)";

/// The cause of an instance, or else that of its first activity that has one. An instance that has completed can only have
/// detached ones.
const SHOWN_CAUSE: &str = "coalesce(i.cause, (SELECT s.cause FROM duroxide_activities s
    WHERE s.instance = i.seq AND s.cause IS NOT NULL ORDER BY s.execution, s.call LIMIT 1))";

/// The code of the suspension, at the beginning of its cause.
const CODE: &str = "substr(CASE i.status WHEN 'suspended' THEN i.cause WHEN 'running' THEN (SELECT s.cause
    FROM duroxide_activities s WHERE s.instance = i.seq AND s.parked IS NOT NULL ORDER BY s.execution, s.call LIMIT 1)
    END, 1, 7)";

/// The columns of a count, the tables that they need beside an instance `i`, and the values of these.
struct Columns {
    list: String,
    joined: String,
    values: Vec<Value>,
    /// The numbers of the columns of the key; empty if there are none.
    group_by: String,
}

pub(super) fn groups(
    sql: &Sql,
    of: Subject,
    filter: &Filter,
    by: &[Dimension],
    deadline: Deadline,
) -> rusqlite::Result<Groups> {
    let mut grouping = Grouping::default();
    let columns = columns(of, by);
    let parts = match of {
        Subject::Instances => {
            let complete = instances(sql, filter, by, &columns, &mut grouping, deadline)?;
            return Ok(grouping.finish(complete));
        }
        Subject::Activities => {
            let from = "duroxide_activities a CROSS JOIN duroxide_instances i ON i.seq = a.instance";
            at_once(sql, from, "TRUE", filter, by, &columns)?
        }
        Subject::Timers => {
            let from = "duroxide_messages m CROSS JOIN duroxide_instances i ON i.seq = m.instance";
            let waiting = "m.visible_at IS NOT NULL AND i.finished_at IS NULL";
            at_once(sql, from, waiting, filter, by, &columns)?
        }
    };
    let complete = parts.is_some();
    add(&mut grouping, parts.unwrap_or_default());
    Ok(grouping.finish(complete))
}

/// Counts instances. Returns true if all were counted.
fn instances(
    sql: &Sql,
    filter: &Filter,
    by: &[Dimension],
    columns: &Columns,
    grouping: &mut Grouping,
    deadline: Deadline,
) -> rusqlite::Result<bool> {
    // The completed instances are the majority. By status alone, they need not be read.
    let completed = is_by_status_alone(filter, by) && {
        let Some(count) = unless_interrupted(completed(sql))? else { return Ok(false) };
        if count > 0 {
            let key = by.iter().map(|_| Some(InstanceStatus::Completed.to_string())).collect();
            grouping.add(Group { key, count, oldest: None, next: None });
        }
        true
    };
    let others = InstanceStatus::ALL.into_iter().filter(|status| *status != InstanceStatus::Completed);
    let rest = Filter { statuses: others.collect(), ..filter.clone() };
    let mut search = Search::new(sql, if completed { &rest } else { filter }, Order::NewestFirst, i64::MIN..i64::MAX)?;
    let query = Query {
        columns: columns.list.clone().into(),
        joined: columns.joined.clone().into(),
        joined_params: columns.values.clone(),
        condition: String::new(),
        params: Vec::new(),
        group_by: Some(columns.group_by.clone()),
        then_by: "",
        limit: usize::MAX,
    };
    let queries = [query];
    loop {
        let Some(found) = unless_interrupted(search.next(&queries, |row| group(row, by)))? else { return Ok(false) };
        let Some((window, parts)) = found else { return Ok(true) };
        add(grouping, parts);
        if window.is_last || deadline.has_passed() {
            return Ok(window.is_last);
        }
    }
}

/// Returns true if all instances are counted by nothing but their status.
fn is_by_status_alone(filter: &Filter, by: &[Dimension]) -> bool {
    let Filter { statuses, .. } = filter;
    let has_all = statuses.is_empty() || InstanceStatus::ALL.iter().all(|status| statuses.contains(status));
    has_all
        && by.iter().all(|dimension| *dimension == Dimension::Status)
        && *filter == (Filter { statuses: statuses.clone(), ..Filter::default() })
}

/// Counts the completed instances: all except those in the indexes of the others.
fn completed(sql: &Sql) -> rusqlite::Result<u64> {
    let count = "SELECT (SELECT count(*) FROM duroxide_instances)
        - (SELECT count(*) FROM duroxide_instances INDEXED BY duroxide_instances_live
           WHERE owner IS NULL AND status <> 'completed')
        - (SELECT count(*) FROM duroxide_instances INDEXED BY duroxide_instances_owner WHERE owner IS NOT NULL)";
    let count = sql.row(count, [], |row| row.get::<_, i64>(0))?;
    Ok(count.unwrap_or(0).max(0).unsigned_abs())
}

/// Counts by one statement. Returns `None` if it was interrupted.
fn at_once(
    sql: &Sql,
    from: &str,
    waiting: &str,
    filter: &Filter,
    by: &[Dimension],
    columns: &Columns,
) -> rusqlite::Result<Option<Vec<Group>>> {
    let (matches, filtered) = condition(filter);
    let Columns { list, joined, values, group_by } = columns;
    let group_by = if group_by.is_empty() { String::new() } else { format!("GROUP BY {group_by}") };
    // One more than is kept, so that the excess is noticed.
    let count =
        format!("SELECT {list} FROM {from} {joined} WHERE {waiting} {matches} {group_by} LIMIT {}", Groups::LIMIT + 1);
    let params = params_from_iter(values.iter().cloned().chain(filtered));
    unless_interrupted(sql.rows(&count, params, |row| group(row, by)))
}

/// Adds partial counts. Without a dimension, SQL counts nothing as one group of zero.
fn add(grouping: &mut Grouping, parts: Vec<Group>) {
    parts.into_iter().filter(|part| part.count > 0).for_each(|part| grouping.add(part));
}

/// Reads the count, its times, and its key.
fn group(row: &Row<'_>, by: &[Dimension]) -> rusqlite::Result<Group> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    let value = |(n, dimension): (usize, &Dimension)| {
        Ok(match (row.get_ref(n)?, dimension) {
            (ValueRef::Integer(due), Dimension::Minute) => Some(Dimension::minute(Timestamp::from_micros(due))),
            (ValueRef::Integer(number), _) => Some(number.to_string()),
            (ValueRef::Text(text), _) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
    };
    let key = by.iter().enumerate().map(value).collect::<rusqlite::Result<_>>()?;
    let after = by.len();
    Ok(Group { key, count: natural(row, after)?, oldest: time(after + 1)?, next: time(after + 2)? })
}

fn columns(of: Subject, by: &[Dimension]) -> Columns {
    let mut columns =
        Columns { list: String::new(), joined: String::new(), values: Vec::new(), group_by: String::new() };
    for (n, dimension) in by.iter().enumerate() {
        let column = match dimension {
            Dimension::Label(name) => {
                columns.joined.push_str(&format!(
                    " LEFT JOIN json_each(CASE WHEN json_valid(i.labels) THEN i.labels END) label{n} ON label{n}.key = ?"
                ));
                columns.values.push(name.clone().into());
                format!("label{n}.value")
            }
            dimension => column(of, dimension),
        };
        columns.list.push_str(&format!("{column}, "));
        columns.group_by.push_str(&format!("{}{}", if n == 0 { "" } else { ", " }, n + 1));
    }
    let times = match of {
        Subject::Instances => format!(
            "min(CASE WHEN i.finished_at IS NULL THEN i.created_at END),
             min(CASE WHEN i.ready_at < {FIRST_TIME} THEN i.ready_at + {AT_ONCE} ELSE i.ready_at END)"
        ),
        Subject::Activities => format!(
            "min(CASE WHEN a.owner IS NULL AND a.parked IS NULL AND a.visible_at < {FIRST_TIME}
                 THEN a.visible_at + {AT_ONCE} END),
             min(CASE WHEN a.owner IS NULL AND a.parked IS NULL AND a.visible_at >= {FIRST_TIME} THEN a.visible_at END)"
        ),
        Subject::Timers => "NULL, min(m.visible_at)".to_owned(),
    };
    columns.list.push_str(&format!("count(*), {times}"));
    columns
}

/// Returns the expression of a dimension that is not a label. Activities are `a`, timers `m`, and their instances `i`.
fn column(of: Subject, dimension: &Dimension) -> String {
    let minute = |time: &str| format!("max({time}, 0) / 60000000 * 60000000");
    match (of, dimension) {
        (Subject::Activities, Dimension::Name) => "a.name".to_owned(),
        (Subject::Activities, Dimension::Node) => "a.owner".to_owned(),
        (Subject::Activities, Dimension::Tag) => "a.tag".to_owned(),
        (Subject::Activities, Dimension::State) => "CASE WHEN a.parked IS NOT NULL THEN 'parked'
            WHEN a.owner IS NOT NULL THEN 'running' WHEN a.attempt > 1 THEN 'retrying' ELSE 'waiting' END"
            .to_owned(),
        (Subject::Activities, Dimension::Minute) => format!(
            "CASE WHEN a.owner IS NULL AND a.parked IS NULL AND a.visible_at >= {FIRST_TIME} THEN {} END",
            minute("a.visible_at")
        ),
        (Subject::Timers, Dimension::Minute) => minute("m.visible_at"),
        (Subject::Activities, Dimension::Cause) => "a.cause".to_owned(),
        (_, Dimension::Name) => "i.name".to_owned(),
        (_, Dimension::Version) => "i.version".to_owned(),
        (_, Dimension::Status) => SHOWN_STATUS.to_owned(),
        (_, Dimension::Node) => "i.owner".to_owned(),
        (_, Dimension::Waits) => "i.waits".to_owned(),
        (_, Dimension::Cause) => SHOWN_CAUSE.to_owned(),
        (_, Dimension::Code) => CODE.to_owned(),
        _ => "NULL".to_owned(),
    }
}
