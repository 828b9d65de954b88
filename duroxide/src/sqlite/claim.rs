//! Claims: the items of an answer that become owned.

use super::free::{self, Free, FreeActivity, FreeInstance};
use super::pauses;
use super::rows::{ActivityKey, activity_key, int};
use super::sql::Sql;
use super::tx::Tx;
use crate::clock::Timestamp;
use crate::provider::{Lease, Want};

/// Free instances and activities, found but not yet claimed.
#[derive(Clone)]
pub(super) struct Claims {
    lease: Lease,
    /// The previous claim of the lease.
    last: u64,
    alone: bool,
    /// The time of the request.
    now: Timestamp,
    instances: Vec<FreeInstance>,
    activities: Vec<FreeActivity>,
}

impl Claims {
    pub(super) fn new(lease: Lease, want: &Want) -> Self {
        Self { lease, last: want.claim, alone: false, now: want.now, instances: Vec::new(), activities: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.activities.is_empty()
    }

    pub(super) fn epoch(&self) -> i64 {
        int(self.lease.epoch.0)
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = i64> {
        self.instances.iter().map(|instance| instance.seq)
    }

    pub(super) fn activities(&self) -> impl Iterator<Item = ActivityKey> {
        self.activities.iter().map(|activity| activity.key)
    }

    /// Finds the requested number of items, oldest first. Returns the time at which another item is due, if there is
    /// one. `has_tagged`: an activity in the queue has a tag.
    pub(super) fn find(&mut self, sql: &Sql, want: &Want, has_tagged: bool) -> rusqlite::Result<Option<Timestamp>> {
        let mut next_due = None;
        let mut rest = |since: Timestamp| next_due = next_due.into_iter().chain([since]).min();
        let free = Free::new(sql, self.lease.epoch, want, has_tagged);
        let mut instances = match want.instances {
            0 => Vec::new(),
            limit => free.instances(limit.saturating_add(1))?,
        };
        instances.sort_by_key(|instance| instance.since);
        let due = instances.partition_point(|instance| instance.since <= want.now).min(want.instances);
        instances.get(due).map(|first| first.since).into_iter().for_each(&mut rest);
        instances.truncate(due);
        self.instances = instances;
        let overdue = free.overdue()?;
        for group in want.activities.iter().filter(|group| group.limit > 0) {
            let mut activities = Vec::new();
            for name in &*group.names {
                activities.append(&mut free.activities(name, group.limit.saturating_add(1))?);
            }
            activities.retain(|activity| overdue.iter().all(|(_, overdue)| overdue.key != activity.key));
            let requested = overdue.iter().filter(|(name, _)| group.names.contains(name));
            activities.extend(requested.map(|(_, activity)| activity.clone()));
            sort(&mut activities);
            let due = activities.partition_point(|activity| activity.since <= want.now).min(group.limit);
            activities.get(due).map(|first| first.since).into_iter().for_each(&mut rest);
            self.activities.extend(activities.into_iter().take(due));
        }
        sort(&mut self.activities);
        Ok(next_due)
    }

    /// Finds the oldest due item in quarantine. If there is none, returns the time at which one becomes due.
    pub(super) fn find_quarantined(&mut self, sql: &Sql, want: &Want) -> rusqlite::Result<Option<Timestamp>> {
        if !free::any_quarantined(sql)? {
            return Ok(None);
        }
        let free = Free::quarantined(sql, self.lease.epoch, want);
        let instances = if want.instances > 0 { free.instances(1)? } else { Vec::new() };
        let instance = instances.into_iter().min_by_key(|instance| instance.since);
        let mut activities = Vec::new();
        for name in want.activities.iter().filter(|group| group.limit > 0).flat_map(|group| &*group.names) {
            activities.append(&mut free.activities(name, 1)?);
        }
        let activity = activities.into_iter().min_by_key(|activity| activity.since);
        let times = [instance.as_ref().map(|i| i.since), activity.as_ref().map(|a| a.since)];
        self.instances.extend(instance.filter(|instance| instance.since <= want.now));
        let is_due = |activity: &FreeActivity| activity.since <= want.now;
        self.activities.extend(activity.filter(|activity| self.instances.is_empty() && is_due(activity)));
        self.alone = !self.is_empty();
        Ok(times.into_iter().flatten().min().filter(|_| !self.alone))
    }

    /// Finds the items of an earlier claim that the lease still owns.
    pub(super) fn repeat(&mut self, sql: &Sql, claim: u64) -> rusqlite::Result<()> {
        let params = (self.epoch(), int(claim));
        let instances = "SELECT seq FROM duroxide_instances WHERE owner = ?1 AND claim = ?2";
        let since = Timestamp::from_micros(0);
        self.instances = sql.rows(instances, params, |row| {
            Ok(FreeInstance { since, seq: row.get(0)?, name: String::new(), version: None, paused: false })
        })?;
        let activities = concat!(
            "SELECT ",
            activity_key::list!(),
            " FROM duroxide_activities a WHERE a.owner = ?1 AND a.claim = ?2"
        );
        self.activities = sql.rows(activities, params, |row| Ok(FreeActivity { since, key: activity_key(row)? }))?;
        Ok(())
    }

    /// Claims the items that are still free, and drops the others. Returns the number of the claim, or `None` if the
    /// lease has ended or has made another claim in the meantime.
    pub(super) fn take(mut self, tx: &mut Tx<'_>) -> rusqlite::Result<Option<(u64, Self)>> {
        let (epoch, alone, claim, now) = (self.epoch(), self.alone, int(self.last + 1), self.now.as_micros());
        let count = "UPDATE duroxide_nodes SET claim = ?2 WHERE epoch = ?1 AND claim = ?3";
        if tx.sql.run(count, (epoch, claim, int(self.last)))? == 0 {
            return Ok(None);
        }
        let mut failed = Ok(());
        let mut took = |changed: rusqlite::Result<usize>| match changed {
            Ok(rows) => rows > 0,
            Err(error) => {
                failed = Err(error);
                false
            }
        };
        self.instances.retain(|instance| {
            if instance.paused {
                // The pause may have been prolonged, or ended by a client, since the instance was found.
                let update = "UPDATE duroxide_instances SET owner = ?1, claim = ?2, alone = ?3, ready_at = NULL
                    WHERE seq = ?4 AND owner IS NULL AND ready_at <= ?5 AND status = 'suspended' AND paused IS NOT NULL";
                return took(tx.sql.run(update, (epoch, claim, alone, instance.seq, now)));
            }
            let update = "UPDATE duroxide_instances SET owner = ?1, claim = ?2, alone = ?3, ready_at = NULL
                WHERE seq = ?4 AND owner IS NULL AND ready_at IS NOT NULL AND name = ?5 AND version IS ?6
                    AND status = 'running'";
            took(tx.sql.run(update, (epoch, claim, alone, instance.seq, &instance.name, &instance.version)))
        });
        self.activities.retain(|activity| {
            let update = "UPDATE duroxide_activities SET owner = ?1, claim = ?2, alone = ?3
                WHERE instance = ?4 AND execution = ?5 AND call = ?6 AND owner IS NULL AND parked IS NULL";
            let (seq, execution, call) = activity.key;
            took(tx.sql.run(update, (epoch, claim, alone, seq, execution, call)))
        });
        failed?;
        for instance in self.instances.iter().filter(|instance| instance.paused) {
            pauses::end(tx, instance.seq)?;
        }
        Ok(Some((self.last + 1, self)))
    }
}

/// Sorts activities, oldest first.
fn sort(activities: &mut [FreeActivity]) {
    activities.sort_by_key(|activity| activity.since);
}
