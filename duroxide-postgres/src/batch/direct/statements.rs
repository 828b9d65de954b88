//! The statements, one per kind of turn.
//!
//! A statement sees a snapshot from its beginning, and locks the rows that it changes one after another. A delivery in
//! between raises the count of stored messages (`stored`), so the row in `live` must still have the count of the row in the
//! snapshot (`was`). Therefore all that a statement reads of the messages and activities of an instance is complete.
//!
//! Each part of a statement has its values in its own arrays. `place` holds the number of each turn's instance, by the
//! position of the turn.

use std::sync::LazyLock;

use duroxide::provider::{InstanceStatus, NewActivity, NewInstance, Outgoing, Ready, Then, Turn};

use super::Direct;
use crate::connect::{Step, Value};
use crate::events::{self, EventsRow};
use crate::rollout::Members;
use crate::rows::{int, label, payload_bytes, stored_ready, text_map_json};

/// The turns whose instances have the preconditions: `l` is the row in `live`.
macro_rules! current {
    () => {
        "turn t JOIN live was ON was.id = t.id
         WHERE l.seq = was.seq AND l.stored = was.stored AND l.identity = t.identity AND l.owner = t.owner
             AND l.execution = t.execution AND l.last_event = t.after AND NOT l.suspended
             AND l.last_commit IS DISTINCT FROM t.commit"
    };
}
macro_rules! turns {
    () => {
        "turn AS MATERIALIZED (
            SELECT * FROM unnest(?::text[], ?::uuid[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[],
                ?::bigint[], ?::uuid[], ?::bigint[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::text[])
                WITH ORDINALITY AS t (id, identity, owner, execution, after, version, last, time, commit, timers, status, waits,
                    waits_since, waits_until, cause, n))"
    };
}
macro_rules! add_events {
    () => {
        "added_events AS (
            INSERT INTO events (instance, execution, last, first, heads, body)
            SELECT (SELECT seq FROM place)[e.n], e.execution, e.last, e.first, e.heads, e.body
            FROM unnest(?::integer[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::bytea[])
                AS e (n, execution, last, first, heads, body))"
    };
}
macro_rules! add_activities {
    () => {
        "added_activities AS (
            INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, headers, ready_at, owner,
                attempt, claim, crashes, alone, suspect, parked)
            SELECT (SELECT seq FROM place)[a.n], a.execution, a.call, a.scheduled, a.name, a.tag, a.detached, a.headers,
                a.ready_at, a.owner, 1, 0, 0, false, false, false
            FROM unnest(?::integer[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::text[], ?::boolean[],
                ?::text[], ?::bigint[], ?::bigint[])
                AS a (n, execution, call, scheduled, name, tag, detached, headers, ready_at, owner))"
    };
}
/// Timers and deadlines. `i` is the position among those of the turn.
macro_rules! add_timers {
    () => {
        "added_timers AS (
            INSERT INTO messages (instance, arrival, id, lane, execution, call, visible_at, arrived_at, format, data, payload,
                sent)
            SELECT (SELECT seq FROM place)[m.n], (SELECT stored FROM place)[m.n] + m.i, m.id, m.lane, m.execution, m.call,
                m.visible_at, m.arrived_at, m.format, m.data, m.payload, false
            FROM unnest(?::integer[], ?::integer[], ?::uuid[], ?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[],
                ?::bigint[], ?::integer[], ?::text[], ?::bytea[])
                AS m (n, i, id, lane, execution, call, visible_at, arrived_at, format, data, payload))"
    };
}
/// Activities whose outcomes the turns have received in memory, and messages that they have read.
macro_rules! consume {
    () => {
        "outcomes AS (
            DELETE FROM activities a USING unnest(?::integer[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[])
                AS o (n, owner, execution, call, attempt)
            WHERE a.instance = (SELECT seq FROM place)[o.n] AND a.execution = o.execution AND a.call = o.call
                AND a.owner = o.owner AND a.attempt = o.attempt
            RETURNING 1),
        read AS MATERIALIZED (SELECT * FROM unnest(?::integer[], ?::uuid[]) AS t (n, id)),
        consumed AS (
            DELETE FROM messages m USING read r
            WHERE m.instance = (SELECT seq FROM place)[r.n] AND m.id = r.id
            RETURNING m.id, m.sent)"
    };
}
/// The end of a statement: it fails unless the conditions hold and the deadline has not passed.
macro_rules! guard {
    ($conditions:literal) => {
        concat!(
            " SELECT 1 / (",
            $conditions,
            " AND extract(epoch FROM clock_timestamp()) * 1000000 < ?::bigint)::integer"
        )
    };
}

