//! The code of the members, which differs during a rollout.

use std::collections::{HashMap, HashSet};

use semver::Version;
use serde::de::DeserializeOwned;

use super::columns::columns;
use super::rows::epoch;
use super::sql::Sql;
use crate::id::Epoch;

/// The members, and the latest version of each orchestration that they have.
pub(super) struct MemberCode {
    /// The members, each with the index of its code.
    members: Vec<(Epoch, usize)>,
    codes: Vec<Code>,
}

/// The code of one or more members.
struct Code {
    /// Its orchestrations, as JSON.
    orchestrations: String,
    /// Empty outside of a rollout.
    latest: HashMap<String, Version>,
}

columns! {
    mod node { EPOCH = "epoch", ORCHESTRATIONS = "orchestrations" }
}

impl MemberCode {
    pub(super) fn read(sql: &Sql) -> rusqlite::Result<Self> {
        let mut code = Self { members: Vec::new(), codes: Vec::new() };
        sql.each(concat!("SELECT ", node::list!(), " FROM duroxide_nodes"), [], |row| {
            if let Some(epoch) = epoch(row, node::EPOCH)? {
                code.add(epoch, row.get_ref(node::ORCHESTRATIONS)?.as_str()?);
            }
            Ok(true)
        })?;
        // Outside of a rollout all members have the same code, which need not be parsed.
        if code.codes.len() > 1 {
            for code in &mut code.codes {
                code.latest = latest(&json::<Vec<_>>(&code.orchestrations));
            }
        }
        Ok(code)
    }

    fn add(&mut self, member: Epoch, orchestrations: &str) {
        let found = self.codes.iter().position(|code| code.orchestrations == orchestrations);
        self.members.push((member, found.unwrap_or(self.codes.len())));
        if found.is_none() {
            self.codes.push(Code { orchestrations: orchestrations.to_owned(), latest: HashMap::new() });
        }
    }

    pub(super) fn is_member(&self, epoch: Epoch) -> bool {
        self.members.iter().any(|(member, _)| *member == epoch)
    }

    /// Returns true if another member has a later version of an orchestration than the node of this epoch, so that a start
    /// without a version is left to that member.
    pub(super) fn is_outdated(&self, epoch: Epoch, name: &str) -> bool {
        let own = self.members.iter().find(|(member, _)| *member == epoch).and_then(|(_, code)| self.codes.get(*code));
        own.is_some_and(|own| self.codes.iter().any(|code| code.latest.get(name) > own.latest.get(name)))
    }
}

columns! {
    /// The code of a member.
    mod member { BUILD = "build", ORCHESTRATIONS = "orchestrations", ACTIVITIES = "activities", TAGS = "tags" }
}

/// The builds of the members, each with its code.
pub(super) struct Builds(Vec<Build>);

struct Build {
    build: String,
    orchestrations: HashSet<(String, String)>,
    latest: HashMap<String, Version>,
    activities: HashSet<String>,
    /// `None`: it serves all tags.
    tags: Option<HashSet<String>>,
}

impl Builds {
    pub(super) fn read(sql: &Sql) -> rusqlite::Result<Self> {
        let find = concat!("SELECT DISTINCT ", member::list!(), " FROM duroxide_nodes");
        let builds = sql.rows(find, [], |row| {
            let orchestrations: Vec<_> = json(row.get_ref(member::ORCHESTRATIONS)?.as_str()?);
            Ok(Build {
                build: row.get(member::BUILD)?,
                latest: latest(&orchestrations),
                orchestrations: orchestrations.into_iter().collect(),
                activities: json(row.get_ref(member::ACTIVITIES)?.as_str()?),
                tags: row.get_ref(member::TAGS)?.as_str_or_null()?.map(json),
            })
        })?;
        Ok(Self(builds))
    }

    /// Returns true if a member may claim an instance that some builds have rejected: it has the code, and its build is
    /// none of them. Without a pinned version, it must have the latest version that any member has.
    pub(super) fn can_try(&self, name: &str, version: Option<&str>, rejected_by: &[String]) -> bool {
        let mut others = self.0.iter().filter(|member| !rejected_by.contains(&member.build));
        match version {
            Some(version) => {
                let code = (name.to_owned(), version.to_owned());
                others.any(|member| member.orchestrations.contains(&code))
            }
            None => {
                let latest = self.0.iter().filter_map(|member| member.latest.get(name)).max();
                latest.is_some() && others.any(|member| member.latest.get(name) == latest)
            }
        }
    }

    /// Returns true if a member may claim an activity that some builds have rejected.
    pub(super) fn can_try_activity(&self, name: &str, tag: Option<&str>, rejected_by: &[String]) -> bool {
        let serves = |member: &Build| match (&member.tags, tag) {
            (Some(tags), Some(tag)) => tags.contains(tag),
            _ => true,
        };
        self.0
            .iter()
            .any(|member| member.activities.contains(name) && serves(member) && !rejected_by.contains(&member.build))
    }
}

/// Parses a list of a member. An unreadable list counts as empty, so that one such row does not prevent a change of the
/// members.
fn json<T: DeserializeOwned + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_default()
}

/// Returns the latest version of each orchestration of a list.
fn latest(orchestrations: &[(String, String)]) -> HashMap<String, Version> {
    let mut latest = HashMap::new();
    for (name, version) in orchestrations {
        let Ok(version) = Version::parse(version) else { continue };
        match latest.get(name) {
            Some(before) if *before >= version => {}
            _ => {
                latest.insert(name.clone(), version);
            }
        }
    }
    latest
}
