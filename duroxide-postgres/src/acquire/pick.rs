//! The items without an owner that a node may claim, as far as a request needs to know them.

use std::sync::Arc;

use duroxide::Timestamp;
use duroxide::provider::{QUARANTINE, Want};
use tokio_postgres::Row;

use super::{orchestrations, tags};
use crate::connect::{Step, step};
use crate::fault::Fault;
use crate::rows::{FIRST_TIME, read_ready};

const _: () = assert!(QUARANTINE == 3 && FIRST_TIME == -2305843009213693952, "the statements repeat these numbers");

/// Items that are ready at once sort before all times, so they could fill a limit and hide an older item with a time of its
/// own: both kinds are read.
macro_rules! pick_instances {
    ($condition:literal) => {
        concat!(
            "SELECT r.seq, r.name, r.version, r.ready_at FROM unnest($1::text[], $2::text[]) AS t (name, version)
             CROSS JOIN LATERAL (
                 (SELECT seq, name, version, ready_at FROM ready r
                  WHERE r.name = t.name AND r.version = t.version AND r.ready_at < -2305843009213693952 AND ",
            $condition,
            " AND (NOT r.rejected OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = r.seq AND x.execution = 0 AND x.call = 0 AND n.epoch = $4))
                  ORDER BY r.ready_at LIMIT $3)
                 UNION ALL
                 (SELECT seq, name, version, ready_at FROM ready r
                  WHERE r.name = t.name AND r.version = t.version AND r.ready_at >= -2305843009213693952 AND ",
            $condition,
            " AND (NOT r.rejected OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = r.seq AND x.execution = 0 AND x.call = 0 AND n.epoch = $4))
                  ORDER BY r.ready_at LIMIT $3)) r"
        )
    };
}
const INSTANCES: &str = pick_instances!("(r.crashes < 3 OR r.suspect)");
const QUARANTINED: &str = pick_instances!("r.crashes >= 3 AND NOT r.suspect");

macro_rules! pick_activities {
    ($condition:literal) => {
        concat!(
            "SELECT t.n, a.instance, a.execution, a.call, a.ready_at
             FROM unnest($1::text[], $2::integer[]) AS t (name, n)
             CROSS JOIN LATERAL (
                 (SELECT a.instance, a.execution, a.call, a.ready_at FROM activities a
                  WHERE a.owner IS NULL AND NOT a.parked AND a.name = t.name AND a.ready_at < -2305843009213693952 AND ",
            $condition,
            " AND ($5::text[] IS NULL OR a.tag IS NULL OR a.tag = ANY ($5))
                  AND (a.rejected IS NULL OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = a.instance AND x.execution = a.execution AND x.call = a.call AND n.epoch = $4))
                  ORDER BY a.ready_at LIMIT $3)
                 UNION ALL
                 (SELECT a.instance, a.execution, a.call, a.ready_at FROM activities a
                  WHERE a.owner IS NULL AND NOT a.parked AND a.name = t.name AND a.ready_at >= -2305843009213693952 AND ",
            $condition,
            " AND ($5::text[] IS NULL OR a.tag IS NULL OR a.tag = ANY ($5))
                  AND (a.rejected IS NULL OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = a.instance AND x.execution = a.execution AND x.call = a.call AND n.epoch = $4))
                  ORDER BY a.ready_at LIMIT $3)) a"
        )
    };
}
const ACTIVITIES: &str = pick_activities!("(a.crashes < 3 OR a.suspect)");
const QUARANTINED_ACTIVITIES: &str = pick_activities!("a.crashes >= 3 AND NOT a.suspect");

/// The kinds of items that a request wants to claim.
pub(super) struct Picks {
    instances: bool,
    activities: bool,
    alone: bool,
}

impl Picks {
    /// Returns the picks of a request. `None`: it claims nothing.
    pub(super) fn of(want: &Want) -> Option<Self> {
        let instances = want.instances > 0 && !want.orchestrations.is_empty();
        let activities = want.activities.iter().any(|group| group.limit > 0 && !group.names.is_empty());
        (instances || activities).then_some(Self { instances, activities, alone: want.alone })
    }

    pub(super) fn steps<'a>(&self, epoch: i64, want: &Want) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let (names, versions) = orchestrations(want);
        let limit = |limit: usize| i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        if self.instances {
            steps.push(step!(INSTANCES, names.clone(), versions.clone(), limit(want.instances), epoch));
        }
        let groups = want.activities.iter().zip(0_i32..).filter(|(group, _)| group.limit > 0);
        let names_of = |names: &Arc<[String]>, n| names.iter().map(move |name| (name.clone(), n)).collect::<Vec<_>>();
        let (activities, numbers): (Vec<_>, Vec<_>) = groups.flat_map(|(group, n)| names_of(&group.names, n)).unzip();
        if self.activities {
            let most = want.activities.iter().map(|group| group.limit).max().unwrap_or_default();
            steps.push(step!(ACTIVITIES, activities.clone(), numbers.clone(), limit(most), epoch, tags(want)));
        }
        if self.alone {
            if self.instances {
                steps.push(step!(QUARANTINED, names, versions, 1_i64, epoch));
            }
            if self.activities {
                steps.push(step!(QUARANTINED_ACTIVITIES, activities, numbers, 1_i64, epoch, tags(want)));
            }
        }
        steps
    }
}

