//! Requests for work.
//!
//! A request that claims nothing is one round trip; a claim takes a second one. The first statements, each a transaction of
//! its own, read the items that the lease already owns, and pick items without a lock. The claim is a transaction: it locks
//! the picked items, skipping those that others have locked, and reads their messages by *later* statements: a statement's
//! snapshot is older than its locks.

mod claim;
mod looks;
mod pick;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use duroxide::id::{ActivityId, CallId, EventId, InstanceId};
use duroxide::provider::{
    Acquired, AcquiredActivity, AcquiredInstance, DeliveryKey, Ending, EventRow, Heard, HistoryPage, Lease, Load,
    MessageRow, Want, in_order,
};
use tokio_postgres::Row;

use self::claim::Claim;
pub(crate) use self::looks::Looks;
use self::looks::Queue;
use self::pick::{Picked, Picks};
use crate::connect::{Connection, Step, step};
use crate::events;
use crate::fault::Fault;
use crate::rollout::Places;
use crate::rows::{self, execution, int, message_columns, natural, text_map, version};
use crate::state::State;
use crate::work::Work;

/// The attempts of a request that another request of the same lease overtakes.
const ATTEMPTS: u32 = 5;

macro_rules! owned {
    ($from:literal) => {
        concat!(
            "SELECT l.seq, l.id, l.identity, l.execution, l.name, l.version, l.last_event, l.arrivals, l.claim, l.crashes,
                 l.suspect, ",
            message_columns!(),
            " FROM ",
            $from
        )
    };
}
/// One condition for both cases would read all messages of an instance.
const LOADED: &str = owned!(
    "unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS t (id, heard, n)
     JOIN live l ON l.id = t.id AND l.owner = $1
     LEFT JOIN LATERAL (
         SELECT * FROM messages a WHERE t.heard IS NULL AND a.instance = l.seq
         UNION ALL
         SELECT * FROM messages b WHERE b.instance = l.seq AND b.number > t.heard) m ON true
     ORDER BY t.n"
);
const MAIL: &str = owned!(
    "mail x JOIN live l ON l.seq = x.instance AND l.owner = x.owner LEFT JOIN messages m ON m.instance = l.seq
     WHERE x.owner = $1 AND l.id <> ALL ($2::text[]) ORDER BY l.id"
);
pub(super) const CLAIMED: &str = owned!(
    "live l LEFT JOIN messages m ON m.instance = l.seq WHERE l.seq = ANY ($2::bigint[]) AND l.owner = $1 AND l.claim = $3"
);
/// Instances without an owner that are to be terminated, each with the oldest request. A finished one has no messages.
const ENDING: &str = concat!(
    "SELECT DISTINCT ON (m.instance) l.seq, l.id, l.identity, l.execution, ",
    message_columns!(),
    " FROM messages m JOIN live l ON l.seq = m.instance WHERE m.lane = 3 AND l.owner IS NULL ORDER BY m.instance, m.arrival"
);
const CLAIMED_BEFORE: &str =
    owned!("live l LEFT JOIN messages m ON m.instance = l.seq WHERE l.owner = $1 AND l.claim = $2 ORDER BY l.id");

/// Reads the first page of a history: up to 256 rows, and no further row after 256 KiB.
macro_rules! history {
    ($condition:literal) => {
        concat!(
            "SELECT l.seq, e.first, e.last, e.heads, e.body FROM live l CROSS JOIN LATERAL (
                 SELECT * FROM (
                     SELECT e.first, e.last, e.heads, e.body,
                         sum(octet_length(e.body)) OVER (ORDER BY e.last) - octet_length(e.body) AS before
                     FROM events e
                     WHERE e.instance = l.seq AND e.execution = l.execution AND e.last <= l.last_event
                     ORDER BY e.last LIMIT 256) w
                 WHERE w.before < 262144) e
             WHERE ",
            $condition,
            " ORDER BY l.seq, e.last"
        )
    };
}
const LOADED_HISTORY: &str = history!("l.id = ANY ($2::text[]) AND l.owner = $1");
pub(super) const CLAIMED_HISTORY: &str = history!("l.seq = ANY ($2::bigint[]) AND l.owner = $1 AND l.claim = $3");
const HISTORY_BEFORE: &str = history!("l.owner = $1 AND l.claim = $2");

