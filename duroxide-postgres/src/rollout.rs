//! The code of the members: which of them may try an item.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use duroxide::id::Epoch;
use semver::Version;
use serde_json::Value;
use tokio_postgres::Row;

use crate::connect::{Step, step};
use crate::fault::Fault;
use crate::rows::int;
use crate::work::Queue;

/// The code of one node.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(crate) build: String,
    orchestrations: HashSet<(String, String)>,
    latest: HashMap<String, Version>,
    activities: HashSet<String>,
    /// `None`: it serves all tags.
    tags: Option<Vec<String>>,
}

impl Code {
    /// Reads the lists of a node. An unreadable list counts as empty, so that one such row does not prevent a change of the
    /// members.
    pub(crate) fn parse(build: String, orchestrations: &str, activities: &str, tags: Option<&str>) -> Self {
        let orchestrations: Vec<(String, String)> = serde_json::from_str(orchestrations).unwrap_or_default();
        let mut latest: HashMap<String, Version> = HashMap::new();
        for (name, version) in &orchestrations {
            let Ok(version) = Version::parse(version) else { continue };
            if latest.get(name).is_none_or(|before| *before < version) {
                latest.insert(name.clone(), version);
            }
        }
        Self {
            build,
            orchestrations: orchestrations.into_iter().collect(),
            latest,
            activities: serde_json::from_str(activities).unwrap_or_default(),
            tags: tags.map(|tags| serde_json::from_str(tags).unwrap_or_default()),
        }
    }

    fn has(&self, name: &str, version: Option<&str>) -> bool {
        match version {
            Some(version) => self.orchestrations.contains(&(name.to_owned(), version.to_owned())),
            None => self.latest.contains_key(name),
        }
    }

    /// Returns true if it may claim an instance. One without a version is left to the latest version that any member has.
    fn may_claim(&self, name: &str, version: Option<&str>, latest: Option<&Version>) -> bool {
        self.has(name, version) && (version.is_some() || self.latest.get(name) == latest)
    }

    fn serves(&self, name: &str, tag: Option<&str>) -> bool {
        let serves_tag = match (&self.tags, tag) {
            (Some(tags), Some(tag)) => tags.iter().any(|served| served == tag),
            _ => true,
        };
        serves_tag && self.activities.contains(name)
    }
}

/// The members at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members(BTreeMap<Epoch, Member>);

#[derive(Debug, Clone)]
struct Member {
    code: Arc<Code>,
    places: Places,
}

/// The free places of a node, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) instances: i32,
    pub(crate) activities: i32,
}

impl Members {
    pub(crate) fn contains(&self, epoch: Epoch) -> bool {
        self.0.contains_key(&epoch)
    }

