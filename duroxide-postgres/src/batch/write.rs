//! The statements that write the changes of a batch: one per table, with all rows of the batch.
//!
//! Stored messages are removed before new ones are added, so that a removal of all messages of an instance, or of an
//! execution, concerns only those that were stored before the batch. The model has done the same to the new ones.

use duroxide::id::{ActivityId, InstanceId};
use duroxide::provider::{FailedAttempt, InstanceStatus, Ready};

use super::effects::{AttemptRow, Effects};
use super::model::{Activity, DedupEntry, Instance, Model, NewMessage, Origin, Queueing, RowState};
use crate::connect::{Step, step};
use crate::rows::{int, payload_bytes, ready_by_message, stored_ready, text_map_json};
use crate::{attempts, audit};

macro_rules! recording {
    ($delete:literal) => {
        concat!(
            "WITH gone AS (",
            $delete,
            " RETURNING m.id, m.sent) INSERT INTO dedup (id) SELECT id FROM gone WHERE sent ON CONFLICT DO NOTHING"
        )
    };
}
const REMOVE_MESSAGES: &str = recording!(
    "DELETE FROM messages m USING unnest($1::bigint[], $2::uuid[]) AS t (instance, id)
     WHERE m.instance = t.instance AND m.id = t.id"
);
const EMPTY: &str = recording!("DELETE FROM messages m WHERE m.instance = ANY ($1::bigint[])");
const END_EXECUTIONS: &str = recording!(
    "DELETE FROM messages m USING unnest($1::bigint[], $2::bigint[]) AS t (instance, execution)
     WHERE m.instance = t.instance AND m.execution = t.execution AND m.execution IS NOT NULL"
);
const CANCEL_TIMERS: &str = recording!(
    "DELETE FROM messages m USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS t (instance, execution, call)
     WHERE m.instance = t.instance AND m.execution = t.execution AND m.execution IS NOT NULL AND m.call = t.call
         AND m.visible_at IS NOT NULL"
);
const ADD_MESSAGES: &str = "
    INSERT INTO messages (instance, id, arrival, number, lane, execution, call, visible_at, arrived_at, sent, format, data,
        payload)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::boolean[], $11::integer[], $12::text[], $13::bytea[])";

const REMOVE_ACTIVITIES: &str = "
    DELETE FROM activities a USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS t (instance, execution, call)
    WHERE a.instance = t.instance AND a.execution = t.execution AND a.call = t.call";
const ADD_ACTIVITIES: &str = "
    INSERT INTO activities (instance, execution, call, scheduled, name, tag, detached, headers, attempt, ready_at, owner,
        rejected, parked, cause, other_cause, claim, crashes, alone, suspect)
    SELECT t.*, 0, 0, false, false FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[],
        $6::text[], $7::boolean[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::boolean[],
        $14::text[], $15::text[]) AS t";
const CHANGE_ACTIVITIES: &str = "
    UPDATE activities a SET attempt = t.attempt, ready_at = t.ready_at, owner = t.owner, claim = t.claim,
        crashes = t.crashes, alone = t.alone, suspect = t.suspect, lost_by = t.lost_by, rejected = t.rejected,
        parked = t.parked, cause = t.cause, other_cause = t.other_cause
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::integer[], $9::boolean[], $10::boolean[], $11::uuid[], $12::text[], $13::boolean[], $14::text[], $15::text[])
        AS t (instance, execution, call, attempt, ready_at, owner, claim, crashes, alone, suspect, lost_by, rejected, parked,
              cause, other_cause)
    WHERE a.instance = t.instance AND a.execution = t.execution AND a.call = t.call";

pub(super) const ADD_EVENTS: &str = "
    INSERT INTO events (instance, execution, last, first, heads, body)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[])";

const ADD_LIVE: &str = "
    INSERT INTO live (seq, id, identity, name, version, execution, last_event, owner, claim, arrivals, stored, crashes,
        alone, suspect, lost_by, suspended, rejected, updated_at, last_commit, waits, waits_since, waits_until, cause)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::boolean[], $14::boolean[],
        $15::uuid[], $16::boolean[], $17::text[], $18::bigint[], $19::uuid[], $20::text[], $21::bigint[], $22::bigint[],
        $23::text[])";
