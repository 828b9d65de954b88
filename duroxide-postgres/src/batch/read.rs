//! Locks and reads the rows of a batch.
//!
//! The order of the statements is that of the locks: members, epochs, ids of instances, live instances by id, activities
//! by key. A statement's snapshot is older than a lock that it waits for, so each question about a locked row is asked by a
//! later statement. A batch of several entries never waits for a row: an entry whose rows are locked by another
//! transaction is put aside.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use duroxide::id::{ActivityId, CallId, CommitId, Epoch, EventId, InstanceId, MessageId, NodeId};
use duroxide::provider::InstanceStatus;
use tokio_postgres::Row;

use super::model::{Activity, CrashRecord, DedupEntry, Instance, Known, Model, Origin, Reserved, RowState};
use super::scope::{Creation, Scope};
use crate::connect::{Connection, Step, step};
use crate::fault::Fault;
use crate::rollout::KnownCode;
use crate::rows::{
    self, epoch, execution, identity, instance_id, int, natural, optional, status, status_of, text_map, text_map_json,
    time, waits,
};

/// The key of the advisory lock on the members. Those of epochs are not negative; -1 is that of migrations.
pub(crate) const MEMBERS: i32 = -2;

/// Returns the key of the advisory lock on an epoch.
pub(crate) fn epoch_key(epoch: Epoch) -> i32 {
    let low = u32::try_from(epoch.0 & 0x7fff_ffff).unwrap_or_default();
    low.cast_signed()
}

macro_rules! live_columns {
    () => {
        "SELECT l.seq, l.id, l.identity, l.name, l.version, l.execution, l.last_event, l.owner, l.claim, l.arrivals, l.stored,
             l.crashes, l.alone, l.suspect, l.lost_by, l.suspended, l.rejected, l.updated_at, l.last_commit,
             l.waits, l.waits_since, l.waits_until, l.cause
         FROM live l WHERE l.id = ANY ($1::text[])"
    };
}

const LOCK_LIVE: &str = concat!(live_columns!(), " ORDER BY l.id FOR NO KEY UPDATE SKIP LOCKED");
const WAIT_FOR_LIVE: &str = concat!(live_columns!(), " ORDER BY l.id FOR NO KEY UPDATE");
const READ_LIVE: &str = live_columns!();

/// Reserves ids. The numbers follow the order of the entries; the order of the inserts, which wait for those of other
/// transactions, is that of the ids.
const RESERVE: &str = "
    WITH new AS MATERIALIZED (
        SELECT nextval('arrivals') AS seq, t.*
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::uuid[],
            $9::bigint[], $10::bigint[])
            AS t (id, identity, name, version, time, labels, parent, parent_identity, parent_execution, parent_call))
    INSERT INTO instances (seq, id, identity, name, version, created_at, updated_at, labels, parent, parent_identity,
        parent_execution, parent_call)
    SELECT seq, id, identity, name, version, time, time, labels, parent, parent_identity, parent_execution, parent_call
    FROM new ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id, seq, identity";

const READ_FINISHED: &str = "
    SELECT seq, id, identity, name, version, status, execution, last_event, updated_at, finished_at, last_commit, cause
    FROM instances i WHERE id = ANY ($1::text[]) AND NOT EXISTS (SELECT 1 FROM live l WHERE l.seq = i.seq)";

const READ_MESSAGES: &str = "
    SELECT l.id, m.id AS message, m.number, m.execution, m.call, m.visible_at IS NOT NULL AS delayed, m.sent, m.lane = 0 AS start
    FROM unnest($1::text[], $2::uuid[]) AS t (instance, id) JOIN live l ON l.id = t.instance
    JOIN messages m ON m.instance = l.seq AND m.id = t.id";

