//! The claim of picked items.

use std::collections::HashMap;

use duroxide::Timestamp;
use duroxide::provider::{Acquired, Lease, Signals, Want};

use super::pick::Picked;
use super::{CLAIMED, CLAIMED_HISTORY, RUN, SCHEDULED, activities, instances};
use crate::batch::epoch_key;
use crate::connect::{Connection, step};
use crate::fault::Fault;
use crate::rows::{instance_id, int};

/// Raises the number of the last claim, and tells the places that are left. Fails if another request of the lease has claimed,
/// or the lease has ended.
const RAISE: &str = "
    WITH raised AS (UPDATE nodes SET claim = $2::bigint, room = $3, permits = $4 WHERE epoch = $1 AND claim = $2::bigint - 1 AND NOT dead RETURNING 1)
    SELECT 1 / count(*)::integer FROM raised";

const OWN: &str = "
    WITH free AS MATERIALIZED (
        SELECT seq FROM live WHERE seq = ANY ($1::bigint[]) AND owner IS NULL AND (NOT suspended OR paused_until <= $5)
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE live l SET owner = $2, claim = $3, alone = $4 FROM free WHERE l.seq = free.seq";

/// Disowns instances that are no longer as they were picked: others have run them before they were locked.
const DISOWN: &str = "
    UPDATE live l SET owner = NULL, claim = 0, alone = false FROM unnest($1::bigint[], $4::text[]) AS t (seq, version)
    WHERE l.seq = t.seq AND l.owner = $2 AND l.claim = $3 AND NOT EXISTS (
        SELECT 1 FROM ready r
        WHERE r.seq = t.seq AND r.version = t.version AND r.ready_at <= $5 AND (r.crashes >= 3 AND NOT r.suspect) = $6)";

/// Resumes the claimed instances whose pauses have ended. All builds may try them.
const END_PAUSES: &str = "
    WITH ended AS (
        UPDATE live SET suspended = false, paused = NULL, paused_until = NULL, rejected = NULL, cause = NULL, crashes = 0,
            suspect = false, updated_at = $4
        WHERE seq = ANY ($1::bigint[]) AND owner = $2 AND claim = $3 AND paused IS NOT NULL RETURNING seq),
    forgotten AS (DELETE FROM rejections x USING ended WHERE x.instance = ended.seq AND x.execution = 0)
    UPDATE instances i SET status = 'running' FROM ended WHERE i.seq = ended.seq RETURNING i.id";

const UNQUEUE: &str = "
    DELETE FROM ready r USING live l
    WHERE r.seq = ANY ($1::bigint[]) AND l.seq = r.seq AND l.owner = $2 AND l.claim = $3";

const OWN_ACTIVITIES: &str = "
    WITH free AS MATERIALIZED (
        SELECT a.instance, a.execution, a.call
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $8::boolean[]) AS t (instance, execution, call, overdue)
        JOIN activities a ON a.instance = t.instance AND a.execution = t.execution AND a.call = t.call
        WHERE a.owner IS NULL AND NOT a.parked AND (t.overdue OR a.ready_at <= $7)
        FOR UPDATE OF a SKIP LOCKED)
    UPDATE activities a SET owner = $4, claim = $5, alone = $6 FROM free
    WHERE a.instance = free.instance AND a.execution = free.execution AND a.call = free.call";

/// A claim of a lease.
pub(super) struct Claim<'a> {
    pub(super) connection: &'a Connection,
    /// The class of the advisory locks.
    pub(super) locks: i32,
    pub(super) lease: Lease,
    pub(super) claim: u64,
    pub(super) want: &'a Want,
    pub(super) latest: Timestamp,
}