const CHANGE_LIVE: &str = "
    UPDATE live l SET version = t.version, execution = t.execution, last_event = t.last_event, owner = t.owner,
        claim = t.claim, arrivals = t.arrivals, stored = t.stored, crashes = t.crashes, alone = t.alone,
        suspect = t.suspect, lost_by = t.lost_by, suspended = t.suspended, rejected = t.rejected,
        updated_at = t.updated_at, last_commit = t.last_commit, waits = t.waits, waits_since = t.waits_since,
        waits_until = t.waits_until, cause = t.cause
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::integer[], $10::boolean[], $11::boolean[], $12::uuid[], $13::boolean[], $14::text[],
        $15::bigint[], $16::uuid[], $17::text[], $18::bigint[], $19::bigint[], $20::text[])
        AS t (seq, version, execution, last_event, owner, claim, arrivals, stored, crashes, alone, suspect, lost_by,
              suspended, rejected, updated_at, last_commit, waits, waits_since, waits_until, cause)
    WHERE l.seq = t.seq";
const CHANGE_INSTANCES: &str = "
    UPDATE instances i SET version = t.version, status = t.status, execution = t.execution, last_event = t.last_event,
        updated_at = t.updated_at, finished_at = t.finished_at, last_commit = t.last_commit, cause = t.cause
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::uuid[],
        $9::text[])
        AS t (seq, version, status, execution, last_event, updated_at, finished_at, last_commit, cause)
    WHERE i.seq = t.seq";

/// Rebuilds the rows in `ready` of instances, whose old rows were deleted before: of running instances with messages, and of
/// paused ones.
pub(crate) const READY_REBUILD: &str = concat!(
    "INSERT INTO ready (seq, name, version, ready_at, crashes, suspect, rejected, paused)
     SELECT l.seq, l.name, coalesce(l.version, ''), min(",
    ready_by_message!(),
    "), l.crashes, l.suspect, l.rejected IS NOT NULL, false
     FROM live l JOIN messages m ON m.instance = l.seq
     WHERE l.seq = ANY ($1::bigint[]) AND l.owner IS NULL AND NOT l.suspended GROUP BY l.seq
     UNION ALL
     SELECT l.seq, l.name, coalesce(l.version, ''), l.paused_until, l.crashes, l.suspect, false, true
     FROM live l WHERE l.seq = ANY ($1::bigint[]) AND l.owner IS NULL AND l.suspended AND l.paused_until IS NOT NULL"
);
/// Sets and ends pauses.
const PAUSE: &str = "
    UPDATE live l SET paused = t.reason, paused_until = t.until
    FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS t (seq, reason, until) WHERE l.seq = t.seq";
const WAKE_STARTS: &str = "
    UPDATE messages m SET visible_at = t.visible_at, number = t.number
    FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[]) AS t (instance, id, visible_at, number)
    WHERE m.instance = t.instance AND m.id = t.id";
pub(crate) const UNREADY: &str = "DELETE FROM ready WHERE seq = ANY ($1::bigint[])";
const READY_LEAST: &str = "
    INSERT INTO ready (seq, name, version, ready_at, crashes, suspect, rejected)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::boolean[], $7::boolean[])
    ON CONFLICT (seq) DO UPDATE SET ready_at = least(ready.ready_at, excluded.ready_at)";

pub(crate) const ADD_CANCELLATIONS: &str = "
    INSERT INTO cancellations (epoch, instance, identity, execution, call)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[]) ON CONFLICT DO NOTHING";

/// Returns the statements of a batch; none if nothing changes.
pub(super) fn steps(model: &Model) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let unused: Vec<i64> = model.reserved.values().filter(|r| !r.is_used).map(|r| r.seq).collect();
    messages(model, &mut steps);
    activities(model, &mut steps);
    attempts(&model.effects.attempts, &mut steps);
    instances(model, &mut steps);
    pauses(&model.effects, &mut steps);
    ready(model, &mut steps);
    others(&model.effects, &mut steps);
    if !steps.is_empty() && !unused.is_empty() {
        steps.push(step!("DELETE FROM instances WHERE seq = ANY ($1::bigint[])", unused));
    }
    steps
}

