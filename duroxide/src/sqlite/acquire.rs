//! Handing out work. What there is is read without a write lock; only what can be taken goes through the writer.

use super::claim::Claims;
use super::rows::{EVENT, MESSAGE, epoch, event, format, instance_id, int, message, natural, text_map, time, version};
use super::sql::Sql;
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{ActivityId, CallId, EventId, ExecutionId, InstanceId};
use crate::provider::{
    Acquired, AcquiredActivity, AcquiredInstance, Cursor, DAMAGED, EventRow, Lease, MessageRow, Want, in_order,
};

/// How many delayed messages of other nodes' instances are passed over in search of the next own one.
const LOOK_AHEAD: u32 = 256;

/// What was found: what the lease has already, and what it may take.
pub(super) struct Found {
    pub(super) acquired: Acquired,
    pub(super) claims: Claims,
}

pub(super) fn look(sql: &Sql, lease: &Lease, want: &Want) -> rusqlite::Result<Found> {
    let mut acquired = Acquired { cursor: want.cursor, ..Acquired::default() };
    let mut claims = Claims::new(*lease, want.now);
    let epoch = int(lease.epoch.0);
    let find = "SELECT c.arrival FROM duroxide_counters c, duroxide_nodes n WHERE n.epoch = ?1";
    let Some(arrival) = sql.row(find, [epoch], |row| row.get(0))? else {
        return Ok(Found { acquired, claims });
    };
    acquired.messages = hand_on(sql, epoch, want)?;
    acquired.cursor = Cursor { arrival, time: want.now };
    for id in &want.load {
        let find = "SELECT seq FROM duroxide_instances WHERE id = ?1 AND owner = ?2";
        if let Some(seq) = sql.row(find, (id.as_str(), epoch), |row| row.get(0))? {
            acquired.instances.extend(instance(sql, seq, epoch, want.now)?);
        }
    }
    if !(want.alone && claims.look_for_quarantined(sql, want)?) {
        acquired.next_due = claims.look(sql, want)?;
    }
    acquired.next_due = acquired.next_due.into_iter().chain(next_timer(sql, epoch, want.now)?).min();
    Ok(Found { acquired, claims })
}

/// The messages of owned instances that came since the last time.
fn hand_on(sql: &Sql, epoch: i64, want: &Want) -> rusqlite::Result<Vec<(InstanceId, MessageRow)>> {
    // CROSS JOIN keeps the order of the loops: what is new is little, what is owned may be much.
    let from = "FROM duroxide_messages m CROSS JOIN duroxide_instances i ON i.seq = m.instance
                LEFT JOIN duroxide_payloads p ON p.id = m.payload_ref";
    let arrived = format!(
        "SELECT {MESSAGE}, i.id {from}
         WHERE m.arrival > ?1 AND (m.visible_at IS NULL OR m.visible_at <= ?2) AND i.owner = ?3"
    );
    let became_visible = format!(
        "SELECT {MESSAGE}, i.id {from}
         WHERE m.visible_at > ?4 AND m.visible_at <= ?2 AND m.arrival <= ?1 AND i.owner = ?3"
    );
    let read = |row: &rusqlite::Row<'_>| {
        let (place, message) = message(row)?;
        Ok((place, (instance_id(row, 14)?, message)))
    };
    let Cursor { arrival, time } = want.cursor;
    let (now, since) = (want.now.as_micros(), time.as_micros());
    let mut found = sql.rows(&arrived, (arrival, now, epoch), read)?;
    found.extend(sql.rows(&became_visible, (arrival, now, epoch, since), read)?);
    Ok(in_order(found))
}

/// When the next delayed message of an owned instance becomes visible; or a time at which to look again.
fn next_timer(sql: &Sql, owner: i64, now: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    let find =
        "SELECT m.visible_at, i.owner FROM duroxide_messages m CROSS JOIN duroxide_instances i ON i.seq = m.instance
        WHERE m.visible_at > ?1 ORDER BY m.visible_at LIMIT ?2";
    let read = |row: &rusqlite::Row<'_>| Ok((time(row, 0)?, epoch(row, 1)?));
    let coming = sql.rows(find, (now.as_micros(), LOOK_AHEAD), read)?;
    let own = coming.iter().find(|(_, epoch)| epoch.is_some_and(|epoch| int(epoch.0) == owner));
    let last = || coming.last().filter(|_| coming.len() == LOOK_AHEAD as usize);
    Ok(own.or_else(last).map(|(due, _)| *due))
}