    /// Returns their epochs in ascending order.
    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        self.0.keys().copied().collect()
    }

    pub(crate) fn build(&self, epoch: Epoch) -> Option<&str> {
        self.0.get(&epoch).map(|member| member.code.build.as_str())
    }

    /// Returns true if another member has a later version of an orchestration than the node of this epoch, so that a start
    /// without a version is left to that member.
    pub(crate) fn is_outdated(&self, epoch: Epoch, name: &str) -> bool {
        let own = self.0.get(&epoch).and_then(|member| member.code.latest.get(name));
        self.0.values().any(|member| member.code.latest.get(name) > own)
    }

    /// Returns the latest version of an orchestration that any member has.
    fn latest(&self, name: &str) -> Option<&Version> {
        self.codes().filter_map(|code| code.latest.get(name)).max()
    }

    /// Returns true if a member may claim an instance that some builds have rejected: it has the code, and its build is
    /// none of them. Without a pinned version, it must have the latest version that any member has.
    pub(crate) fn can_try(&self, name: &str, version: Option<&str>, rejected_by: &HashSet<String>) -> bool {
        let latest = self.latest(name);
        self.codes().any(|code| code.may_claim(name, version, latest) && !rejected_by.contains(&code.build))
    }

    /// Returns true if a member may claim an activity that some builds have rejected.
    pub(crate) fn can_try_activity(&self, name: &str, tag: Option<&str>, rejected_by: &HashSet<String>) -> bool {
        self.codes().any(|code| code.serves(name, tag) && !rejected_by.contains(&code.build))
    }

    /// Returns true if a member has the code of an instance.
    pub(crate) fn has_code(&self, name: &str, version: Option<&str>) -> bool {
        self.codes().any(|code| code.has(name, version))
    }

    /// Returns true if a member runs activities of this name and tag.
    pub(crate) fn serves(&self, name: &str, tag: Option<&str>) -> bool {
        self.codes().any(|code| code.serves(name, tag))
    }

    fn codes(&self) -> impl Iterator<Item = &Code> {
        self.0.values().map(|member| &*member.code)
    }

    /// Returns the members that may take the work of a queue, with their free places.
    pub(crate) fn candidates(&self, queue: &Queue) -> Vec<(Epoch, i32)> {
        // Once for all members: they may be many, and so may the queues.
        let latest = match queue {
            Queue::Instances(name, _) => self.latest(name),
            Queue::Activities(..) => None,
        };
        let may_take = |code: &Code| match queue {
            Queue::Instances(name, version) => code.may_claim(name, version.as_deref(), latest),
            Queue::Activities(name, tag) => code.serves(name, tag.as_deref()),
        };
        let places = |places: Places| match queue {
            Queue::Instances(..) => places.instances,
            Queue::Activities(..) => places.activities,
        };
        let found = self.0.iter().filter(|(_, member)| may_take(&member.code));
        found.map(|(epoch, member)| (*epoch, places(member.places))).collect()
    }
}

/// The columns of a member `n`, without the code of those that are known: the parameter.
macro_rules! member_columns {
    ($known:literal) => {
        concat!(
            "n.epoch, n.build, n.claim, n.room, n.permits, (n.epoch = ANY (",
            $known,
            "::bigint[])) AS known, CASE WHEN n.epoch = ANY (",
            $known,
            "::bigint[]) THEN NULL ELSE n.orchestrations END AS orchestrations, CASE WHEN n.epoch = ANY (",
            $known,
            "::bigint[]) THEN NULL ELSE n.activities END AS activities, CASE WHEN n.epoch = ANY (",
            $known,
            "::bigint[]) THEN NULL ELSE n.tags END AS tags"
        )
    };
}
pub(crate) use member_columns;

/// The queues that some nodes serve.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// The queues of instances: name, and version. An empty version: the instances without one.
    pub(crate) orchestrations: Vec<(String, String)>,
    pub(crate) activities: Vec<String>,
    /// `None`: all tags.
    pub(crate) tags: Option<Vec<String>>,
}

/// The code of known nodes, which never changes: a list of the members needs to return only that of new ones.
#[derive(Default)]
pub(crate) struct KnownCode {
    by_epoch: Mutex<HashMap<Epoch, Arc<Code>>>,
    last_members: Mutex<Option<Members>>,
}