/// Collects a column of the rows.
fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn messages<'m>(model: &'m Model, steps: &mut Vec<Step<'m>>) {
    let effects = &model.effects;
    let removed = &effects.removed_messages;
    if !removed.is_empty() {
        steps.push(step!(REMOVE_MESSAGES, column(removed, |(seq, _)| *seq), column(removed, |(_, id)| id.0)));
    }
    if !effects.emptied.is_empty() {
        steps.push(step!(EMPTY, &effects.emptied));
    }
    let ended = &effects.ended;
    if !ended.is_empty() {
        steps.push(step!(END_EXECUTIONS, column(ended, |(seq, _)| *seq), column(ended, |(_, number)| int(*number))));
    }
    let timers = &effects.cancelled_timers;
    if !timers.is_empty() {
        steps.push(step!(
            CANCEL_TIMERS,
            column(timers, |(seq, ..)| *seq),
            column(timers, |(_, number, _)| int(*number)),
            column(timers, |(.., call)| int(call.0)),
        ));
    }
    let new =
        |instance: &'m Instance| instance.new_messages.iter().map(move |(arrival, m)| (instance.seq, *arrival, m));
    let rows: Vec<(i64, i64, &NewMessage)> = model.instances.values().flat_map(new).collect();
    if !rows.is_empty() {
        steps.push(step!(
            ADD_MESSAGES,
            column(&rows, |(seq, ..)| *seq),
            column(&rows, |(.., m)| m.row.id.0),
            column(&rows, |(_, arrival, _)| *arrival),
            column(&rows, |(.., m)| m.row.number.map(int)),
            column(&rows, |(.., m)| m.row.lane as i16),
            column(&rows, |(.., m)| m.row.execution.map(int)),
            column(&rows, |(.., m)| m.row.call.map(|call| int(call.0))),
            column(&rows, |(.., m)| m.row.visible_at.map(|time| time.as_micros())),
            column(&rows, |(.., m)| m.time.as_micros()),
            column(&rows, |(.., m)| m.sent),
            column(&rows, |(.., m)| i32::from(m.row.format)),
            column(&rows, |(.., m)| m.row.data.as_str()),
            column(&rows, |(.., m)| payload_bytes(&m.row.payload)),
        ));
    }
}

fn activities<'m>(model: &'m Model, steps: &mut Vec<Step<'m>>) {
    let gone = &model.effects.removed_activities;
    if !gone.is_empty() {
        steps.push(step!(
            REMOVE_ACTIVITIES,
            column(gone, |(seq, ..)| *seq),
            column(gone, |(_, number, _)| int(*number)),
            column(gone, |(.., call)| int(call.0)),
        ));
    }
    let in_state = |state| move |(_, activity): &(&ActivityId, &Activity)| activity.state == state;
    let new: Vec<_> = model.activities.iter().filter(in_state(RowState::New)).collect();
    if !new.is_empty() {
        steps.push(step!(
            ADD_ACTIVITIES,
            column(&new, |(_, a)| a.seq),
            column(&new, |(id, _)| int(id.execution.number)),
            column(&new, |(id, _)| int(id.call.0)),
            column(&new, |(_, a)| int(a.scheduled.0)),
            column(&new, |(_, a)| a.name.as_str()),
            column(&new, |(_, a)| a.tag.as_deref()),
            column(&new, |(_, a)| a.detached),
            column(&new, |(_, a)| text_map_json(&a.headers)),
            column(&new, |(_, a)| i64::from(a.attempt)),
            column(&new, |(_, a)| a.ready_at),
            column(&new, |(_, a)| a.owner.map(|owner| int(owner.0))),
            column(&new, |(_, a)| a.rejected.as_deref()),
            column(&new, |(_, a)| a.parked),
            column(&new, |(_, a)| a.cause.as_deref()),
            column(&new, |(_, a)| a.other_cause.as_deref()),
        ));
    }
    let changed: Vec<_> = model.activities.iter().filter(in_state(RowState::Changed)).collect();
    if !changed.is_empty() {
        steps.push(step!(
            CHANGE_ACTIVITIES,
            column(&changed, |(_, a)| a.seq),
            column(&changed, |(id, _)| int(id.execution.number)),
            column(&changed, |(id, _)| int(id.call.0)),
            column(&changed, |(_, a)| i64::from(a.attempt)),
            column(&changed, |(_, a)| a.ready_at),
            column(&changed, |(_, a)| a.owner.map(|owner| int(owner.0))),
            column(&changed, |(_, a)| int(a.claim)),
            column(&changed, |(_, a)| a.crashes.crashes),
            column(&changed, |(_, a)| a.crashes.alone),
            column(&changed, |(_, a)| a.crashes.suspect),
            column(&changed, |(_, a)| a.crashes.lost_by.map(|node| node.0)),
            column(&changed, |(_, a)| a.rejected.as_deref()),
            column(&changed, |(_, a)| a.parked),
            column(&changed, |(_, a)| a.cause.as_deref()),
            column(&changed, |(_, a)| a.other_cause.as_deref()),
        ));
    }
}

