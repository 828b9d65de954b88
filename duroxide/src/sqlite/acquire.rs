//! Answers to requests for work. They are read without the write lock; only claims and acknowledgements go through the
//! writer.

use rusqlite::Row;

use super::claim::Claims;
use super::columns::columns;
use super::ending;
use super::records;
use super::rows::{ActivityKey, event, execution, format, int, message, natural, text_map, version};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::history::TextMap;
use crate::id::{ActivityId, CallId, EventId};
use crate::provider::{
    Acquired, AcquiredActivity, AcquiredInstance, DAMAGED, EventRow, Heard, HistoryPage, Lease, Load, MessageRow, Want,
    in_order,
};

/// The parts of an answer found so far: items that the lease already owns, and items that it may claim.
pub(super) struct Found {
    pub(super) acquired: Acquired,
    pub(super) claims: Claims,
    /// True if [`delete_acknowledged`] has rows to delete.
    pub(super) has_acknowledged: bool,
}

/// Deletes the mail and the cancellations that the node has acknowledged, and the mail of instances that it no longer
/// owns: a later claim of such an instance returns all its messages.
pub(super) fn delete_acknowledged(tx: &Tx<'_>, lease: &Lease, want: &Want) -> rusqlite::Result<()> {
    let epoch = int(lease.epoch.0);
    for Heard { instance, identity, number } in &want.heard {
        let delete = "DELETE FROM duroxide_mail WHERE owner = ?1 AND upto <= ?4
            AND instance = (SELECT seq FROM duroxide_instances WHERE id = ?2 AND start_id = ?3)";
        tx.sql.run(delete, (epoch, instance.as_str(), identity.0.as_bytes(), int(*number)))?;
    }
    for ActivityId { execution, call } in &want.cancelled {
        let delete = "DELETE FROM duroxide_cancellations
            WHERE epoch = ?1 AND identity = ?2 AND execution = ?3 AND call = ?4";
        tx.sql.run(delete, (epoch, execution.identity.0.as_bytes(), int(execution.number), int(call.0)))?;
    }
    let delete = "DELETE FROM duroxide_mail WHERE owner = ?1 AND NOT EXISTS (
        SELECT 1 FROM duroxide_instances i WHERE i.seq = duroxide_mail.instance AND i.owner = ?1)";
    tx.sql.run(delete, [epoch]).map(drop)
}

columns! {
    /// A node, and true if an activity in the queue has a tag: otherwise a claim reads no ranges of tags.
    mod node {
        CLAIM = "claim",
        HAS_TAGGED = "EXISTS (SELECT 1 FROM duroxide_activities INDEXED BY duroxide_activities_queue_tagged
            WHERE owner IS NULL AND parked IS NULL AND (crashes < 3 OR suspect = 1) AND tag IS NOT NULL)",
    }
}

/// Finds the items for a request. The claims are not yet taken.
pub(super) fn find_work(sql: &Sql, lease: &Lease, want: &Want) -> rusqlite::Result<Found> {
    let mut acquired = Acquired { claim: want.claim, ..Acquired::default() };
    let mut claims = Claims::new(*lease, want);
    let epoch = int(lease.epoch.0);
    let find = concat!("SELECT ", node::list!(), " FROM duroxide_nodes WHERE epoch = ?1");
    let read = |row: &Row<'_>| Ok((natural(row, node::CLAIM)?, row.get(node::HAS_TAGGED)?));
    let Some((last_claim, has_tagged)) = sql.row(find, [epoch], read)? else {
        return Ok(Found { acquired, claims, has_acknowledged: false });
    };
    acquired.ending = ending::find(sql)?;
    acquired.cancelled = cancelled(sql, epoch)?;
    let unacknowledged = acquired.cancelled.len();
    acquired.cancelled.retain(|id| !want.cancelled.contains(id));
    let mut has_acknowledged = acquired.cancelled.len() < unacknowledged;
    for Load { instance: id, heard } in &want.load {
        let find = "SELECT seq FROM duroxide_instances WHERE id = ?1 AND owner = ?2";
        if let Some(seq) = sql.row(find, (id.as_str(), epoch), |row| row.get(0))? {
            acquired.instances.extend(instance(sql, seq, epoch, *heard, heard.is_none())?);
        }
    }
    has_acknowledged |= add_mail(sql, epoch, want, &mut acquired)?;
    if last_claim == want.claim {
        let later = if want.alone { claims.find_quarantined(sql, want)? } else { None };
        if claims.is_empty() {
            acquired.next_due = claims.find(sql, want, has_tagged)?.into_iter().chain(later).min();
        }
    } else {
        // The answer with the last claim was lost: repeat it. The next request claims more.
        claims.repeat(sql, last_claim)?;
        acquired.claim = last_claim;
        acquired.next_due = Some(want.now);
    }
    Ok(Found { acquired, claims, has_acknowledged })
}