macro_rules! run {
    ($from:literal) => {
        concat!(
            "SELECT i.id, i.identity, a.instance, a.execution, a.call, a.attempt, a.claim, a.crashes, a.suspect, a.scheduled,
                 a.headers FROM ",
            $from
        )
    };
}
/// Reads each row of events once, although it may schedule several of the activities.
macro_rules! scheduled {
    ($from:literal) => {
        concat!(
            "SELECT e.instance, e.execution, e.first, e.last, e.heads, e.body FROM (
                 SELECT DISTINCT a.instance, a.execution, x.last FROM ",
            $from,
            ") d JOIN events e ON e.instance = d.instance AND e.execution = d.execution AND e.last = d.last"
        )
    };
}
pub(super) const RUN: &str = run!(
    "unnest($2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS t (instance, execution, call, n)
     JOIN activities a ON a.instance = t.instance AND a.execution = t.execution AND a.call = t.call
         AND a.owner = $1 AND a.claim = $5
     JOIN instances i ON i.seq = a.instance ORDER BY t.n"
);
pub(super) const SCHEDULED: &str = scheduled!(
    "unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS t (instance, execution, call)
     JOIN activities a ON a.instance = t.instance AND a.execution = t.execution AND a.call = t.call
         AND a.owner = $1 AND a.claim = $5
     CROSS JOIN LATERAL (SELECT last FROM events e WHERE e.instance = a.instance AND e.execution = a.execution
         AND e.last >= a.scheduled ORDER BY e.last LIMIT 1) x"
);
const RUN_BEFORE: &str =
    run!("activities a JOIN instances i ON i.seq = a.instance WHERE a.owner = $1 AND a.claim = $2 ORDER BY 1, 4, 5");
const SCHEDULED_BEFORE: &str = scheduled!(
    "activities a CROSS JOIN LATERAL (SELECT last FROM events e WHERE e.instance = a.instance
         AND e.execution = a.execution AND e.last >= a.scheduled ORDER BY e.last LIMIT 1) x
     WHERE a.owner = $1 AND a.claim = $2"
);

/// Answers a request for work.
pub(crate) async fn acquire(
    connection: &Connection,
    state: &State,
    lease: Lease,
    want: &Want,
) -> Result<Acquired, Fault> {
    state.saw_request(want.now);
    state.observe_places(lease.epoch, places(want));
    for _ in 0..ATTEMPTS {
        let fault = match attempt(connection, state, lease, want).await {
            Ok(acquired) => return Ok(acquired),
            Err(fault) => fault,
        };
        if fault.spares_connection() {
            connection.roll_back().await;
        }
        // Another request of this lease has claimed in between: the numbers of the claims are read again.
        if !fault.is_collision() {
            return Err(fault);
        }
    }
    Err(Fault::Contended)
}

/// Returns the items that a node has asked for.
fn places(want: &Want) -> Places {
    let places = |limit: usize| i32::try_from(limit).unwrap_or(i32::MAX);
    let activities = want.activities.iter().fold(0, |sum: i32, group| sum.saturating_add(places(group.limit)));
    Places { instances: places(want.instances), activities }
}