fn attempts<'m>(rows: &'m [AttemptRow], steps: &mut Vec<Step<'m>>) {
    if rows.is_empty() {
        return;
    }
    steps.push(step!(
        attempts::ADD,
        column(rows, |row| row.seq),
        column(rows, |row| int(row.record.execution)),
        column(rows, |row| int(row.record.call.0)),
        column(rows, |row| i64::from(row.record.attempt)),
        column(rows, |row| int(row.record.node.0)),
        column(rows, |row| row.record.failed.began.as_micros()),
        column(rows, |row| row.record.failed.ended.as_micros()),
        column(rows, |row| row.record.next_at.as_micros()),
        // A text cannot hold the character zero.
        column(rows, |row| row.record.failed.error.replace('\0', "\u{fffd}")),
    ));
    let replaced: Vec<_> =
        rows.iter().filter_map(|row| Some((row, FailedAttempt::replaced_by(row.record.attempt)?))).collect();
    if !replaced.is_empty() {
        steps.push(step!(
            attempts::REMOVE,
            column(&replaced, |(row, _)| row.seq),
            column(&replaced, |(row, _)| int(row.record.execution)),
            column(&replaced, |(row, _)| int(row.record.call.0)),
            column(&replaced, |(_, attempt)| i64::from(*attempt)),
        ));
    }
}

