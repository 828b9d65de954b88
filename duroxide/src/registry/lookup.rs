//! Finds code by name and version.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use semver::Version;

use super::{Code, Entry};
use crate::activity::ActivityCode;
use crate::replay::Function;

/// The code of an orchestration.
#[derive(Clone)]
pub(crate) struct OrchestrationEntry {
    /// Its name, for those who keep it.
    pub(crate) name: Arc<str>,
    pub(crate) version: Version,
    pub(crate) function: Arc<Function>,
}

/// The code of an activity.
#[derive(Clone)]
pub(crate) struct ActivityEntry {
    /// Its name, for those who keep it.
    pub(crate) name: Arc<str>,
    pub(crate) code: ActivityCode,
}

/// A checked registry.
#[derive(Default)]
pub(crate) struct Lookup {
    /// The versions of each name, the latest last.
    orchestrations: BTreeMap<String, Vec<OrchestrationEntry>>,
    activities: BTreeMap<String, ActivityEntry>,
    /// The activities that run in a transaction, with the kind of its database.
    transactional: Vec<(String, &'static str)>,
}

impl Lookup {
    /// Builds the lookup from sorted entries.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut lookup = Self::default();
        for entry in entries {
            let name = entry.name().to_owned();
            if let Some(database) = entry.transaction {
                lookup.transactional.push((format!("activity `{name}` ({})", entry.place()), database));
            }
            let version = entry.version().and_then(|text| Version::parse(text).ok());
            match (entry.code, version) {
                (Code::Activity(code), _) => {
                    lookup.activities.insert(name.clone(), ActivityEntry { name: name.into(), code });
                }
                (Code::Orchestration(function), Some(version)) => {
                    let entry = OrchestrationEntry { name: name.as_str().into(), version, function };
                    lookup.orchestrations.entry(name).or_default().push(entry);
                }
                (Code::Orchestration(_), None) => {}
            }
        }
        lookup
    }

    /// Returns the orchestration of that name, in that version or in the latest.
    pub(crate) fn orchestration(&self, name: &str, version: Option<&Version>) -> Option<&OrchestrationEntry> {
        let versions = self.orchestrations.get(name)?;
        match version {
            Some(version) => versions.iter().find(|entry| entry.version == *version),
            None => versions.last(),
        }
    }

    /// Returns the problem of the activities that run in a transaction which a provider of this kind of database does not
    /// have.
    pub(crate) fn without_transaction(&self, database: Option<&str>) -> Option<String> {
        let (activity, wanted) = self.transactional.iter().find(|(_, wanted)| Some(*wanted) != database)?;
        let has = database.map_or_else(|| "no transactions".to_owned(), |kind| format!("those of {kind}"));
        Some(format!("{activity} runs in a transaction of {wanted}, but the storage provider has {has}"))
    }

    pub(crate) fn activity(&self, name: &str) -> Option<&ActivityEntry> {
        self.activities.get(name)
    }

    /// Returns the names of the blocking activities, or of the async ones.
    pub(crate) fn activity_names(&self, blocking: bool) -> impl Iterator<Item = &String> {
        let of_kind = move |entry: &ActivityEntry| entry.code.is_blocking() == blocking;
        self.activities.iter().filter(move |(_, entry)| of_kind(entry)).map(|(name, _)| name)
    }

    /// Returns name and version of all orchestrations, sorted.
    pub(crate) fn orchestrations(&self) -> Vec<(String, Version)> {
        let names = self.orchestrations.iter();
        names.flat_map(|(name, versions)| versions.iter().map(|entry| (name.clone(), entry.version.clone()))).collect()
    }

    /// Returns the names of all activities, sorted.
    pub(crate) fn activities(&self) -> Vec<String> {
        self.activities.keys().cloned().collect()
    }

    /// Returns an id of the deployed code. It changes with the registry, the program file, and the id that the user
    /// sets.
    pub(crate) fn build_id(&self, users: Option<&str>) -> String {
        let mut hasher = DefaultHasher::new();
        (self.orchestrations(), self.activities()).hash(&mut hasher);
        if let Some(program) = std::env::current_exe().ok().and_then(|path| std::fs::metadata(path).ok()) {
            (program.len(), program.modified().ok()).hash(&mut hasher);
        }
        match users {
            Some(id) => format!("{id}-{:016x}", hasher.finish()),
            None => format!("{:016x}", hasher.finish()),
        }
    }
}