async fn attempt(connection: &Connection, state: &State, lease: Lease, want: &Want) -> Result<Acquired, Fault> {
    let epoch = int(lease.epoch.0);
    let picks = Picks::of(want);
    let mut steps = Vec::new();
    acknowledge(epoch, want, &mut steps);
    let read = steps.len();
    steps.push(step!("SELECT instance AS id, identity, execution, call FROM cancellations WHERE epoch = $1", epoch));
    steps.push(state.code.list());
    steps.push(step!(ENDING));
    load(epoch, want, &mut steps);
    let pick = steps.len();
    let look = state.looks.begin();
    if let Some(picks) = &picks {
        steps.extend(picks.steps(epoch, want, &look));
    }
    let mut answers = connection.run(&steps).await?;
    drop(steps);
    let picked = answers.split_off(pick);
    let [cancelled, members, ending, mail, loads @ ..] = &answers[read..] else {
        return Err(Fault::Unreadable("a request for work has other answers".to_owned()));
    };
    let (loaded, histories) = match loads {
        [loaded, histories] => (loaded.as_slice(), histories.as_slice()),
        _ => Default::default(),
    };
    let mut acquired = Acquired { claim: want.claim, ..Acquired::default() };
    let own = |row: &&Row| row.try_get::<_, i64>("epoch").is_ok_and(|member| member == epoch);
    let Some(node) = members.iter().find(own) else { return Ok(acquired) };
    let last_claim = natural(node, "claim")?;
    acquired.cancelled = cancelled.iter().map(activity_id).collect::<Result<_, _>>()?;
    acquired.ending = ending.iter().filter_map(|row| self::ending(row).transpose()).collect::<Result<_, _>>()?;
    let whole: HashSet<_> = want.load.iter().filter(|load| load.heard.is_none()).map(|load| &load.instance).collect();
    acquired.instances = instances(loaded, histories, |id| whole.contains(id))?;
    acquired.instances.extend(instances(mail, &[], |_| false)?);
    if last_claim != want.claim {
        repeat(connection, epoch, last_claim, want, &mut acquired).await?;
        return Ok(acquired);
    }
    let Some(picks) = picks else { return Ok(acquired) };
    let members = state.code.members(members)?;
    let picked = Picked::read(&picks, picked, want, |name| members.is_outdated(lease.epoch, name))?;
    // Items before the beginning of this look are found by the next one from the beginning.
    let next_look = look.until_whole.map(|time| want.now + time);
    acquired.next_due = picked.next_due.into_iter().chain(next_look).min();
    if !picked.is_empty() {
        acquired.claim = want.claim + 1;
        let claimed = claimed_places(&picked);
        let locks = state.database.lock_class;
        let claim = Claim { connection, locks, lease, claim: acquired.claim, want, latest: state.latest() };
        let signals = claim.take(picked, &mut acquired).await?;
        state.signal(signals, Work::default());
        for (queue, ready_at) in claimed {
            state.looks.claimed(queue, ready_at, rows::is_at_once(ready_at));
        }
    }
    Ok(acquired)
}

/// Returns the queues and the places of picked items, in ascending order of their readiness.
fn claimed_places(picked: &Picked) -> Vec<(Queue, i64)> {
    let instances =
        picked.instances.iter().map(|picked| ((picked.name.clone(), Some(picked.version.clone())), picked.ready_at));
    let activities = picked.activities.iter().filter(|picked| !picked.is_overdue);
    let activities = activities.map(|picked| ((picked.name.clone(), None), picked.ready_at));
    instances.chain(activities).collect()
}

