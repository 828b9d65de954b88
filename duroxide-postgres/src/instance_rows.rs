//! Reads the rows of an instance outside its histories.

use duroxide::Timestamp;
use duroxide::id::{CallId, EventId, InstanceId};
use duroxide::provider::{
    EarlierExecution, InstanceRows, InstanceState, InstanceStatus, NewActivity, StoredActivity, StoredMessage,
    StoredPause,
};
use tokio_postgres::Row;

use crate::attempts;
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{execution, message, message_columns, natural, read_ready, status, text_map, time, waits};

const INSTANCE: &str = "
    SELECT i.seq, i.id, i.identity, coalesce(l.execution, i.execution) AS execution,
        coalesce(l.last_event, i.last_event) AS last_event, i.status, l.seq IS NOT NULL AS live,
        coalesce(l.suspended, false) AS suspended, l.rejected, l.paused, l.paused_until,
        coalesce(l.cause, i.cause) AS cause, l.waits, l.waits_since, l.waits_until
    FROM instances i LEFT JOIN live l ON l.seq = i.seq WHERE i.id = $1";
const MESSAGES: &str =
    concat!("SELECT m.sent, ", message_columns!(), " FROM messages m WHERE m.instance = $1 ORDER BY m.arrival");
const ACTIVITIES: &str = "
    SELECT execution, call, scheduled, name, tag, detached, headers, attempt, ready_at, rejected, parked, cause,
        other_cause
    FROM activities WHERE instance = $1 ORDER BY execution, call";
const REJECTIONS: &str = "
    SELECT execution, call, build FROM rejections WHERE instance = $1 ORDER BY execution, call, build";
const ATTEMPTS: &str = "
    SELECT execution, call, attempt, node, began, ended, next_at, error FROM attempts
    WHERE instance = $1 ORDER BY execution, call, attempt";
const EARLIER: &str = "SELECT number, continued_at FROM executions WHERE instance = $1 ORDER BY number";

/// Reads the rows, as they are at one moment.
pub(crate) async fn read(connection: &Connection, id: &InstanceId) -> Result<Option<InstanceRows>, Fault> {
    connection
        .snapshot(async |connection| {
            let found = connection.query(step!(INSTANCE, id.as_str())).await?;
            match found.first() {
                Some(row) => rows(connection, row).await.map(Some),
                None => Ok(None),
            }
        })
        .await
}

async fn rows(connection: &Connection, row: &Row) -> Result<InstanceRows, Fault> {
    let seq: i64 = row.try_get("seq")?;
    let steps = [
        step!(MESSAGES, seq),
        step!(ACTIVITIES, seq),
        step!(REJECTIONS, seq),
        step!(ATTEMPTS, seq),
        step!(EARLIER, seq),
    ];
    let answers = connection.run(&steps).await?;
    let [messages, activities, rejections, attempts, earlier] = &answers[..] else {
        return Err(Fault::Unreadable("a read of rows has other answers".to_owned()));
    };
    let rejected_by = |number: u64, call: u64| {
        let of = |row: &&Row| Ok::<_, Fault>((natural(row, "execution")?, natural(row, "call")?) == (number, call));
        let builds = rejections.iter().filter(|row| of(row).unwrap_or(false));
        builds.map(|row| Ok(row.try_get("build")?)).collect::<Result<Vec<String>, Fault>>()
    };
    let suspension: Option<String> = row.try_get("rejected")?;
    let own_status = match (row.try_get("live")?, row.try_get("suspended")?) {
        (false, _) => status(row, "status")?,
        (true, true) => InstanceStatus::Suspended,
        (true, false) => InstanceStatus::Running,
    };
    let activity = |row: &Row| {
        let mut activity = stored_activity(row)?;
        if activity.rejected.is_some() {
            activity.rejected_by = rejected_by(activity.execution, activity.activity.call.0)?;
        }
        Ok(activity)
    };
    Ok(InstanceRows {
        execution: execution(row)?,
        last_event: EventId(natural(row, "last_event")?),
        state: InstanceState {
            status: own_status,
            rejected_by: if suspension.is_some() { rejected_by(0, 0)? } else { Vec::new() },
            suspension,
            pause: pause(row)?,
            waits: waits(row)?,
            cause: row.try_get("cause")?,
            attempts: attempts.iter().map(attempts::attempt).collect::<Result<_, Fault>>()?,
            earlier: earlier.iter().map(earlier_execution).collect::<Result<_, Fault>>()?,
        },
        messages: messages.iter().map(|row| stored_message(row, seq)).collect::<Result<_, Fault>>()?,
        activities: activities.iter().map(activity).collect::<Result<_, Fault>>()?,
    })
}

fn pause(row: &Row) -> Result<Option<StoredPause>, Fault> {
    let (reason, until) = (row.try_get::<_, Option<String>>("paused")?, row.try_get::<_, Option<i64>>("paused_until")?);
    Ok(reason.map(|reason| StoredPause { reason, until: until.map(|until| read_ready(until).since(Timestamp::MAX)) }))
}

fn earlier_execution(row: &Row) -> Result<EarlierExecution, Fault> {
    let (number, continued_at) = (natural(row, "number")?, time(row, "continued_at")?);
    Ok(EarlierExecution { number, continued_at, history: Vec::new() })
}

fn stored_message(row: &Row, seq: i64) -> Result<StoredMessage, Fault> {
    let (_, read) = message(row, seq)?.ok_or_else(|| Fault::Unreadable("a message has no id".to_owned()))?;
    Ok(StoredMessage { row: read, stored_at: time(row, "arrived_at")?, by_client: row.try_get("sent")? })
}

fn stored_activity(row: &Row) -> Result<StoredActivity, Fault> {
    Ok(StoredActivity {
        execution: natural(row, "execution")?,
        activity: NewActivity {
            call: CallId(natural(row, "call")?),
            scheduled: EventId(natural(row, "scheduled")?),
            name: row.try_get("name")?,
            tag: row.try_get("tag")?,
            detached: row.try_get("detached")?,
            eager: false,
            headers: text_map(row, "headers")?,
        },
        attempt: attempts::number(row, "attempt")?,
        ready: read_ready(row.try_get("ready_at")?),
        rejected: row.try_get("rejected")?,
        cause: row.try_get("cause")?,
        other_cause: row.try_get("other_cause")?,
        rejected_by: Vec::new(),
        parked: row.try_get("parked")?,
    })
}