fn instances<'m>(model: &'m Model, steps: &mut Vec<Step<'m>>) {
    let events = &model.effects.events;
    if !events.is_empty() {
        steps.push(step!(
            ADD_EVENTS,
            column(events, |(seq, ..)| *seq),
            column(events, |(_, number, _)| int(*number)),
            column(events, |(.., row)| int(row.last)),
            column(events, |(.., row)| int(row.first)),
            column(events, |(.., row)| row.heads.as_str()),
            column(events, |(.., row)| row.body.as_slice()),
        ));
    }
    let all: Vec<(&InstanceId, &Instance)> = model.instances.iter().filter(|(_, i)| i.is_changed).collect();
    let is_finished = |i: &Instance| i.status.is_finished();
    let new: Vec<_> = all.iter().filter(|(_, i)| i.origin == Origin::New && !is_finished(i)).copied().collect();
    if !new.is_empty() {
        steps.push(step!(
            ADD_LIVE,
            column(&new, |(_, i)| i.seq),
            column(&new, |(id, _)| id.as_str()),
            column(&new, |(_, i)| i.identity.0),
            column(&new, |(_, i)| i.name.as_str()),
            column(&new, |(_, i)| i.version.as_deref()),
            column(&new, |(_, i)| int(i.execution)),
            column(&new, |(_, i)| int(i.last_event.0)),
            column(&new, |(_, i)| i.owner.map(|owner| int(owner.0))),
            column(&new, |(_, i)| int(i.claim)),
            column(&new, |(_, i)| int(i.arrivals)),
            column(&new, |(_, i)| i.stored),
            column(&new, |(_, i)| i.crashes.crashes),
            column(&new, |(_, i)| i.crashes.alone),
            column(&new, |(_, i)| i.crashes.suspect),
            column(&new, |(_, i)| i.crashes.lost_by.map(|node| node.0)),
            column(&new, |(_, i)| i.status == InstanceStatus::Suspended),
            column(&new, |(_, i)| i.suspension.as_deref()),
            column(&new, |(_, i)| i.updated_at.as_micros()),
            column(&new, |(_, i)| i.last_commit.map(|commit| commit.0)),
            column(&new, |(_, i)| Some(i.waits.as_ref()?.text.as_str())),
            column(&new, |(_, i)| Some(i.waits.as_ref()?.since.as_micros())),
            column(&new, |(_, i)| Some(i.waits.as_ref()?.until?.as_micros())),
            column(&new, |(_, i)| i.cause.as_deref()),
        ));
    }
    let was_live = |i: &Instance| matches!(i.origin, Origin::Live(_));
    let changed: Vec<_> = all.iter().filter(|(_, i)| was_live(i) && !is_finished(i)).copied().collect();
    if !changed.is_empty() {
        steps.push(step!(
            CHANGE_LIVE,
            column(&changed, |(_, i)| i.seq),
            column(&changed, |(_, i)| i.version.as_deref()),
            column(&changed, |(_, i)| int(i.execution)),
            column(&changed, |(_, i)| int(i.last_event.0)),
            column(&changed, |(_, i)| i.owner.map(|owner| int(owner.0))),
            column(&changed, |(_, i)| int(i.claim)),
            column(&changed, |(_, i)| int(i.arrivals)),
            column(&changed, |(_, i)| i.stored),
            column(&changed, |(_, i)| i.crashes.crashes),
            column(&changed, |(_, i)| i.crashes.alone),
            column(&changed, |(_, i)| i.crashes.suspect),
            column(&changed, |(_, i)| i.crashes.lost_by.map(|node| node.0)),
            column(&changed, |(_, i)| i.status == InstanceStatus::Suspended),
            column(&changed, |(_, i)| i.suspension.as_deref()),
            column(&changed, |(_, i)| i.updated_at.as_micros()),
            column(&changed, |(_, i)| i.last_commit.map(|commit| commit.0)),
            column(&changed, |(_, i)| Some(i.waits.as_ref()?.text.as_str())),
            column(&changed, |(_, i)| Some(i.waits.as_ref()?.since.as_micros())),
            column(&changed, |(_, i)| Some(i.waits.as_ref()?.until?.as_micros())),
            column(&changed, |(_, i)| i.cause.as_deref()),
        ));
    }
    let ended: Vec<i64> = all.iter().filter(|(_, i)| was_live(i) && is_finished(i)).map(|(_, i)| i.seq).collect();
    if !ended.is_empty() {
        steps.push(step!("DELETE FROM live WHERE seq = ANY ($1::bigint[])", ended));
    }
    let has_changed_cold = |i: &Instance| is_finished(i) || !matches!(i.origin, Origin::Live(was) if was == i.status);
    let is_written_so = |i: &Instance| i.origin == Origin::New && i.status == InstanceStatus::Running;
    let cold: Vec<_> = all.iter().filter(|(_, i)| has_changed_cold(i) && !is_written_so(i)).copied().collect();
    if !cold.is_empty() {
        steps.push(step!(
            CHANGE_INSTANCES,
            column(&cold, |(_, i)| i.seq),
            column(&cold, |(_, i)| i.version.as_deref()),
            column(&cold, |(_, i)| i.status.as_str()),
            column(&cold, |(_, i)| int(i.execution)),
            column(&cold, |(_, i)| int(i.last_event.0)),
            column(&cold, |(_, i)| i.updated_at.as_micros()),
            column(&cold, |(_, i)| i.finished_at.map(|time| time.as_micros())),
            column(&cold, |(_, i)| i.last_commit.map(|commit| commit.0)),
            // Until then, it is in the other half.
            column(&cold, |(_, i)| i.cause.as_deref().filter(|_| is_finished(i))),
        ));
    }
}

fn pauses<'m>(effects: &'m Effects, steps: &mut Vec<Step<'m>>) {
    let pauses: Vec<_> = effects.pauses.iter().collect();
    if !pauses.is_empty() {
        steps.push(step!(
            PAUSE,
            column(&pauses, |(seq, _)| **seq),
            column(&pauses, |(_, pause)| pause.as_ref().map(|pause| pause.reason.as_str())),
            column(&pauses, |(_, pause)| pause.as_ref().and_then(|pause| Some(stored_ready(Ready::At(pause.until?))))),
        ));
    }
    let woken: Vec<_> = effects.woken_starts.iter().collect();
    if !woken.is_empty() {
        steps.push(step!(
            WAKE_STARTS,
            column(&woken, |(seq, _)| **seq),
            column(&woken, |(_, woken)| woken.id.0),
            column(&woken, |(_, woken)| woken.time.as_micros()),
            column(&woken, |(_, woken)| woken.number.map(int)),
        ));
    }
}

