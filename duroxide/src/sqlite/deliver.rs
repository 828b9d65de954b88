//! The message queue of an instance: delivery and removal.

use std::cell::Cell;

use rusqlite::{Row, named_params};

use super::columns::columns;
use super::fault::Refusal;
use super::payloads;
use super::rows::{AT_ONCE, FIRST_TIME, epoch, int, natural, status_or_suspended, stored_ready, uuid};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{Epoch, Identity, InstanceId, MessageId};
use crate::message::Lane;
use crate::provider::{InstanceStatus, MessageRow, Placement, Ready, SubmitError};

/// The instance that a message is addressed to.
pub(super) struct Target {
    pub(super) seq: i64,
    pub(super) identity: Identity,
    pub(super) status: InstanceStatus,
    pub(super) execution: u64,
    pub(super) owner: Option<Epoch>,
    /// The last number given to a message. `None`: it was not read. No other target of the instance may be in use.
    pub(super) arrivals: Cell<Option<i64>>,
}

columns! {
    /// The target of a message.
    mod target {
        SEQ = "seq",
        START_ID = "start_id",
        STATUS = "status",
        EXECUTION = "execution",
        OWNER = "owner",
        ARRIVALS = "arrivals",
    }
}

impl Target {
    pub(super) fn find(tx: &Tx<'_>, id: &InstanceId) -> rusqlite::Result<Option<Self>> {
        let find = concat!("SELECT ", target::list!(), " FROM duroxide_instances WHERE id = ?1");
        tx.sql.row(find, [id.as_str()], |row| {
            Ok(Self {
                seq: row.get(target::SEQ)?,
                identity: Identity(uuid(row, target::START_ID)?),
                status: status_or_suspended(row, target::STATUS),
                execution: natural(row, target::EXECUTION)?,
                owner: epoch(row, target::OWNER)?,
                arrivals: Cell::new(Some(row.get(target::ARRIVALS)?)),
            })
        })
    }

    /// Finds an instance that has not finished.
    pub(super) fn find_live(tx: &Tx<'_>, id: &InstanceId) -> Result<Self, Refusal<SubmitError>> {
        let target = Self::find(tx, id)?.ok_or(Refusal::Refused(SubmitError::NotFound))?;
        if target.status.is_finished() {
            return Err(Refusal::Refused(SubmitError::Finished(target.status)));
        }
        Ok(target)
    }

    /// Delivers a message, unless the instance has finished or the message is for another execution.
    pub(super) fn deliver(
        &self,
        tx: &mut Tx<'_>,
        row: &MessageRow,
        time: Timestamp,
        sent: bool,
    ) -> rusqlite::Result<Placement> {
        Ok(self.deliver_once(tx, row, time, sent)?.0)
    }

    /// Like `deliver`. Also returns true if the message was not in the queue before.
    pub(super) fn deliver_once(
        &self,
        tx: &mut Tx<'_>,
        row: &MessageRow,
        time: Timestamp,
        sent: bool,
    ) -> rusqlite::Result<(Placement, bool)> {
        let wrong = row.execution.is_some_and(|number| number != self.execution);
        if self.status.is_finished() || wrong {
            return Ok((Placement::Refused, false));
        }
        let next = match row.visible_at {
            None => Some(self.last_number(tx)? + 1),
            Some(_) => None,
        };
        let is_new = insert(tx, self.seq, row, next, time, sent)?;
        let number = if is_new { next } else { number_of(tx, self.seq, row.id)? };
        if is_new {
            self.count(tx, row, next, time)?;
        }
        let owned = |epoch| Placement::Owned { epoch, identity: self.identity, number: number.map(i64::unsigned_abs) };
        Ok((self.owner.map_or(Placement::Queued, owned), is_new))
    }

    /// Returns the last number that a message of the instance was given.
    pub(super) fn last_number(&self, tx: &Tx<'_>) -> rusqlite::Result<i64> {
        if let Some(number) = self.arrivals.get() {
            return Ok(number);
        }
        let find = "SELECT arrivals FROM duroxide_instances WHERE seq = ?1";
        Ok(tx.sql.row(find, [self.seq], |row| row.get(0))?.unwrap_or(0))
    }

    /// Counts a new message, and makes an instance without an owner ready if it is not ready earlier.
    fn count(&self, tx: &mut Tx<'_>, row: &MessageRow, number: Option<i64>, time: Timestamp) -> rusqlite::Result<()> {
        if let Some(number) = number {
            tx.sql.run("UPDATE duroxide_instances SET arrivals = ?2 WHERE seq = ?1", (self.seq, number))?;
            self.arrivals.set(Some(number));
        }
        if self.owner.is_none() && self.status == InstanceStatus::Running {
            let ready = stored_ready(Ready::by_message(row.visible_at, time));
            let update = "UPDATE duroxide_instances SET ready_at = min(coalesce(ready_at, ?2), ?2)
                          WHERE seq = ?1 AND owner IS NULL AND status = 'running'";
            tx.sql.run(update, (self.seq, ready))?;
            tx.signals.work = true;
        }
        // Any node ends an instance without an owner.
        tx.signals.work |= self.owner.is_none() && row.lane == Lane::End;
        Ok(())
    }

    /// Leaves mail for the owner, unless the owner is the epoch that forwards the message itself.
    pub(super) fn leave_mail(
        &self,
        tx: &mut Tx<'_>,
        placement: Placement,
        forwarded_by: Option<Epoch>,
    ) -> rusqlite::Result<()> {
        let Placement::Owned { epoch, number: Some(number), .. } = placement else { return Ok(()) };
        if Some(epoch) == forwarded_by {
            return Ok(());
        }
        tx.signals.work = true;
        let insert = "INSERT INTO duroxide_mail (owner, instance, upto) VALUES (?1, ?2, ?3)
            ON CONFLICT (owner, instance) DO UPDATE SET upto = max(upto, excluded.upto)";
        tx.sql.run(insert, (int(epoch.0), self.seq, int(number))).map(drop)
    }
}