columns! {
    /// A cancellation.
    mod cancellation { INSTANCE = "instance", IDENTITY = "identity", EXECUTION = "execution", CALL = "call" }
}

fn cancelled(sql: &Sql, epoch: i64) -> rusqlite::Result<Vec<ActivityId>> {
    let find = concat!("SELECT ", cancellation::list!(), " FROM duroxide_cancellations WHERE epoch = ?1");
    sql.rows(find, [epoch], |row| {
        let execution = [cancellation::INSTANCE, cancellation::IDENTITY, cancellation::EXECUTION];
        let call = CallId(natural(row, cancellation::CALL)?);
        Ok(ActivityId { execution: self::execution(row, execution)?, call })
    })
}

/// Adds the instances that have mail to an answer. Returns true if mail can be deleted: the node has acknowledged it, or
/// no longer owns its instance.
fn add_mail(sql: &Sql, epoch: i64, want: &Want, acquired: &mut Acquired) -> rusqlite::Result<bool> {
    let mut is_deletable = false;
    for (seq, upto) in mail(sql, epoch)? {
        let Some(found) = instance(sql, seq, epoch, None, false)? else {
            is_deletable = true;
            continue;
        };
        let heard = want.heard.iter().any(|heard| heard.covers(&found.execution, upto));
        is_deletable |= heard;
        let asked = want.load.iter().any(|load| load.instance == found.execution.instance);
        if !heard && !asked {
            acquired.instances.push(found);
        }
    }
    Ok(is_deletable)
}

columns! {
    mod mail { INSTANCE = "instance", UPTO = "upto" }
}

/// Returns the instances of the epoch that have mail, each with the highest message number that its mail announces.
fn mail(sql: &Sql, epoch: i64) -> rusqlite::Result<Vec<(i64, u64)>> {
    let find = concat!("SELECT ", mail::list!(), " FROM duroxide_mail WHERE owner = ?1");
    sql.rows(find, [epoch], |row| Ok((row.get(mail::INSTANCE)?, natural(row, mail::UPTO)?)))
}

columns! {
    /// An instance without its messages and its history.
    mod owned {
        ID = "id",
        START_ID = "start_id",
        EXECUTION = "execution",
        NAME = "name",
        VERSION = "version",
        LAST_EVENT = "last_event",
        ARRIVALS = "arrivals",
        CLAIM = "claim",
        CRASHES = "crashes",
        SUSPECT = "suspect",
        FORMAT = "format",
    }
}

/// Reads an instance, if the epoch owns it, and its messages: all of them, or those with a number above `heard`.
pub(super) fn instance(
    sql: &Sql,
    seq: i64,
    epoch: i64,
    heard: Option<u64>,
    history: bool,
) -> rusqlite::Result<Option<AcquiredInstance>> {
    let find = concat!("SELECT ", owned::list!(), " FROM duroxide_instances WHERE seq = ?1 AND owner = ?2");
    let found = sql.row(find, (seq, epoch), |row| {
        let instance = AcquiredInstance {
            execution: execution(row, [owned::ID, owned::START_ID, owned::EXECUTION])?,
            name: row.get(owned::NAME)?,
            version: version(row, owned::VERSION)?,
            last_event: EventId(natural(row, owned::LAST_EVENT)?),
            arrivals: natural(row, owned::ARRIVALS)?,
            messages: Vec::new(),
            history: HistoryPage { events: Vec::new(), more: true },
            claim: natural(row, owned::CLAIM)?,
            crashes: row.get(owned::CRASHES)?,
            suspect: row.get(owned::SUSPECT)?,
        };
        Ok((instance, format(row, owned::FORMAT)?))
    })?;
    let Some((mut instance, format)) = found else { return Ok(None) };
    // Read after the instance, so that a message which arrives in between is delivered early instead of missed.
    instance.messages = messages(sql, seq, heard)?;
    // The node detects an unreadable instance by the format of its messages.
    instance.messages.iter_mut().for_each(|message| message.format = message.format.max(format));
    if history {
        instance.history = records::history(sql, &instance.execution, EventId(0))?;
    }
    Ok(Some(instance))
}