macro_rules! activity_columns {
    ($from:literal) => {
        concat!(
            "SELECT i.id, i.identity, a.instance, a.execution, a.call, a.name, a.tag, a.scheduled, a.detached, a.headers,
                 a.attempt, a.ready_at, a.owner, a.claim, a.crashes, a.alone, a.suspect, a.lost_by, a.rejected, a.parked,
                 a.cause, a.other_cause
             FROM ",
            $from
        )
    };
}
macro_rules! by_call {
    () => {
        activity_columns!(
            "unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[]) AS t (id, identity, execution, call)
             JOIN instances i ON i.id = t.id AND i.identity = t.identity
             JOIN activities a ON a.instance = i.seq AND a.execution = t.execution AND a.call = t.call"
        )
    };
}
macro_rules! by_execution {
    () => {
        activity_columns!(
            "unnest($1::text[], $2::uuid[], $3::bigint[]) AS t (id, identity, execution)
             JOIN instances i ON i.id = t.id AND i.identity = t.identity
             JOIN activities a ON a.instance = i.seq AND a.execution = t.execution"
        )
    };
}
macro_rules! parked {
    () => {
        activity_columns!(
            "unnest($1::text[]) AS t (id) JOIN instances i ON i.id = t.id JOIN activities a ON a.instance = i.seq AND a.parked"
        )
    };
}
macro_rules! waiting {
    () => {
        activity_columns!(
            "unnest($1::text[]) AS t (id) JOIN instances i ON i.id = t.id
             JOIN activities a ON a.instance = i.seq AND a.owner IS NULL AND NOT a.parked"
        )
    };
}
macro_rules! locking {
    ($find:ident) => {
        (
            concat!($find!(), " ORDER BY a.instance, a.execution, a.call FOR UPDATE OF a SKIP LOCKED"),
            concat!($find!(), " ORDER BY a.instance, a.execution, a.call FOR UPDATE OF a"),
            $find!(),
        )
    };
}
/// Statements that lock without waiting, that lock and wait, and that only read.
type Locking = (&'static str, &'static str, &'static str);
const BY_CALL: Locking = locking!(by_call);
const BY_EXECUTION: Locking = locking!(by_execution);
const PARKED: Locking = locking!(parked);
const WAITING: Locking = locking!(waiting);

const READ_DELAYED_STARTS: &str = "
    SELECT l.id, m.id AS message, m.visible_at FROM live l JOIN messages m ON m.instance = l.seq
    WHERE l.id = ANY ($1::text[]) AND m.lane = 0 AND m.visible_at IS NOT NULL";

const READ_REJECTIONS: &str = "
    SELECT i.id, i.identity, x.execution, x.call, x.build
    FROM unnest($1::text[]) AS t (id) JOIN instances i ON i.id = t.id JOIN rejections x ON x.instance = i.seq";

/// The part of the model that the rows of a statement belong to.
enum Part {
    Nothing,
    Reserved,
    Locked,
    Live,
    Messages,
    LockedActivities,
    Activities,
    DelayedStarts,
    Dedup,
    Rejections,
    Members,
}

/// The rows of a batch, and the items that other transactions have locked.
pub(super) struct Read {
    pub(super) model: Model,
    locked_elsewhere: HashSet<InstanceId>,
    activities_elsewhere: HashSet<ActivityId>,
    unread: HashSet<InstanceId>,
}

impl Read {
    /// Returns true if a row of the entry is locked by another transaction, or was removed in the meantime.
    pub(super) fn is_aside(&self, scope: &Scope<'_>) -> bool {
        let executions: BTreeSet<_> = scope.ending.iter().collect();
        scope.locks.iter().any(|id| self.locked_elsewhere.contains(id))
            || scope.reads.iter().any(|id| self.unread.contains(id))
            || scope.activities.iter().any(|id| self.activities_elsewhere.contains(id))
            || self.activities_elsewhere.iter().any(|id| {
                let instance = &id.execution.instance;
                executions.contains(&id.execution) || scope.resumed.contains(instance) || scope.woken.contains(instance)
            })
    }
}

/// The way in which the rows of a batch are read.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// The first statement begins the transaction.
    pub(super) begins: bool,
    /// The batch is one of the slow lane, which waits for locks.
    pub(super) waits: bool,
}