fn number_of(tx: &Tx<'_>, instance: i64, id: MessageId) -> rusqlite::Result<Option<i64>> {
    let find = "SELECT number FROM duroxide_messages WHERE instance = ?1 AND id = ?2";
    Ok(tx.sql.row(find, (instance, id.0.as_bytes()), |row| row.get(0))?.flatten())
}

/// SQL for the time at which the messages of an instance without an owner make it ready, in the encoding of
/// [`stored_ready`].
macro_rules! ready_by_messages {
    ($instance:literal) => {
        concat!(
            "(SELECT min(coalesce(visible_at, min(max(arrived_at, -2305843009213693952), 2305843009213693951)
                 - 4611686018427387904)) FROM duroxide_messages WHERE instance = ",
            $instance,
            ")"
        )
    };
}
pub(super) use ready_by_messages;
const _: () = assert!(FIRST_TIME == -2305843009213693952 && AT_ONCE == 4611686018427387904);

/// Inserts a message. Returns true if it was not stored before.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    instance: i64,
    row: &MessageRow,
    number: Option<i64>,
    time: Timestamp,
    sent: bool,
) -> rusqlite::Result<bool> {
    let payload = payloads::store(&tx.sql, instance, &row.payload)?;
    let insert = "INSERT INTO duroxide_messages
        (instance, id, lane, execution, call, visible_at, number, arrived_at, sent, format, data, payload, payload_ref)
        VALUES (:instance, :id, :lane, :execution, :call, :visible_at, :number, :arrived_at, :sent, :format, :data,
                :payload, :payload_ref)
        ON CONFLICT (instance, id) DO NOTHING";
    let params = named_params! {
        ":instance": instance, ":id": row.id.0.as_bytes(), ":lane": row.lane as u8,
        ":execution": row.execution.map(int), ":call": row.call.map(|call| int(call.0)),
        ":visible_at": row.visible_at.map(Timestamp::as_micros), ":number": number, ":arrived_at": time.as_micros(),
        ":sent": sent, ":format": row.format, ":data": row.data, ":payload": payload.inline,
        ":payload_ref": payload.reference,
    };
    Ok(tx.sql.run(insert, params)? > 0)
}

/// Removes a message that a turn has consumed. Returns true if it was stored.
pub(super) fn consume(tx: &mut Tx<'_>, instance: i64, id: MessageId) -> rusqlite::Result<bool> {
    let find = concat!("SELECT ", left::list!(), " FROM duroxide_messages WHERE instance = ?1 AND id = ?2");
    let Some(message) = tx.sql.row(find, (instance, id.0.as_bytes()), Left::read)? else { return Ok(false) };
    message.remove(tx)?;
    Ok(true)
}

columns! {
    /// A message that is removed.
    mod left { ARRIVAL = "arrival", ID = "id", SENT = "sent", PAYLOAD_REF = "payload_ref" }
}

struct Left {
    arrival: i64,
    id: uuid::Uuid,
    sent: bool,
    payload: Option<i64>,
}

impl Left {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (arrival, id) = (row.get(left::ARRIVAL)?, uuid(row, left::ID)?);
        Ok(Self { arrival, id, sent: row.get(left::SENT)?, payload: row.get(left::PAYLOAD_REF)? })
    }

    fn remove(self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        tx.sql.run("DELETE FROM duroxide_messages WHERE arrival = ?1", [self.arrival])?;
        if let Some(payload) = self.payload {
            tx.dereferenced(payload);
        }
        if self.sent {
            tx.record_done(self.id)?;
        }
        Ok(())
    }
}

/// Removes the remaining messages of one execution, or of the whole instance.
pub(super) fn sweep(tx: &mut Tx<'_>, instance: i64, execution: Option<u64>) -> rusqlite::Result<()> {
    let find_all = concat!("SELECT ", left::list!(), " FROM duroxide_messages WHERE instance = ?1");
    let find = concat!("SELECT ", left::list!(), " FROM duroxide_messages WHERE instance = ?1 AND execution = ?2");
    let left = match execution {
        None => tx.sql.rows(find_all, [instance], Left::read)?,
        Some(number) => tx.sql.rows(find, (instance, int(number)), Left::read)?,
    };
    left.into_iter().try_for_each(|message| message.remove(tx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_time_of_messages_matches_its_encoding() {
        let connection = super::super::schema::in_memory();
        let insert =
            "INSERT INTO duroxide_messages (arrival, instance, id, lane, visible_at, arrived_at, sent, format, data)
            VALUES (?1, ?1, x'00', 2, ?2, ?3, 0, 1, '')";
        let times = [i64::MIN, -1, 0, i64::MAX];
        let cases = [None, Some(-1), Some(0), Some(i64::MAX)].into_iter().flat_map(|v| times.map(|at| (v, at)));
        for (n, (visible_at, arrived_at)) in (1_i64..).zip(cases) {
            connection.execute(insert, (n, visible_at, arrived_at)).unwrap();
            let ready = concat!("SELECT ", ready_by_messages!("?1"));
            let ready: i64 = connection.query_row(ready, [n], |row| row.get(0)).unwrap();
            let time = Timestamp::from_micros;
            let stored = stored_ready(Ready::by_message(visible_at.map(time), time(arrived_at)));
            assert_eq!(ready, stored, "{visible_at:?}, {arrived_at}");
        }
    }
}