/// Reads the messages of an instance in the order of delivery: all of them, or those with a number above `heard`.
fn messages(sql: &Sql, seq: i64, heard: Option<u64>) -> rusqlite::Result<Vec<MessageRow>> {
    macro_rules! find {
        ($condition:literal) => {
            concat!(
                "SELECT ",
                message::list!(),
                " FROM duroxide_messages m LEFT JOIN duroxide_payloads p ON p.id = m.payload_ref WHERE ",
                $condition
            )
        };
    }
    let found = match heard {
        None => sql.rows(find!("m.instance = ?1"), [seq], message)?,
        Some(heard) => sql.rows(find!("m.instance = ?1 AND m.number > ?2"), (seq, int(heard)), message)?,
    };
    Ok(in_order(found))
}

columns! {
    /// An activity `a` of an instance `i`. The columns of its event follow.
    mod claimed {
        ID = "i.id",
        START_ID = "i.start_id",
        EXECUTION = "a.execution",
        CALL = "a.call",
        ATTEMPT = "a.attempt",
        CRASHES = "a.crashes",
        SUSPECT = "a.suspect",
        SCHEDULED = "a.scheduled",
        HEADERS = "a.headers",
        FORMAT = "a.format",
        CLAIM = "a.claim",
    }
}

/// Reads an activity, if the epoch owns it, with the event that scheduled it. If a part cannot be read, the format of
/// the event says so.
pub(super) fn activity(
    sql: &Sql,
    (seq, execution, call): ActivityKey,
    epoch: i64,
) -> rusqlite::Result<Option<AcquiredActivity>> {
    let find = concat!(
        "SELECT ",
        claimed::list!(),
        ", ",
        event::list!(),
        " FROM duroxide_activities a JOIN duroxide_instances i ON i.seq = a.instance
         LEFT JOIN duroxide_events e ON e.instance = a.instance AND e.execution = a.execution AND e.id = a.scheduled
         LEFT JOIN duroxide_payloads p ON p.id = e.payload_ref
         WHERE a.instance = ?1 AND a.execution = ?2 AND a.call = ?3 AND a.owner = ?4"
    );
    sql.row(find, (seq, execution, call, epoch), |row| {
        let execution = self::execution(row, [claimed::ID, claimed::START_ID, claimed::EXECUTION])?;
        let id = EventId(natural(row, claimed::SCHEDULED)?);
        let (mut scheduled, headers) = match (event(row, claimed::COUNT), text_map(row, claimed::HEADERS)) {
            (Ok(scheduled), Ok(headers)) => (scheduled, headers),
            (Err(error), _) | (_, Err(error)) => (damaged(id, &error), TextMap::new()),
        };
        scheduled.format = scheduled.format.max(format(row, claimed::FORMAT)?);
        Ok(AcquiredActivity {
            id: ActivityId { execution, call: CallId(natural(row, claimed::CALL)?) },
            attempt: row.get(claimed::ATTEMPT)?,
            claim: natural(row, claimed::CLAIM)?,
            crashes: row.get(claimed::CRASHES)?,
            suspect: row.get(claimed::SUSPECT)?,
            scheduled,
            headers,
        })
    })
}

/// Returns a substitute for an unreadable event. Its format marks it as damaged.
fn damaged(id: EventId, error: &rusqlite::Error) -> EventRow {
    let time = Timestamp::from_micros(0);
    let data = error.to_string();
    EventRow { id, time, decision: true, format: DAMAGED, data, payload: crate::Payload::NULL, at: None }
}

/// Reads the claimed items.
pub(super) fn load(sql: &Sql, claimed: &Claims, acquired: &mut Acquired) -> rusqlite::Result<()> {
    let epoch = claimed.epoch();
    let mut instances = Vec::new();
    for seq in claimed.instances() {
        instances.extend(instance(sql, seq, epoch, None, true)?);
    }
    // Return each instance once: the claim replaces the shorter answer to a load by name.
    let claimed_too = |loaded: &AcquiredInstance| {
        instances.iter().any(|claimed| claimed.execution.instance == loaded.execution.instance)
    };
    acquired.instances.retain(|loaded| !claimed_too(loaded));
    acquired.instances.append(&mut instances);
    for key in claimed.activities() {
        acquired.activities.extend(activity(sql, key, epoch)?);
    }
    Ok(())
}