static CREATE: LazyLock<String> = LazyLock::new(|| {
    numbered(concat!(
        "WITH new AS MATERIALIZED (
            SELECT nextval('arrivals') AS seq, t.*
            FROM unnest(?::text[], ?::uuid[], ?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::uuid[],
                ?::bigint[], ?::text[], ?::text[], ?::uuid[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[], ?::bigint[])
                WITH ORDINALITY AS t (id, identity, name, wanted, version, owner, last, time, commit, timers, labels, parent,
                    parent_identity, parent_execution, parent_call, waits, waits_since, waits_until, n)),
        reserved AS (
            INSERT INTO instances (seq, id, identity, name, version, created_at, updated_at, labels, parent, parent_identity,
                parent_execution, parent_call)
            SELECT seq, id, identity, name, wanted, time, time, labels, parent, parent_identity, parent_execution, parent_call
            FROM new ON CONFLICT (id) DO NOTHING RETURNING 1),
        created AS (
            INSERT INTO live (seq, id, identity, name, version, execution, last_event, owner, claim, arrivals, stored,
                crashes, alone, suspect, suspended, updated_at, last_commit, waits, waits_since, waits_until)
            SELECT seq, id, identity, name, version, 1, last, owner, 0, 0, timers, 0, false, false, false, time, commit, waits,
                waits_since, waits_until
            FROM new),
        place AS (SELECT array_agg(seq ORDER BY n) AS seq, array_agg(0 ORDER BY n) AS stored FROM new), ",
        add_events!(),
        ", ",
        add_activities!(),
        ", ",
        add_timers!(),
        ", labelled AS (
            INSERT INTO labels (instance, name, value)
            SELECT (SELECT seq FROM place)[l.n], l.name, l.value
            FROM unnest(?::integer[], ?::text[], ?::text[]) AS l (n, name, value))",
        guard!(
            "(SELECT count(*) FROM reserved) = (SELECT count(*) FROM new)
             AND NOT EXISTS (SELECT FROM new JOIN dedup d ON d.id = new.identity)
             AND (SELECT array_agg(epoch ORDER BY epoch) FROM nodes WHERE NOT dead) = ?::bigint[]"
        )
    ))
});

static CONTINUE: LazyLock<String> = LazyLock::new(|| {
    numbered(concat!(
        "WITH ",
        turns!(),
        ", changed AS (
            UPDATE live l SET version = coalesce(t.version, l.version), last_event = t.last, stored = l.stored + t.timers,
                updated_at = t.time, last_commit = t.commit, crashes = 0, alone = false, suspect = false, lost_by = NULL,
                rejected = NULL, cause = NULL, waits = t.waits, waits_since = t.waits_since, waits_until = t.waits_until
            FROM ",
        current!(),
        " RETURNING t.n, l.seq, was.stored),
        place AS (SELECT array_agg(seq ORDER BY n) AS seq, array_agg(stored ORDER BY n) AS stored FROM changed), ",
        add_events!(),
        ", ",
        consume!(),
        ", cancelled AS (
            DELETE FROM messages m USING unnest(?::integer[], ?::bigint[], ?::bigint[]) AS c (n, execution, call)
            WHERE m.instance = (SELECT seq FROM place)[c.n] AND m.execution = c.execution AND m.execution IS NOT NULL
                AND m.call = c.call AND m.visible_at IS NOT NULL
            RETURNING m.id, m.sent), ",
        add_activities!(),
        ", ",
        add_timers!(),
        ", recorded AS (
            INSERT INTO dedup (id)
            SELECT id FROM consumed WHERE sent UNION ALL SELECT id FROM cancelled WHERE sent
            ON CONFLICT DO NOTHING)",
        guard!(
            "(SELECT count(*) FROM changed) = (SELECT count(*) FROM turn)
             AND (SELECT count(*) FROM outcomes) = ?::bigint AND (SELECT count(*) FROM consumed) = (SELECT count(*) FROM read)"
        )
    ))
});