fn ready<'m>(model: &'m Model, steps: &mut Vec<Step<'m>>) {
    let rebuilt: Vec<i64> =
        model.instances.values().filter(|i| i.queueing == Queueing::Rebuild).map(|instance| instance.seq).collect();
    if !rebuilt.is_empty() {
        steps.push(step!(UNREADY, rebuilt.clone()));
        steps.push(step!(READY_REBUILD, rebuilt));
    }
    let least = model.instances.values().filter_map(|instance| match instance.queueing {
        Queueing::Least(at) if instance.waits() => Some((at, instance)),
        _ => None,
    });
    let least: Vec<(i64, &Instance)> = least.collect();
    if !least.is_empty() {
        steps.push(step!(
            READY_LEAST,
            column(&least, |(_, i)| i.seq),
            column(&least, |(_, i)| i.name.as_str()),
            column(&least, |(_, i)| i.version.as_deref().unwrap_or_default()),
            column(&least, |(at, _)| *at),
            column(&least, |(_, i)| i.crashes.crashes),
            column(&least, |(_, i)| i.crashes.suspect),
            column(&least, |(_, i)| i.suspension.is_some()),
        ));
    }
}

fn others<'m>(effects: &'m Effects, steps: &mut Vec<Step<'m>>) {
    let continued = &effects.continued;
    if !continued.is_empty() {
        steps.push(step!(
            "INSERT INTO executions (instance, number, continued_at)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])",
            column(continued, |(seq, ..)| *seq),
            column(continued, |(_, number, _)| int(*number)),
            column(continued, |(.., time)| time.as_micros()),
        ));
    }
    let labels = &effects.labels;
    if !labels.is_empty() {
        steps.push(step!(
            "INSERT INTO labels (instance, name, value) SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])",
            column(labels, |(seq, ..)| *seq),
            column(labels, |(_, name, _)| name.as_str()),
            column(labels, |(.., value)| value.as_str()),
        ));
    }
    let mail: Vec<_> = effects.mail.iter().collect();
    if !mail.is_empty() {
        steps.push(step!(
            "INSERT INTO mail (owner, instance, upto) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
             ON CONFLICT (owner, instance) DO UPDATE SET upto = greatest(mail.upto, excluded.upto)",
            column(&mail, |((owner, _), _)| int(owner.0)),
            column(&mail, |((_, seq), _)| *seq),
            column(&mail, |(_, upto)| int(**upto)),
        ));
    }
    steps.extend(audit::add(&effects.audit.iter().collect::<Vec<_>>()));
    steps.extend(cancellations(&effects.cancellations));
    let forgotten = &effects.forgotten;
    if !forgotten.is_empty() {
        steps.push(step!(
            "DELETE FROM rejections x USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS t (instance, execution, call)
             WHERE x.instance = t.instance AND x.execution = t.execution AND x.call = t.call",
            column(forgotten, |(seq, ..)| *seq),
            column(forgotten, |(_, number, _)| int(*number)),
            column(forgotten, |(.., call)| int(call.0)),
        ));
    }
    let rejections = &effects.rejections;
    if !rejections.is_empty() {
        steps.push(step!(
            "INSERT INTO rejections (instance, execution, call, build)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) ON CONFLICT DO NOTHING",
            column(rejections, |(seq, ..)| *seq),
            column(rejections, |(_, number, ..)| int(*number)),
            column(rejections, |(_, _, call, _)| int(call.0)),
            column(rejections, |(.., build)| build.as_str()),
        ));
    }
    let dedup = &effects.dedup;
    if !dedup.is_empty() {
        let refused = |entry: &DedupEntry| match entry {
            DedupEntry::Done => None,
            DedupEntry::Refused(found) => Some(found.map_or("none", InstanceStatus::as_str)),
        };
        steps.push(step!(
            "INSERT INTO dedup (id, refused) SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING",
            column(dedup, |(id, _)| *id),
            column(dedup, |(_, entry)| refused(entry)),
        ));
    }
}

/// Returns the statement that notes cancellations for the nodes that run the activities.
pub(crate) fn cancellations(rows: &[(duroxide::id::Epoch, ActivityId)]) -> Option<Step<'_>> {
    (!rows.is_empty()).then(|| {
        step!(
            ADD_CANCELLATIONS,
            column(rows, |(epoch, _)| int(epoch.0)),
            column(rows, |(_, id)| id.execution.instance.as_str()),
            column(rows, |(_, id)| id.execution.identity.0),
            column(rows, |(_, id)| int(id.execution.number)),
            column(rows, |(_, id)| int(id.call.0)),
        )
    })
}
