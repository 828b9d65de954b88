//! The items without an owner that a node may claim, as far as a request needs to know them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use duroxide::Timestamp;
use duroxide::provider::{QUARANTINE, Want};
use tokio_postgres::Row;

use super::looks::Look;
use super::{orchestrations, tags};
use crate::connect::{Step, step};
use crate::fault::Fault;
use crate::queue::free_activities;
use crate::rows::{FIRST_TIME, int, read_ready};

const _: () = assert!(QUARANTINE == 3 && FIRST_TIME == -2305843009213693952, "the statements repeat these numbers");

/// Reads the oldest items of each part, oldest first, as [`Ready::since`](duroxide::provider::Ready::since) orders them.
/// Without a limit for all queues of a part, a request would read as many items for each name as it can claim.
///
/// Items that are ready at once sort before all times, so they could fill a limit and hide an older item with a time of its
/// own: both kinds are read, each from its own place on; see [`super::looks`].
macro_rules! oldest {
    ($columns:literal, $part:literal, $now:literal, $queues:expr) => {
        concat!(
            "SELECT ",
            $columns,
            ", ready_at FROM (
                 SELECT q.*, row_number() OVER (PARTITION BY ",
            $part,
            " ORDER BY CASE WHEN ready_at < -2305843009213693952 THEN least(ready_at + 4611686018427387904, ",
            $now,
            ") ELSE ready_at END) AS place FROM (",
            $queues,
            ") q) p WHERE place <= $3 ORDER BY place"
        )
    };
}

/// A part is all pinned versions. Instances without a version are not claimed if another member has a later one; those of
/// one name must not hide those of others, so each name is a part.
macro_rules! pick_instances {
    ($condition:literal) => {
        oldest!(
            "seq, name, version, paused",
            "CASE WHEN version = '' THEN name END",
            "$7",
            concat!(
                "SELECT r.* FROM unnest($1::text[], $2::text[], $5::bigint[], $6::bigint[])
                 AS t (name, version, since, since_time)
             CROSS JOIN LATERAL (
                 (SELECT seq, name, version, ready_at, paused FROM ready r
                  WHERE r.name = t.name AND r.version = t.version AND r.ready_at < -2305843009213693952
                      AND r.ready_at >= t.since AND ",
                $condition,
                " AND (NOT r.rejected OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = r.seq AND x.execution = 0 AND x.call = 0 AND n.epoch = $4))
                  ORDER BY r.ready_at LIMIT $3)
                 UNION ALL
                 (SELECT seq, name, version, ready_at, paused FROM ready r
                  WHERE r.name = t.name AND r.version = t.version AND r.ready_at >= -2305843009213693952
                      AND r.ready_at >= t.since_time AND ",
                $condition,
                " AND (NOT r.rejected OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = r.seq AND x.execution = 0 AND x.call = 0 AND n.epoch = $4))
                  ORDER BY r.ready_at LIMIT $3)) r"
            )
        )
    };
}
const INSTANCES: &str = pick_instances!("(r.crashes < 3 OR r.suspect)");
const QUARANTINED: &str = pick_instances!("r.crashes >= 3 AND NOT r.suspect");

/// A part is a group.
///
/// The ranges of tags are left out if no activity has a tag, as in most programs: one search finds that for all queues. The
/// search passes all removed rows, so a look that does not begin at the beginning reads the ranges instead. The order of the
/// search keeps a plan from another index, in which it would pass the activities without a tag.
macro_rules! pick_activities {
    ($condition:literal) => {
        concat!(
            "WITH tagged AS MATERIALIZED (
                 SELECT $9 OR coalesce((
                     SELECT true FROM activities a
                     WHERE a.owner IS NULL AND NOT a.parked AND a.tag IS NOT NULL AND ",
            $condition,
            " ORDER BY a.name, a.ready_at LIMIT 1), false) AS found) ",
            oldest!(
                "n, name, instance, execution, call",
                "n",
                "$8",
                concat!(
                    "SELECT t.n, t.name, a.instance, a.execution, a.call, a.ready_at
                     FROM unnest($1::text[], $2::integer[], $6::bigint[], $7::bigint[]) AS t (name, n, since, since_time)
                     CROSS JOIN LATERAL (",
                    ready_activities!("a.ready_at < -2305843009213693952 AND a.ready_at >= t.since", $condition),
                    " UNION ALL ",
                    ready_activities!("a.ready_at >= -2305843009213693952 AND a.ready_at >= t.since_time", $condition),
                    ") a"
                )
            )
        )
    };
}

/// Activities of a queue whose time is within limits, and which the build of the node has not rejected.
macro_rules! ready_activities {
    ($times:literal, $condition:literal) => {
        free_activities!(
            "a.instance, a.execution, a.call, a.ready_at",
            "t.name",
            "$5",
            "(SELECT found FROM tagged)",
            concat!(
                $times,
                " AND ",
                $condition,
                " AND (a.rejected IS NULL OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
                   WHERE x.instance = a.instance AND x.execution = a.execution AND x.call = a.call AND n.epoch = $4))"
            ),
            "$3"
        )
    };
}
const ACTIVITIES: &str = pick_activities!("(a.crashes < 3 OR a.suspect)");
const QUARANTINED_ACTIVITIES: &str = pick_activities!("a.crashes >= 3 AND NOT a.suspect");

/// Activities that the node knows to be due, although their time has not come; see [`Want::overdue`].
const OVERDUE: &str = "
    SELECT g.n, g.name, a.instance, a.execution, a.call, a.ready_at
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[]) AS t (id, identity, execution, call)
    JOIN instances i ON i.id = t.id AND i.identity = t.identity
    JOIN activities a ON a.instance = i.seq AND a.execution = t.execution AND a.call = t.call
    JOIN unnest($5::text[], $6::integer[]) AS g (name, n) ON g.name = a.name
    WHERE a.owner IS NULL AND NOT a.parked AND (a.crashes < 3 OR a.suspect)
        AND ($8::text[] IS NULL OR a.tag IS NULL OR a.tag = ANY ($8))
        AND (a.rejected IS NULL OR NOT EXISTS (SELECT 1 FROM rejections x JOIN nodes n ON n.build = x.build
         WHERE x.instance = a.instance AND x.execution = a.execution AND x.call = a.call AND n.epoch = $7))";

/// The kinds of items that a request wants to claim.
pub(super) struct Picks {
    instances: bool,
    activities: bool,
    overdue: bool,
    alone: bool,
}

impl Picks {
    /// Returns the picks of a request. `None`: it claims nothing.
    pub(super) fn of(want: &Want) -> Option<Self> {
        let instances = want.instances > 0 && !want.orchestrations.is_empty();
        let activities = want.activities.iter().any(|group| group.limit > 0 && !group.names.is_empty());
        let overdue = activities && !want.overdue.is_empty();
        (instances || activities).then_some(Self { instances, activities, overdue, alone: want.alone })
    }

    pub(super) fn steps<'a>(&self, epoch: i64, want: &Want, look: &Look) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let now = want.now.as_micros();
        let is_whole = look.until_whole.is_none();
        let (names, versions) = orchestrations(want);
        let queues = names.iter().zip(&versions).map(|(name, version)| (name.clone(), Some(version.clone())));
        let (since, since_time): (Vec<i64>, Vec<i64>) = queues.map(|queue| look.from(&queue)).unzip();
        let limit = |limit: usize| i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        if self.instances {
            steps.push(step!(
                INSTANCES,
                names.clone(),
                versions.clone(),
                limit(want.instances),
                epoch,
                since.clone(),
                since_time.clone(),
                now
            ));
        }
        let groups = want.activities.iter().zip(0_i32..).filter(|(group, _)| group.limit > 0);
        let names_of = |names: &Arc<[String]>, n| names.iter().map(move |name| (name.clone(), n)).collect::<Vec<_>>();
        let (activities, numbers): (Vec<_>, Vec<_>) = groups.flat_map(|(group, n)| names_of(&group.names, n)).unzip();
        let queues = activities.iter().map(|name| (name.clone(), None));
        let (since_of, since_time_of): (Vec<i64>, Vec<i64>) = queues.map(|queue| look.from(&queue)).unzip();
        if self.activities {
            let most = want.activities.iter().map(|group| group.limit).max().unwrap_or_default();
            steps.push(step!(
                ACTIVITIES,
                activities.clone(),
                numbers.clone(),
                limit(most),
                epoch,
                tags(want),
                since_of.clone(),
                since_time_of.clone(),
                now,
                !is_whole
            ));
        }
        if self.overdue {
            let ids = &want.overdue;
            steps.push(step!(
                OVERDUE,
                ids.iter().map(|id| id.execution.instance.as_str().to_owned()).collect::<Vec<_>>(),
                ids.iter().map(|id| id.execution.identity.0).collect::<Vec<_>>(),
                ids.iter().map(|id| int(id.execution.number)).collect::<Vec<_>>(),
                ids.iter().map(|id| int(id.call.0)).collect::<Vec<_>>(),
                activities.clone(),
                numbers.clone(),
                epoch,
                tags(want),
            ));
        }
        if self.alone {
            if self.instances {
                steps.push(step!(QUARANTINED, names, versions, 1_i64, epoch, since, since_time, now));
            }
            if self.activities {
                steps.push(step!(
                    QUARANTINED_ACTIVITIES,
                    activities,
                    numbers,
                    1_i64,
                    epoch,
                    tags(want),
                    since_of,
                    since_time_of,
                    now,
                    !is_whole
                ));
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
    pub(super) name: String,
    pub(super) ready_at: i64,
    /// True if it is suspended until the time since which it is ready.
    pub(super) is_paused: bool,
}

/// An activity that may be claimed.
pub(super) struct PickedActivity {
    since: Timestamp,
    /// The position of its group.
    group: usize,
    /// True if it may be claimed although its time has not come.
    pub(super) is_overdue: bool,
    pub(super) name: String,
    pub(super) ready_at: i64,
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
        let activities = next(picks.activities);
        let activities = sorted_activities(&next(picks.overdue), &activities, want.now)?;
        let mut later = None;
        if picks.alone {
            let instances = sorted_instances(&next(picks.instances), want.now, &is_outdated)?;
            let activities = sorted_activities(&[], &next(picks.activities), want.now)?;
            let first = [instances.first().map(|picked| picked.since), activities.first().map(|picked| picked.since)];
            if let Some(alone) = Self::alone(instances, activities, want.now) {
                return Ok(alone);
            }
            later = first.into_iter().flatten().min();
        }
        let mut picked = Self::within_limits(found, activities, want);
        // An item in quarantine that is not due yet.
        picked.next_due = picked.next_due.into_iter().chain(later).min();
        Ok(picked)
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
            ready_at: row.try_get("ready_at")?,
            is_paused: row.try_get("paused")?,
        })
    };
    let mut found = rows.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    let mut outdated: HashMap<String, bool> = HashMap::new();
    found.retain(|picked| {
        let mut is_outdated = || *outdated.entry(picked.name.clone()).or_insert_with(|| is_outdated(&picked.name));
        !(picked.version.is_empty() && is_outdated())
    });
    found.sort_by_key(|picked| picked.since);
    Ok(found)
}

/// Reads activities, those that are overdue first.
fn sorted_activities(overdue: &[Row], rows: &[Row], now: Timestamp) -> Result<Vec<PickedActivity>, Fault> {
    let read = |row: &Row, is_overdue: bool| {
        let ready = || Ok::<_, Fault>(read_ready(row.try_get("ready_at")?).since(now));
        Ok::<_, Fault>(PickedActivity {
            since: if is_overdue { Timestamp::from_micros(i64::MIN) } else { ready()? },
            group: usize::try_from(row.try_get::<_, i32>("n")?).unwrap_or_default(),
            is_overdue,
            name: row.try_get("name")?,
            ready_at: row.try_get("ready_at")?,
            key: (row.try_get("instance")?, row.try_get("execution")?, row.try_get("call")?),
        })
    };
    let mut found = overdue.iter().map(|row| read(row, true)).collect::<Result<Vec<_>, Fault>>()?;
    let known: HashSet<_> = found.iter().map(|picked| picked.key).collect();
    for row in rows {
        let picked = read(row, false)?;
        if !known.contains(&picked.key) {
            found.push(picked);
        }
    }
    found.sort_by_key(|picked| picked.since);
    Ok(found)
}