/// An instance, if the epoch owns it, with its due messages.
pub(super) fn instance(sql: &Sql, seq: i64, epoch: i64, now: Timestamp) -> rusqlite::Result<Option<AcquiredInstance>> {
    let find = "SELECT id, execution, name, version, last_event, crashes, suspect, format FROM duroxide_instances
        WHERE seq = ?1 AND owner = ?2";
    let found = sql.row(find, (seq, epoch), |row| {
        let instance = AcquiredInstance {
            execution: ExecutionId { instance: instance_id(row, 0)?, number: natural(row, 1)? },
            name: row.get(2)?,
            version: version(row, 3)?,
            last_event: EventId(natural(row, 4)?),
            messages: Vec::new(),
            crashes: row.get(5)?,
            suspect: row.get(6)?,
        };
        Ok((instance, format(row, 7)?))
    })?;
    let Some((mut instance, format)) = found else { return Ok(None) };
    let due = format!(
        "SELECT {MESSAGE} FROM duroxide_messages m LEFT JOIN duroxide_payloads p ON p.id = m.payload_ref
         WHERE m.instance = ?1 AND (m.visible_at IS NULL OR m.visible_at <= ?2)"
    );
    instance.messages = in_order(sql.rows(&due, (seq, now.as_micros()), message)?);
    // An instance that cannot be read shows in what it is to read next.
    instance.messages.iter_mut().for_each(|message| message.format = message.format.max(format));
    Ok(Some(instance))
}

/// An activity, if the epoch owns it, with the event that scheduled it. What cannot be read shows in that event.
pub(super) fn activity(
    sql: &Sql,
    (seq, execution, call): (i64, i64, i64),
    epoch: i64,
) -> rusqlite::Result<Option<AcquiredActivity>> {
    let find = format!(
        "SELECT i.id, a.execution, a.call, a.attempt, a.crashes, a.suspect, a.scheduled, a.headers, a.format, {EVENT}
         FROM duroxide_activities a JOIN duroxide_instances i ON i.seq = a.instance
         LEFT JOIN duroxide_events e ON e.instance = a.instance AND e.execution = a.execution AND e.id = a.scheduled
         LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE a.instance = ?1 AND a.execution = ?2 AND a.call = ?3 AND a.owner = ?4"
    );
    sql.row(&find, (seq, execution, call, epoch), |row| {
        let instance = instance_id(row, 0)?;
        let id = EventId(natural(row, 6)?);
        let (mut scheduled, headers) = match (event(row, 9), text_map(row, 7)) {
            (Ok(scheduled), Ok(headers)) => (scheduled, headers),
            (Err(error), _) | (_, Err(error)) => (damaged(id, &error), TextMap::new()),
        };
        scheduled.format = scheduled.format.max(format(row, 8)?);
        Ok(AcquiredActivity {
            id: ActivityId {
                execution: ExecutionId { instance, number: natural(row, 1)? },
                call: CallId(natural(row, 2)?),
            },
            attempt: row.get(3)?,
            crashes: row.get(4)?,
            suspect: row.get(5)?,
            scheduled,
            headers,
        })
    })
}

/// Stands for an event that cannot be read: whoever gets it sees that by its format.
fn damaged(id: EventId, error: &rusqlite::Error) -> EventRow {
    let time = Timestamp::from_micros(0);
    EventRow { id, time, decision: true, format: DAMAGED, data: error.to_string(), payload: crate::Payload::NULL }
}

/// Reads what was claimed.
pub(super) fn load(sql: &Sql, claimed: &Claims, acquired: &mut Acquired) -> rusqlite::Result<()> {
    let epoch = claimed.epoch();
    for seq in claimed.instances() {
        acquired.instances.extend(instance(sql, seq, epoch, claimed.now())?);
    }
    for key in claimed.activities() {
        acquired.activities.extend(activity(sql, key, epoch)?);
    }
    // What was claimed may have brought timers of its own.
    acquired.next_due = acquired.next_due.into_iter().chain(next_timer(sql, epoch, claimed.now())?).min();
    Ok(())
}