static FINISH: LazyLock<String> = LazyLock::new(|| {
    numbered(concat!(
        "WITH ",
        turns!(),
        ", ended AS (DELETE FROM live l USING ",
        current!(),
        " RETURNING t.n, l.seq, l.version),
        place AS (SELECT array_agg(seq ORDER BY n) AS seq FROM ended),
        changed AS (
            UPDATE instances i SET version = coalesce(t.version, (SELECT array_agg(version ORDER BY n) FROM ended)[t.n]),
                status = t.status, execution = t.execution, last_event = t.last, updated_at = t.time, finished_at = t.time,
                last_commit = t.commit, cause = t.cause
            FROM turn t WHERE i.seq = (SELECT seq FROM place)[t.n]), ",
        add_events!(),
        ", ",
        consume!(),
        ", emptied AS (
            DELETE FROM messages m USING turn t
            WHERE m.instance = (SELECT seq FROM place)[t.n] AND m.id NOT IN (SELECT id FROM read)
            RETURNING m.id, m.sent),
        recorded AS (
            INSERT INTO dedup (id)
            SELECT id FROM consumed WHERE sent UNION ALL SELECT id FROM emptied WHERE sent
            ON CONFLICT DO NOTHING)",
        // No activity of the executions is left but those whose outcomes were received.
        guard!(
            "(SELECT count(*) FROM ended) = (SELECT count(*) FROM turn)
             AND (SELECT count(*) FROM outcomes) = ?::bigint AND (SELECT count(*) FROM consumed) = (SELECT count(*) FROM read)
             AND (SELECT count(*) FROM turn t JOIN activities a
                  ON a.instance = (SELECT seq FROM place)[t.n] AND a.execution = t.execution
                  WHERE NOT a.detached) = ?::bigint"
        )
    ))
});

/// Replaces each `?` by the number of the parameter.
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.enumerate().fold(first, |sql, (n, part)| format!("{sql}${}{part}", n + 1))
}

/// The values of a statement, in the order of its parameters.
#[derive(Default)]
struct Values<'a>(Vec<Value<'a>>);

/// A row that belongs to a turn, with the position of the turn.
type Placed<R> = (i32, R);

/// Returns the rows of all turns.
fn placed<'a, R>(turns: &[Direct<'a>], rows: impl Fn(&Direct<'a>) -> Vec<R>) -> Vec<Placed<R>> {
    let rows = |(n, direct)| rows(direct).into_iter().map(move |row| (n, row));
    (1..).zip(turns).flat_map(rows).collect()
}

impl<'a> Values<'a> {
    /// Adds an array with a value of each row.
    fn column<R, T>(&mut self, rows: &[R], value: impl Fn(&R) -> T) -> &mut Self
    where
        Vec<T>: tokio_postgres::types::ToSql + Sync + Send + 'a,
    {
        self.0.push(Box::new(rows.iter().map(value).collect::<Vec<T>>()));
        self
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.0.push(Box::new(number));
        self
    }