/// Deletes the mail and the cancellations that the node has acknowledged, and the mail of instances that it no longer owns:
/// a later claim of such an instance returns all its messages.
fn acknowledge<'a>(epoch: i64, want: &'a Want, steps: &mut Vec<Step<'a>>) {
    if !want.heard.is_empty() {
        let column = |value: &dyn Fn(&Heard) -> i64| want.heard.iter().map(value).collect::<Vec<_>>();
        steps.push(step!(
            "DELETE FROM mail x USING unnest($2::text[], $3::uuid[], $4::bigint[]) AS t (id, identity, number)
             JOIN live l ON l.id = t.id AND l.identity = t.identity
             WHERE x.owner = $1 AND x.instance = l.seq AND x.upto <= t.number",
            epoch,
            want.heard.iter().map(|heard| heard.instance.as_str()).collect::<Vec<_>>(),
            want.heard.iter().map(|heard| heard.identity.0).collect::<Vec<_>>(),
            column(&|heard| int(heard.number)),
        ));
    }
    if !want.cancelled.is_empty() {
        let column = |value: &dyn Fn(&ActivityId) -> i64| want.cancelled.iter().map(value).collect::<Vec<_>>();
        steps.push(step!(
            "DELETE FROM cancellations x USING unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS t (identity, execution, call)
             WHERE x.epoch = $1 AND x.identity = t.identity AND x.execution = t.execution AND x.call = t.call",
            epoch,
            want.cancelled.iter().map(|id| id.execution.identity.0).collect::<Vec<_>>(),
            column(&|id| int(id.execution.number)),
            column(&|id| int(id.call.0)),
        ));
    }
    steps.push(step!(
        "DELETE FROM mail x WHERE x.owner = $1 AND NOT EXISTS (
             SELECT 1 FROM live l WHERE l.seq = x.instance AND l.owner = x.owner)",
        epoch
    ));
}

/// Reads the instances that the node requests by name, and those that have mail. Owner, last number and messages are those
/// of one snapshot.
fn load<'a>(epoch: i64, want: &'a Want, steps: &mut Vec<Step<'a>>) {
    let ids = |loads: &mut dyn Iterator<Item = &'a Load>| loads.map(|l| l.instance.as_str()).collect::<Vec<_>>();
    steps.push(step!(MAIL, epoch, ids(&mut want.load.iter())));
    if want.load.is_empty() {
        return;
    }
    let heard: Vec<Option<i64>> = want.load.iter().map(|load| load.heard.map(int)).collect();
    steps.push(step!(LOADED, epoch, ids(&mut want.load.iter()), heard));
    steps.push(step!(LOADED_HISTORY, epoch, ids(&mut want.load.iter().filter(|load| load.heard.is_none()))));
}

/// Returns a claim whose answer was lost once more.
async fn repeat(
    connection: &Connection,
    epoch: i64,
    claim: u64,
    want: &Want,
    acquired: &mut Acquired,
) -> Result<(), Fault> {
    let claim_number = int(claim);
    let answers = connection
        .run(&[
            step!(CLAIMED_BEFORE, epoch, claim_number),
            step!(HISTORY_BEFORE, epoch, claim_number),
            step!(RUN_BEFORE, epoch, claim_number),
            step!(SCHEDULED_BEFORE, epoch, claim_number),
        ])
        .await?;
    let [claimed, histories, run, scheduled] = &answers[..] else {
        return Err(Fault::Unreadable("a repeated claim has other answers".to_owned()));
    };
    for instance in instances(claimed, histories, |_| true)? {
        // Each instance is returned once: replace the part of it that the node requested or that has mail.
        acquired.instances.retain(|other| other.execution.instance != instance.execution.instance);
        acquired.instances.push(instance);
    }
    acquired.activities = activities(run, scheduled)?;
    acquired.claim = claim;
    // The node sends its next request at once, which claims new items.
    acquired.next_due = Some(want.now);
    Ok(())
}

/// Reads instances, from rows of one message each, in the order of the rows.
fn instances(
    rows: &[Row],
    histories: &[Row],
    is_whole: impl Fn(&InstanceId) -> bool,
) -> Result<Vec<AcquiredInstance>, Fault> {
    type Messages = Vec<(DeliveryKey<i64>, MessageRow)>;
    let mut found: Vec<(i64, AcquiredInstance, Messages)> = Vec::new();
    let mut places: HashMap<i64, usize> = HashMap::new();
    for row in rows {
        let seq: i64 = row.try_get("seq")?;
        let place = match places.get(&seq) {
            Some(place) => *place,
            None => {
                found.push((seq, instance(row)?, Vec::new()));
                places.insert(seq, found.len() - 1);
                found.len() - 1
            }
        };
        found[place].2.extend(rows::message(row, seq)?);
    }
    let mut pages: HashMap<i64, Vec<EventRow>> = HashMap::new();
    for row in histories {
        pages.entry(row.try_get("seq")?).or_default().extend(events::unpack(row)?);
    }
    let finish = |(seq, mut instance, messages): (i64, AcquiredInstance, Messages)| {
        instance.messages = in_order(messages);
        if is_whole(&instance.execution.instance) {
            let events = pages.remove(&seq).unwrap_or_default();
            let more = events.last().map_or(EventId(0), |event| event.id) < instance.last_event;
            instance.history = HistoryPage { events, more };
        }
        instance
    };
    Ok(found.into_iter().map(finish).collect())
}