/// Locks and reads the rows of a batch.
pub(super) async fn read(
    connection: &Connection,
    lock_class: i32,
    code: &KnownCode,
    scope: &Scope<'_>,
    mode: Mode,
) -> Result<Read, Fault> {
    let (steps, parts): (Vec<_>, Vec<_>) = steps(lock_class, code, scope, mode).into_iter().unzip();
    let answers = connection.run(&steps).await?;
    drop(steps);
    let mut reader = Reader::default();
    for (part, rows) in parts.iter().zip(&answers) {
        reader.add(part, rows, code)?;
    }
    let missing = reader.missing(scope);
    if !missing.is_empty() {
        let ids: Vec<&str> = missing.iter().map(InstanceId::as_str).collect();
        let rows = connection.query(step!(READ_FINISHED, ids)).await?;
        rows.iter().try_for_each(|row| reader.add_finished(row))?;
    }
    Ok(reader.finish(scope))
}

fn distinct(ids: &[InstanceId]) -> Vec<&str> {
    let ids: BTreeSet<_> = ids.iter().map(InstanceId::as_str).collect();
    ids.into_iter().collect()
}

fn steps<'a>(lock_class: i32, code: &KnownCode, scope: &'a Scope<'_>, mode: Mode) -> Vec<(Step<'a>, Part)> {
    let Mode { begins, waits } = mode;
    let mut steps = Vec::new();
    if begins {
        steps.push((step!("BEGIN"), Part::Nothing));
    }
    if !scope.rejected.is_empty() {
        let lock = "SELECT pg_advisory_xact_lock_shared($1, $2)";
        steps.push((step!(lock, lock_class, MEMBERS), Part::Nothing));
    }
    if !scope.epochs.is_empty() {
        let keys: BTreeSet<i32> = scope.epochs.iter().map(|epoch| epoch_key(*epoch)).collect();
        let keys: Vec<i32> = keys.into_iter().collect();
        let lock = "SELECT pg_advisory_xact_lock_shared($1, k) FROM unnest($2::integer[]) AS t (k)";
        steps.push((step!(lock, lock_class, keys), Part::Nothing));
    }
    steps.extend(reserve(&scope.creations).map(|step| (step, Part::Reserved)));
    if !scope.kept.is_empty() {
        let keep = "SELECT 1 FROM instances WHERE id = ANY ($1::text[]) ORDER BY id FOR KEY SHARE";
        steps.push((step!(keep, distinct(&scope.kept)), Part::Nothing));
    }
    if !scope.locks.is_empty() {
        let lock = if waits { WAIT_FOR_LIVE } else { LOCK_LIVE };
        steps.push((step!(lock, distinct(&scope.locks)), Part::Locked));
    }
    let mut looked = distinct(&scope.locks);
    looked.extend(scope.reads.iter().map(InstanceId::as_str));
    if !looked.is_empty() {
        steps.push((step!(READ_LIVE, looked), Part::Live));
    }
    lock_activities(scope, waits, &mut steps);
    if !scope.messages.is_empty() {
        let instances: Vec<&str> = scope.messages.iter().map(|(instance, _)| instance.as_str()).collect();
        let ids: Vec<_> = scope.messages.iter().map(|(_, id)| *id).collect();
        steps.push((step!(READ_MESSAGES, instances, ids), Part::Messages));
    }
    if !scope.dedup.is_empty() {
        let find = "SELECT id, refused FROM dedup WHERE id = ANY ($1::uuid[])";
        steps.push((step!(find, &scope.dedup), Part::Dedup));
    }
    if !scope.rejected.is_empty() {
        steps.push((step!(READ_REJECTIONS, distinct(&scope.rejected)), Part::Rejections));
    }
    if scope.needs_members {
        steps.push((code.list(), Part::Members));
    }
    steps
}