/// An instance that may be claimed.
pub(super) struct PickedInstance {
    since: Timestamp,
    pub(super) seq: i64,
    pub(super) version: String,
    name: String,
}

/// An activity that may be claimed.
pub(super) struct PickedActivity {
    since: Timestamp,
    /// The position of its group.
    group: usize,
    /// Its instance, its execution and its call.
    pub(super) key: (i64, i64, i64),
}

/// The items that a request claims, oldest first.
#[derive(Default)]
pub(super) struct Picked {
    pub(super) instances: Vec<PickedInstance>,
    pub(super) activities: Vec<PickedActivity>,
    pub(super) is_alone: bool,
    /// The time at which the next item is due.
    pub(super) next_due: Option<Timestamp>,
}

impl Picked {
    /// Reads the answers to [`Picks::steps`]. `is_outdated`: another member has a later version of an orchestration.
    pub(super) fn read(
        picks: &Picks,
        answers: Vec<Vec<Row>>,
        want: &Want,
        is_outdated: impl Fn(&str) -> bool,
    ) -> Result<Self, Fault> {
        let mut answers = answers.into_iter();
        let mut next = |wanted: bool| if wanted { answers.next().unwrap_or_default() } else { Vec::new() };
        let found = sorted_instances(&next(picks.instances), want.now, &is_outdated)?;
        let activities = sorted_activities(&next(picks.activities), want.now)?;
        if picks.alone {
            let instances = sorted_instances(&next(picks.instances), want.now, &is_outdated)?;
            let activities = sorted_activities(&next(picks.activities), want.now)?;
            if let Some(alone) = Self::alone(instances, activities, want.now) {
                return Ok(alone);
            }
        }
        Ok(Self::within_limits(found, activities, want))
    }

    /// Chooses the oldest due item of those in quarantine.
    fn alone(instances: Vec<PickedInstance>, activities: Vec<PickedActivity>, now: Timestamp) -> Option<Self> {
        let instance = instances.into_iter().find(|picked| picked.since <= now);
        let activity = activities.into_iter().find(|picked| picked.since <= now).filter(|_| instance.is_none());
        let is_empty = instance.is_none() && activity.is_none();
        let (instances, activities) = (instance.into_iter().collect(), activity.into_iter().collect());
        (!is_empty).then_some(Self { instances, activities, is_alone: true, next_due: None })
    }

    fn within_limits(mut instances: Vec<PickedInstance>, activities: Vec<PickedActivity>, want: &Want) -> Self {
        let mut next_due = None;
        let mut rest = |since: Timestamp| next_due = next_due.into_iter().chain([since]).min();
        let due = instances.partition_point(|picked| picked.since <= want.now).min(want.instances);
        instances.get(due).map(|first| first.since).into_iter().for_each(&mut rest);
        instances.truncate(due);
        let mut chosen = Vec::new();
        let mut left: Vec<usize> = want.activities.iter().map(|group| group.limit).collect();
        for picked in activities {
            match left.get_mut(picked.group) {
                Some(left) if *left > 0 && picked.since <= want.now => {
                    *left -= 1;
                    chosen.push(picked);
                }
                _ => rest(picked.since),
            }
        }
        Self { instances, activities: chosen, is_alone: false, next_due }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.activities.is_empty()
    }
}

fn sorted_instances(
    rows: &[Row],
    now: Timestamp,
    is_outdated: &impl Fn(&str) -> bool,
) -> Result<Vec<PickedInstance>, Fault> {
    let read = |row: &Row| {
        Ok(PickedInstance {
            since: read_ready(row.try_get("ready_at")?).since(now),
            seq: row.try_get("seq")?,
            version: row.try_get("version")?,
            name: row.try_get("name")?,
        })
    };
    let mut found = rows.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    found.retain(|picked| !(picked.version.is_empty() && is_outdated(&picked.name)));
    found.sort_by_key(|picked| picked.since);
    Ok(found)
}

fn sorted_activities(rows: &[Row], now: Timestamp) -> Result<Vec<PickedActivity>, Fault> {
    let read = |row: &Row| {
        Ok(PickedActivity {
            since: read_ready(row.try_get("ready_at")?).since(now),
            group: usize::try_from(row.try_get::<_, i32>("n")?).unwrap_or_default(),
            key: (row.try_get("instance")?, row.try_get("execution")?, row.try_get("call")?),
        })
    };
    let mut found = rows.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    found.sort_by_key(|picked| picked.since);
    Ok(found)
}