impl KnownCode {
    /// Returns a statement that lists the members; see [`KnownCode::members`].
    pub(crate) fn list(&self) -> Step<'static> {
        step!(concat!("SELECT ", member_columns!("$1"), " FROM nodes n WHERE NOT n.dead"), self.known())
    }

    /// Returns the nodes whose code is known.
    pub(crate) fn known(&self) -> Vec<i64> {
        self.locked().keys().map(|epoch| int(epoch.0)).collect()
    }

    /// Returns the queues that these nodes serve. `None`: the code of one of them was not read yet.
    pub(crate) fn served_by(&self, nodes: &[i64]) -> Option<Served> {
        let known = self.locked();
        let mut orchestrations = BTreeSet::new();
        let mut activities = BTreeSet::new();
        let mut tags = Some(BTreeSet::new());
        for node in nodes {
            let code = known.get(&Epoch(node.unsigned_abs()))?;
            orchestrations.extend(code.orchestrations.iter().cloned());
            orchestrations.extend(code.latest.keys().map(|name| (name.clone(), String::new())));
            activities.extend(code.activities.iter().cloned());
            tags = tags.zip(code.tags.clone()).map(|(all, tags)| all.into_iter().chain(tags).collect());
        }
        let (orchestrations, activities) = (orchestrations.into_iter().collect(), activities.into_iter().collect());
        Some(Served { orchestrations, activities, tags: tags.map(|tags| tags.into_iter().collect()) })
    }

    /// Reads the answer to a statement with the [`member_columns`], which named the [`known`](KnownCode::known) nodes.
    pub(crate) fn members(&self, rows: &[Row]) -> Result<Members, Fault> {
        let mut known = self.locked();
        let mut members = BTreeMap::new();
        for row in rows {
            // A pulse without members has a row, too.
            let Some(epoch) = crate::rows::epoch(row, "epoch")? else { continue };
            let code = match known.get(&epoch) {
                Some(code) => code.clone(),
                // A later answer has come before this one, and shows that it is no longer a member.
                None if row.try_get("known")? => continue,
                None => {
                    let text = |column| row.try_get::<_, Option<&str>>(column);
                    let orchestrations = text("orchestrations")?.unwrap_or_default();
                    let activities = text("activities")?.unwrap_or_default();
                    let build = row.try_get("build")?;
                    let code = Arc::new(Code::parse(build, orchestrations, activities, text("tags")?));
                    known.insert(epoch, code.clone());
                    code
                }
            };
            let place = |column| Ok::<_, Fault>(row.try_get::<_, Option<i32>>(column)?.unwrap_or(0));
            let places = Places { instances: place("room")?, activities: place("permits")? };
            members.insert(epoch, Member { code, places });
        }
        // A later node may have joined since this answer was made, and its code will not be sent again.
        let newest = members.keys().next_back().copied();
        known.retain(|epoch, _| members.contains_key(epoch) || Some(*epoch) > newest);
        let members = Members(members);
        *self.last_members.lock().unwrap_or_else(PoisonError::into_inner) = Some(members.clone());
        Ok(members)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Epoch, Arc<Code>>> {
        self.by_epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the members as they were last read.
    pub(crate) fn last_members(&self) -> Option<Members> {
        self.last_members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the list of a node's orchestrations as JSON.
pub(crate) fn orchestrations_json(orchestrations: &[(String, Version)]) -> String {
    let pairs = orchestrations.iter().map(|(name, version)| serde_json::json!([name, version.to_string()]));
    Value::from(pairs.collect::<Vec<_>>()).to_string()
}

/// Makes members with these epochs and free places, which have the code of one orchestration.
#[cfg(test)]
pub(crate) fn members_with_places(places: &[(u64, i32)], name: &str) -> Members {
    let code = Code::parse("a".to_owned(), &format!("[[\"{name}\",\"1.0.0\"]]"), "[]", None);
    let code = Arc::new(code);
    let member = |instances| Member { code: code.clone(), places: Places { instances, activities: 0 } };
    Members(places.iter().map(|(epoch, places)| (Epoch(*epoch), member(*places))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_version_of_any_member_tries_a_start() {
        let code = |build: &str, version: &str| {
            let code = Code::parse(build.to_owned(), &format!("[[\"flow\",\"{version}\"]]"), "[]", None);
            Member { code: Arc::new(code), places: Places::default() }
        };
        let members = Members([(Epoch(1), code("a", "1.0.0")), (Epoch(2), code("b", "1.10.0"))].into());
        assert!(members.is_outdated(Epoch(1), "flow") && !members.is_outdated(Epoch(2), "flow"));
        let by_b = HashSet::from(["b".to_owned()]);
        assert!(!members.can_try("flow", None, &by_b) && members.can_try("flow", Some("1.0.0"), &by_b));
        let candidates = |version: Option<&str>| {
            let queue = Queue::Instances("flow".to_owned(), version.map(str::to_owned));
            members.candidates(&queue).into_iter().map(|(epoch, _)| epoch.0).collect::<Vec<_>>()
        };
        assert_eq!((candidates(None), candidates(Some("1.0.0"))), (vec![2], vec![1]));
    }
}