fn reserve<'a>(creations: &'a [Creation<'_>]) -> Option<Step<'a>> {
    let mut seen = HashSet::new();
    // An id that is only kept is reserved unless an entry creates it.
    let ordered = creations.iter().filter(|c| c.new.is_some()).chain(creations.iter().filter(|c| c.new.is_none()));
    let chosen: Vec<_> = ordered.filter(|creation| seen.insert(creation.id)).collect();
    if chosen.is_empty() {
        return None;
    }
    let parent = |creation: &Creation<'a>| creation.new.and_then(|new| new.parent.as_ref());
    Some(step!(
        RESERVE,
        chosen.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
        chosen.iter().map(|c| c.identity().0).collect::<Vec<_>>(),
        chosen.iter().map(|c| c.new.map_or("", |new| new.name.as_str())).collect::<Vec<_>>(),
        chosen.iter().map(|c| c.new?.version.as_ref().map(ToString::to_string)).collect::<Vec<_>>(),
        chosen.iter().map(|c| c.time.as_micros()).collect::<Vec<_>>(),
        chosen.iter().map(|c| text_map_json(&c.new?.labels)).collect::<Vec<_>>(),
        chosen.iter().map(|c| Some(parent(c)?.execution.instance.as_str())).collect::<Vec<_>>(),
        chosen.iter().map(|c| Some(parent(c)?.execution.identity.0)).collect::<Vec<_>>(),
        chosen.iter().map(|c| Some(int(parent(c)?.execution.number))).collect::<Vec<_>>(),
        chosen.iter().map(|c| Some(int(parent(c)?.call.0))).collect::<Vec<_>>(),
    ))
}

fn lock_activities<'a>(scope: &'a Scope<'_>, waits: bool, steps: &mut Vec<(Step<'a>, Part)>) {
    let lock = |locking: Locking| if waits { locking.1 } else { locking.0 };
    if !scope.activities.is_empty() {
        let ids = || scope.activities.iter().map(|a| a.execution.instance.as_str()).collect::<Vec<_>>();
        let identities = || scope.activities.iter().map(|a| a.execution.identity.0).collect::<Vec<_>>();
        let numbers = || scope.activities.iter().map(|a| int(a.execution.number)).collect::<Vec<_>>();
        let calls = || scope.activities.iter().map(|a| int(a.call.0)).collect::<Vec<_>>();
        steps.push((step!(lock(BY_CALL), ids(), identities(), numbers(), calls()), Part::LockedActivities));
        steps.push((step!(BY_CALL.2, ids(), identities(), numbers(), calls()), Part::Activities));
    }
    if !scope.ending.is_empty() {
        let ids = || scope.ending.iter().map(|e| e.instance.as_str()).collect::<Vec<_>>();
        let identities = || scope.ending.iter().map(|e| e.identity.0).collect::<Vec<_>>();
        let numbers = || scope.ending.iter().map(|e| int(e.number)).collect::<Vec<_>>();
        steps.push((step!(lock(BY_EXECUTION), ids(), identities(), numbers()), Part::LockedActivities));
        steps.push((step!(BY_EXECUTION.2, ids(), identities(), numbers()), Part::Activities));
    }
    if !scope.resumed.is_empty() {
        steps.push((step!(lock(PARKED), distinct(&scope.resumed)), Part::LockedActivities));
        steps.push((step!(PARKED.2, distinct(&scope.resumed)), Part::Activities));
    }
    if !scope.woken.is_empty() {
        steps.push((step!(lock(WAITING), distinct(&scope.woken)), Part::LockedActivities));
        steps.push((step!(WAITING.2, distinct(&scope.woken)), Part::Activities));
        steps.push((step!(READ_DELAYED_STARTS, distinct(&scope.woken)), Part::DelayedStarts));
    }
}

/// Collects the answers.
#[derive(Default)]
struct Reader {
    model: Model,
    locked: HashSet<InstanceId>,
    there: HashSet<InstanceId>,
    activities: HashSet<ActivityId>,
    messages: HashMap<InstanceId, Vec<(MessageId, Known)>>,
    rejections: Vec<(ActivityId, String)>,
}