/// Reads an instance without its messages and its history.
fn instance(row: &Row) -> Result<AcquiredInstance, Fault> {
    Ok(AcquiredInstance {
        execution: execution(row)?,
        name: row.try_get("name")?,
        version: version(row, "version")?,
        last_event: EventId(natural(row, "last_event")?),
        arrivals: natural(row, "arrivals")?,
        messages: Vec::new(),
        history: HistoryPage { events: Vec::new(), more: true },
        claim: natural(row, "claim")?,
        crashes: crashes(row)?,
        suspect: row.try_get("suspect")?,
    })
}

/// Reads an instance to be terminated.
fn ending(row: &Row) -> Result<Option<Ending>, Fault> {
    let message = rows::message(row, row.try_get("seq")?)?;
    message.map(|(_, message)| Ok(Ending { execution: execution(row)?, message })).transpose()
}

fn crashes(row: &Row) -> Result<u32, Fault> {
    Ok(row.try_get::<_, i32>("crashes")?.max(0).unsigned_abs())
}

fn activity_id(row: &Row) -> Result<ActivityId, Fault> {
    Ok(ActivityId { execution: execution(row)?, call: CallId(natural(row, "call")?) })
}

/// Reads activities, with the events that scheduled them.
fn activities(rows: &[Row], scheduled: &[Row]) -> Result<Vec<AcquiredActivity>, Fault> {
    let mut events: BTreeMap<(i64, i64, u64), EventRow> = BTreeMap::new();
    for row in scheduled {
        let (instance, execution) = (row.try_get("instance")?, row.try_get("execution")?);
        let unpacked = events::unpack(row)?;
        events.extend(unpacked.into_iter().map(|event| ((instance, execution, event.id.0), event)));
    }
    let read = |row: &Row| {
        let number = natural(row, "scheduled")?;
        let key = (row.try_get("instance")?, row.try_get("execution")?, number);
        let mut scheduled = events.get(&key).cloned();
        let headers = text_map(row, "headers").unwrap_or_else(|fault| {
            scheduled = Some(events::damaged(number, fault.reason()));
            duroxide::history::TextMap::new()
        });
        Ok(AcquiredActivity {
            id: activity_id(row)?,
            attempt: u32::try_from(row.try_get::<_, i64>("attempt")?).unwrap_or(u32::MAX),
            claim: natural(row, "claim")?,
            crashes: crashes(row)?,
            suspect: row.try_get("suspect")?,
            scheduled: scheduled.unwrap_or_else(|| events::damaged(number, "the event is missing".to_owned())),
            headers,
        })
    };
    rows.iter().map(read).collect()
}

/// Returns the requested orchestrations as two columns.
fn orchestrations(want: &Want) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<&str> = want.orchestrations.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let unpinned = names.into_iter().map(|name| (name.to_owned(), String::new()));
    let pinned = want.orchestrations.iter().map(|(name, version)| (name.clone(), version.to_string()));
    unpinned.chain(pinned).unzip()
}

/// Returns the requested tags, each once. `None`: all.
fn tags(want: &Want) -> Option<Vec<String>> {
    let tags: Option<BTreeSet<String>> = want.tags.as_ref().map(|tags| tags.iter().cloned().collect());
    tags.map(|tags| tags.into_iter().collect())
}