    fn turns(&mut self, turns: &[Direct<'a>]) {
        let status = |then: &Then| match then {
            Then::Finish { status } => Some(InstanceStatus::as_str(*status)),
            _ => None,
        };
        self.column(turns, |d| d.turn.execution.instance.as_str())
            .column(turns, |d| d.turn.execution.identity.0)
            .column(turns, |d| int(d.owner.0))
            .column(turns, |d| int(d.turn.execution.number))
            .column(turns, |d| int(d.turn.after.0))
            .column(turns, |d| version(d.turn))
            .column(turns, |d| int(d.turn.last_event().0))
            .column(turns, |d| d.turn.time.as_micros())
            .column(turns, |d| d.commit.0)
            .column(turns, |d| d.turn.messages.len() as i64)
            .column(turns, move |d| status(&d.turn.then));
        self.waits(turns).column(turns, |d| d.turn.cause.as_deref());
    }

    fn waits(&mut self, turns: &[Direct<'a>]) -> &mut Self {
        let waits = |d: &Direct<'a>| d.turn.waits.as_ref();
        self.column(turns, |d| Some(waits(d)?.text.as_str()))
            .column(turns, |d| Some(waits(d)?.since.as_micros()))
            .column(turns, |d| Some(waits(d)?.until?.as_micros()))
    }

    fn events(&mut self, turns: &[Direct<'a>]) {
        let rows: Vec<Placed<(u64, EventsRow)>> = placed(turns, |d| {
            let number = d.turn.execution.number;
            events::pack(&d.turn.events).into_iter().map(|row| (number, row)).collect()
        });
        self.column(&rows, |(n, _)| *n)
            .column(&rows, |(_, (number, _))| int(*number))
            .column(&rows, |(_, (_, row))| int(row.last))
            .column(&rows, |(_, (_, row))| int(row.first));
        let (heads, bodies): (Vec<String>, Vec<Vec<u8>>) =
            rows.into_iter().map(|(_, (_, row))| (row.heads, row.body)).unzip();
        self.0.push(Box::new(heads));
        self.0.push(Box::new(bodies));
    }

    fn activities(&mut self, turns: &[Direct<'a>]) {
        let rows: Vec<Placed<(Direct<'a>, &'a NewActivity)>> =
            placed(turns, |d| d.turn.activities.iter().map(|new| (*d, new)).collect());
        self.column(&rows, |(n, _)| *n)
            .column(&rows, |(_, (d, _))| int(d.turn.execution.number))
            .column(&rows, |(_, (_, new))| int(new.call.0))
            .column(&rows, |(_, (_, new))| int(new.scheduled.0))
            .column(&rows, |(_, (_, new))| new.name.as_str())
            .column(&rows, |(_, (_, new))| new.tag.as_deref())
            .column(&rows, |(_, (_, new))| new.detached)
            .column(&rows, |(_, (_, new))| text_map_json(&new.headers))
            .column(&rows, |(_, (d, _))| stored_ready(Ready::AtOnce(d.turn.time)))
            .column(&rows, |(_, (d, new))| new.eager.then_some(int(d.owner.0)));
    }

    fn timers(&mut self, turns: &[Direct<'a>]) {
        let rows: Vec<Placed<(i32, Direct<'a>, &'a Outgoing)>> =
            placed(turns, |d| (1..).zip(&d.turn.messages).map(|(i, out)| (i, *d, out)).collect());
        self.column(&rows, |(n, _)| *n)
            .column(&rows, |(_, (i, ..))| *i)
            .column(&rows, |(_, (.., out))| out.message.id.0)
            .column(&rows, |(_, (.., out))| out.message.lane as i16)
            .column(&rows, |(_, (.., out))| out.message.execution.map(int))
            .column(&rows, |(_, (.., out))| out.message.call.map(|call| int(call.0)))
            .column(&rows, |(_, (.., out))| out.message.visible_at.map(|time| time.as_micros()))
            .column(&rows, |(_, (_, d, _))| d.turn.time.as_micros())
            .column(&rows, |(_, (.., out))| i32::from(out.message.format))
            .column(&rows, |(_, (.., out))| out.message.data.as_str())
            .column(&rows, |(_, (.., out))| payload_bytes(&out.message.payload));
    }

    fn consumed(&mut self, turns: &[Direct<'a>]) {
        let outcomes = placed(turns, |d| d.turn.outcomes.iter().map(|outcome| (*d, *outcome)).collect());
        self.column(&outcomes, |(n, _)| *n)
            .column(&outcomes, |(_, (d, _))| int(d.owner.0))
            .column(&outcomes, |(_, (d, _))| int(d.turn.execution.number))
            .column(&outcomes, |(_, (_, (call, _)))| int(call.0))
            .column(&outcomes, |(_, (_, (_, attempt)))| i64::from(*attempt));
        let read = placed(turns, |d| d.turn.consumed.clone());
        self.column(&read, |(n, _)| *n).column(&read, |(_, id)| id.0);
    }

    fn step(self, sql: &'static LazyLock<String>) -> Step<'a> {
        Step { sql: sql.as_str(), values: self.0 }
    }
}

fn version(turn: &Turn) -> Option<String> {
    turn.version.as_ref().map(ToString::to_string)
}

fn outcomes(turns: &[Direct<'_>]) -> i64 {
    turns.iter().map(|direct| direct.turn.outcomes.len() as i64).sum()
}

/// Creates instances with their first turns, if their nodes are members and the members are still these.
pub(super) fn create<'a>(created: &[(&'a NewInstance, Direct<'a>)], members: &Members, deadline: i64) -> Step<'a> {
    let turns: Vec<Direct<'a>> = created.iter().map(|(_, direct)| *direct).collect();
    let mut values = Values::default();
    let parent = |new: &'a NewInstance| new.parent.as_ref();
    values
        .column(created, |(new, _)| new.instance.as_str())
        .column(created, |(new, _)| new.start.id.0)
        .column(created, |(new, _)| new.name.as_str())
        .column(created, |(new, _)| new.version.as_ref().map(ToString::to_string))
        .column(created, |(new, d)| version(d.turn).or(new.version.as_ref().map(ToString::to_string)))
        .column(created, |(_, d)| int(d.owner.0))
        .column(created, |(_, d)| int(d.turn.last_event().0))
        .column(created, |(_, d)| d.turn.time.as_micros())
        .column(created, |(_, d)| d.commit.0)
        .column(created, |(_, d)| d.turn.messages.len() as i64)
        .column(created, |(new, _)| text_map_json(&new.labels))
        .column(created, |(new, _)| Some(parent(new)?.execution.instance.as_str()))
        .column(created, |(new, _)| Some(parent(new)?.execution.identity.0))
        .column(created, |(new, _)| Some(int(parent(new)?.execution.number)))
        .column(created, |(new, _)| Some(int(parent(new)?.call.0)))
        .waits(&turns);
    values.events(&turns);
    values.activities(&turns);
    values.timers(&turns);
    let labels: Vec<Placed<(String, String)>> = (1..)
        .zip(created)
        .flat_map(|(n, (new, _))| new.labels.iter().map(move |(name, value)| (n, (label(name), label(value)))))
        .collect();
    values
        .column(&labels, |(n, _)| *n)
        .column(&labels, |(_, (name, _))| name.clone())
        .column(&labels, |(_, (_, value))| value.clone())
        .column(&members.epochs(), |epoch| int(epoch.0))
        .number(deadline);
    values.step(&CREATE)
}

/// Writes turns that continue their instances.
pub(super) fn go_on<'a>(turns: &[Direct<'a>], deadline: i64) -> Step<'a> {
    let mut values = Values::default();
    values.turns(turns);
    values.events(turns);
    values.consumed(turns);
    let cancelled = placed(turns, |d| d.turn.cancelled_messages.iter().map(|call| (*d, *call)).collect());
    values
        .column(&cancelled, |(n, _)| *n)
        .column(&cancelled, |(_, (d, _))| int(d.turn.execution.number))
        .column(&cancelled, |(_, (_, call))| int(call.0));
    values.activities(turns);
    values.timers(turns);
    values.number(outcomes(turns)).number(deadline);
    values.step(&CONTINUE)
}

/// Writes turns that finish their instances.
pub(super) fn finish<'a>(turns: &[Direct<'a>], deadline: i64) -> Step<'a> {
    let mut values = Values::default();
    values.turns(turns);
    values.events(turns);
    values.consumed(turns);
    values.number(outcomes(turns)).number(outcomes(turns)).number(deadline);
    values.step(&FINISH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_in_their_order() {
        assert_eq!(numbered("a = ? AND b = ?::text[] OR c"), "a = $1 AND b = $2::text[] OR c");
    }
}