impl Reader {
    fn add(&mut self, part: &Part, rows: &[Row], code: &KnownCode) -> Result<(), Fault> {
        if matches!(part, Part::Members) {
            self.model.members = code.members(rows)?;
            return Ok(());
        }
        rows.iter().try_for_each(|row| match part {
            Part::Nothing | Part::Members => Ok(()),
            Part::Reserved => self.add_reserved(row),
            Part::Locked => self.add_live(row, true),
            Part::Live => self.add_live(row, false),
            Part::Messages => self.add_message(row),
            Part::LockedActivities => self.add_activity(row),
            Part::Activities => {
                self.activities.insert(activity_id(row)?);
                Ok(())
            }
            Part::DelayedStarts => {
                let start = (MessageId(row.try_get("message")?), time(row, "visible_at")?);
                self.model.delayed_starts.insert(instance_id(row, "id")?, start);
                Ok(())
            }
            Part::Dedup => self.add_dedup(row),
            Part::Rejections => {
                self.rejections.push((activity_id(row)?, row.try_get("build")?));
                Ok(())
            }
        })
    }

    fn add_reserved(&mut self, row: &Row) -> Result<(), Fault> {
        let reserved = Reserved { seq: row.try_get("seq")?, identity: identity(row, "identity")?, is_used: false };
        self.model.reserved.insert(instance_id(row, "id")?, reserved);
        Ok(())
    }

    fn add_live(&mut self, row: &Row, is_locked: bool) -> Result<(), Fault> {
        let id = instance_id(row, "id")?;
        if is_locked {
            self.locked.insert(id.clone());
        } else {
            self.there.insert(id.clone());
        }
        // A row that is locked was read by the statement that locked it.
        if let Entry::Vacant(vacant) = self.model.instances.entry(id) {
            vacant.insert(live(row)?);
        }
        Ok(())
    }

    fn add_finished(&mut self, row: &Row) -> Result<(), Fault> {
        let instance = Instance {
            status: status(row, "status")?,
            finished_at: rows::optional_time(row, "finished_at")?,
            origin: Origin::Finished,
            ..basis(row)?
        };
        // A row that is neither live nor finished belongs to a transaction that began in between.
        if instance.status.is_finished() {
            self.model.instances.insert(instance_id(row, "id")?, instance);
        }
        Ok(())
    }

    fn add_message(&mut self, row: &Row) -> Result<(), Fault> {
        let known = Known {
            number: optional(row, "number")?,
            execution: optional(row, "execution")?,
            call: optional(row, "call")?.map(CallId),
            is_delayed: row.try_get("delayed")?,
            sent: row.try_get("sent")?,
            is_start: row.try_get("start")?,
            new: None,
        };
        let id = MessageId(row.try_get("message")?);
        self.messages.entry(instance_id(row, "id")?).or_default().push((id, known));
        Ok(())
    }

    fn add_activity(&mut self, row: &Row) -> Result<(), Fault> {
        let activity = Activity {
            seq: row.try_get("instance")?,
            name: row.try_get("name")?,
            tag: row.try_get("tag")?,
            scheduled: EventId(natural(row, "scheduled")?),
            detached: row.try_get("detached")?,
            headers: text_map(row, "headers").unwrap_or_default(),
            attempt: u32::try_from(row.try_get::<_, i64>("attempt")?).unwrap_or(u32::MAX),
            ready_at: row.try_get("ready_at")?,
            owner: epoch(row, "owner")?,
            claim: natural(row, "claim")?,
            crashes: crashes(row)?,
            rejected: row.try_get("rejected")?,
            rejected_by: HashSet::new(),
            parked: row.try_get("parked")?,
            cause: row.try_get("cause")?,
            other_cause: row.try_get("other_cause")?,
            state: RowState::Stored,
        };
        self.model.activities.insert(activity_id(row)?, activity);
        Ok(())
    }

