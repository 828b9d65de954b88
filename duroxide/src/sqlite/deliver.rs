//! Messages: putting them into the queue of an instance, and taking them out.

use rusqlite::named_params;

use super::payloads;
use super::rows::{AT_ONCE, FIRST_TIME, epoch, int, natural, status, stored_ready, uuid};
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::id::{Epoch, InstanceId, MessageId};
use crate::provider::{InstanceStatus, MessageRow, Placement, Ready};

/// What delivering needs to know of an instance.
pub(super) struct Target {
    pub(super) seq: i64,
    pub(super) status: InstanceStatus,
    pub(super) execution: u64,
    pub(super) owner: Option<Epoch>,
}

impl Target {
    pub(super) fn find(tx: &Tx<'_>, id: &InstanceId) -> rusqlite::Result<Option<Self>> {
        Ok(Self::find_for_client(tx, id)?.map(|(target, _)| target))
    }

    /// The same, with the number of the last message of a client that its owner has to ask for.
    pub(super) fn find_for_client(tx: &Tx<'_>, id: &InstanceId) -> rusqlite::Result<Option<(Self, Option<i64>)>> {
        let find = "SELECT seq, status, execution, owner, last_found FROM duroxide_instances WHERE id = ?1";
        tx.sql.row(find, [id.as_str()], |row| {
            let (seq, status, execution, owner) = (row.get(0)?, status(row, 1)?, natural(row, 2)?, epoch(row, 3)?);
            Ok((Self { seq, status, execution, owner }, row.get(4)?))
        })
    }

    /// Puts a message into the queue, unless the instance has finished or the message is for another execution.
    pub(super) fn deliver(
        &self,
        tx: &mut Tx<'_>,
        row: &MessageRow,
        time: Timestamp,
        sent: bool,
    ) -> rusqlite::Result<Placement> {
        let wrong = row.execution.is_some_and(|number| number != self.execution);
        if self.status.is_finished() || wrong {
            return Ok(Placement::Refused);
        }
        if insert(tx, self.seq, row, time, sent)? && self.owner.is_none() && self.status == InstanceStatus::Running {
            let ready = stored_ready(Ready::by_message(row.visible_at, time));
            let update = "UPDATE duroxide_instances SET ready_at = min(coalesce(ready_at, ?2), ?2)
                          WHERE seq = ?1 AND owner IS NULL AND status = 'running'";
            tx.sql.run(update, (self.seq, ready))?;
            tx.signals.work = true;
        }
        Ok(self.owner.map_or(Placement::Queued, Placement::Owned))
    }
}

/// When the messages of an instance that has lost its owner make it ready: as [`stored_ready`] writes it, of the first.
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

/// Whether it was not there yet.
fn insert(tx: &mut Tx<'_>, instance: i64, row: &MessageRow, time: Timestamp, sent: bool) -> rusqlite::Result<bool> {
    let payload = payloads::store(tx.sql, instance, &row.payload)?;
    let arrival = tx.next_arrival()?;
    let insert = "INSERT INTO duroxide_messages
        (arrival, instance, id, lane, execution, call, visible_at, arrived_at, sent, format, data, payload, payload_ref, headers)
        VALUES (:arrival, :instance, :id, :lane, :execution, :call, :visible_at, :arrived_at, :sent, :format, :data,
                :payload, :payload_ref, :headers)
        ON CONFLICT (instance, id) DO NOTHING";
    let params = named_params! {
        ":arrival": arrival, ":instance": instance, ":id": row.id.0.as_bytes(), ":lane": row.lane as u8,
        ":execution": row.execution.map(int), ":call": row.call.map(|call| int(call.0)),
        ":visible_at": row.visible_at.map(Timestamp::as_micros), ":arrived_at": time.as_micros(), ":sent": sent,
        ":format": row.format, ":data": row.data, ":payload": payload.inline, ":payload_ref": payload.reference,
        ":headers": super::rows::text_map_json(&row.headers),
    };
    Ok(tx.sql.run(insert, params)? > 0)
}

/// Takes out a message that was read. Whether it was there.
pub(super) fn consume(tx: &mut Tx<'_>, instance: i64, id: MessageId) -> rusqlite::Result<bool> {
    let find = "SELECT arrival, sent FROM duroxide_messages WHERE instance = ?1 AND id = ?2";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
    let Some((arrival, sent)) = tx.sql.row(find, (instance, id.0.as_bytes()), read)? else { return Ok(false) };
    tx.sql.run("DELETE FROM duroxide_messages WHERE arrival = ?1", [arrival])?;
    if sent {
        tx.remember(id.0)?;
    }
    Ok(true)
}

/// Takes out what is left over: of one execution, or everything.
pub(super) fn sweep(tx: &mut Tx<'_>, instance: i64, execution: Option<u64>) -> rusqlite::Result<()> {
    let find = "SELECT arrival, id, sent FROM duroxide_messages WHERE instance = ?1 AND (?2 IS NULL OR execution = ?2)";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, uuid(row, 1)?, row.get(2)?));
    let left: Vec<(i64, uuid::Uuid, bool)> = tx.sql.rows(find, (instance, execution.map(int)), read)?;
    for (arrival, id, sent) in left {
        tx.sql.run("DELETE FROM duroxide_messages WHERE arrival = ?1", [arrival])?;
        if sent {
            tx.remember(id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_make_ready_as_it_is_stored() {
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