impl Claim<'_> {
    /// Claims the picked items, commits, and adds those that no other node has claimed to the answer. Returns the signals of
    /// the transaction.
    pub(super) async fn take(&self, picked: Picked, acquired: &mut Acquired) -> Result<Signals, Fault> {
        let (epoch, claim, now) = (int(self.lease.epoch.0), int(self.claim), self.want.now.as_micros());
        let alone = picked.is_alone;
        // A claim creates ownership: see rule 2 of the contract. The node is looked for once the lock is held.
        let lock = step!("SELECT pg_advisory_xact_lock_shared($1, $2)", self.locks, epoch_key(self.lease.epoch));
        let places = super::places(self.want);
        let left = |places: i32, taken: usize| places.saturating_sub(i32::try_from(taken).unwrap_or(i32::MAX)).max(0);
        let room = left(places.instances, picked.instances.len());
        let permits = left(places.activities, picked.activities.len());
        let mut steps = vec![step!("BEGIN"), lock, step!(RAISE, epoch, claim, room, permits)];
        let seqs: Vec<i64> = picked.instances.iter().map(|instance| instance.seq).collect();
        let has_instances = !seqs.is_empty();
        let has_paused = picked.instances.iter().any(|instance| instance.is_paused);
        let mut claimed_at = 0;
        if has_instances {
            let versions: Vec<&str> = picked.instances.iter().map(|instance| instance.version.as_str()).collect();
            steps.push(step!(OWN, seqs.clone(), epoch, claim, alone, now));
            steps.push(step!(DISOWN, seqs.clone(), epoch, claim, versions, now, alone));
            steps.push(step!(UNQUEUE, seqs.clone(), epoch, claim));
            if has_paused {
                steps.push(step!(END_PAUSES, seqs.clone(), epoch, claim, self.latest.as_micros()));
            }
            claimed_at = steps.len();
            steps.push(step!(CLAIMED, epoch, seqs.clone(), claim));
            steps.push(step!(CLAIMED_HISTORY, epoch, seqs.clone(), claim));
        }
        let column = |value: fn((i64, i64, i64)) -> i64| -> Vec<i64> {
            picked.activities.iter().map(|activity| value(activity.key)).collect()
        };
        let keys = || (column(|key| key.0), column(|key| key.1), column(|key| key.2));
        let has_activities = !picked.activities.is_empty();
        let activities_at = steps.len();
        if has_activities {
            let (instances, executions, calls) = keys();
            let overdue: Vec<bool> = picked.activities.iter().map(|activity| activity.is_overdue).collect();
            steps.push(step!(OWN_ACTIVITIES, instances, executions, calls, epoch, claim, alone, now, overdue));
            let (instances, executions, calls) = keys();
            steps.push(step!(RUN, epoch, instances, executions, calls, claim));
            let (instances, executions, calls) = keys();
            steps.push(step!(SCHEDULED, epoch, instances, executions, calls, claim));
        }
        steps.push(step!("COMMIT"));
        let answers = self.connection.run(&steps).await?;
        let answer = |position: usize| answers.get(position).map(Vec::as_slice).unwrap_or_default();
        if has_instances {
            let mut claimed = instances(answer(claimed_at), answer(claimed_at + 1), |_| true)?;
            let order: HashMap<i64, usize> = seqs.iter().copied().zip(0..).collect();
            let place = |row: &tokio_postgres::Row| {
                Some((row.try_get::<_, String>("id").ok()?, *order.get(&row.try_get("seq").ok()?)?))
            };
            let places: HashMap<String, usize> = answer(claimed_at).iter().filter_map(place).collect();
            claimed.sort_by_key(|instance| places.get(instance.execution.instance.as_str()).copied());
            acquired.instances.extend(claimed);
        }
        if has_activities {
            acquired.activities = activities(answer(activities_at + 1), answer(activities_at + 2))?;
        }
        let mut signals = Signals::default();
        if has_paused {
            let ended = answer(claimed_at - 1).iter().filter_map(|row| instance_id(row, "id").ok());
            ended.for_each(|id| signals.changed(&id));
        }
        Ok(signals)
    }
}