    fn add_dedup(&mut self, row: &Row) -> Result<(), Fault> {
        let refused: Option<&str> = row.try_get("refused")?;
        let entry = refused.map_or(DedupEntry::Done, |found| DedupEntry::Refused(status_of(found)));
        self.model.dedup.insert(row.try_get("id")?, entry);
        Ok(())
    }

    /// Returns the named instances that are neither live nor created by the batch.
    fn missing(&self, scope: &Scope<'_>) -> HashSet<InstanceId> {
        let named = scope.locks.iter().chain(&scope.reads);
        let is_missing =
            |id: &&InstanceId| !self.model.instances.contains_key(*id) && !self.model.reserved.contains_key(*id);
        named.filter(is_missing).cloned().collect()
    }

    fn finish(mut self, scope: &Scope<'_>) -> Read {
        let locks: HashSet<_> = scope.locks.iter().collect();
        let elsewhere = self.there.iter().filter(|id| locks.contains(id) && !self.locked.contains(*id));
        let locked_elsewhere = elsewhere.cloned().collect();
        let creations = scope.creations.iter().map(|creation| creation.id);
        self.model.taken = creations.filter(|id| !self.model.reserved.contains_key(*id)).cloned().collect();
        // An id that could not be reserved, and whose instance could not be read: it was removed in between.
        let is_known = |id: &InstanceId| self.model.instances.contains_key(id);
        let unread = scope.reads.iter().filter(|id| self.model.taken.contains(*id) && !is_known(id));
        let unread = unread.cloned().collect();
        for (id, messages) in self.messages {
            if let Some(instance) = self.model.instances.get_mut(&id) {
                instance.messages.extend(messages);
            }
        }
        for (id, build) in self.rejections {
            if id.execution.number == 0 {
                if let Some(instance) = self.model.instances.get_mut(&id.execution.instance) {
                    instance.rejected_by.insert(build);
                }
            } else if let Some(activity) = self.model.activities.get_mut(&id) {
                activity.rejected_by.insert(build);
            }
        }
        let known = &self.model.activities;
        let activities_elsewhere = self.activities.into_iter().filter(|id| !known.contains_key(id)).collect();
        Read { model: self.model, locked_elsewhere, activities_elsewhere, unread }
    }
}

fn activity_id(row: &Row) -> Result<ActivityId, Fault> {
    Ok(ActivityId { execution: execution(row)?, call: CallId(natural(row, "call")?) })
}

pub(super) fn crashes(row: &Row) -> Result<CrashRecord, Fault> {
    Ok(CrashRecord {
        crashes: row.try_get("crashes")?,
        alone: row.try_get("alone")?,
        suspect: row.try_get("suspect")?,
        lost_by: row.try_get::<_, Option<_>>("lost_by")?.map(NodeId),
    })
}

/// Reads the columns that `live` and `instances` share.
fn basis(row: &Row) -> Result<Instance, Fault> {
    let (name, version) = (row.try_get("name")?, row.try_get("version")?);
    Ok(Instance {
        execution: natural(row, "execution")?,
        last_event: EventId(natural(row, "last_event")?),
        last_commit: row.try_get::<_, Option<_>>("last_commit")?.map(CommitId),
        cause: row.try_get("cause")?,
        origin: Origin::Finished,
        ..Instance::new(row.try_get("seq")?, identity(row, "identity")?, name, version, time(row, "updated_at")?)
    })
}

fn live(row: &Row) -> Result<Instance, Fault> {
    let status = if row.try_get("suspended")? { InstanceStatus::Suspended } else { InstanceStatus::Running };
    Ok(Instance {
        status,
        owner: epoch(row, "owner")?,
        claim: natural(row, "claim")?,
        arrivals: natural(row, "arrivals")?,
        stored: row.try_get("stored")?,
        crashes: crashes(row)?,
        suspension: row.try_get("rejected")?,
        waits: waits(row)?,
        origin: Origin::Live(status),
        ..basis(row)?
    })
}
