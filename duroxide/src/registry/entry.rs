//! One registered function.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use semver::Version;

use super::Place;
use super::descriptor::{Described, Descriptor};
use crate::activity::{ActivityCode, StateType, States};
use crate::id::{InvalidId, MAX_NAME_LEN, check_text, parse_version};
use crate::policy::ActivityOptions;
use crate::replay::Function;

/// The kind of a registered function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// An activity.
    Activity,
    /// An orchestration.
    Orchestration,
}

/// One function of a registry: its name, its place and its code.
#[derive(Clone)]
pub struct Entry {
    name: &'static str,
    version: Option<&'static str>,
    place: Place,
    type_id: TypeId,
    requires: Vec<StateType>,
    pub(super) parameters: Option<&'static [&'static str]>,
    /// The options that its own type declares, of an activity.
    pub(super) options: Option<ActivityOptions>,
    /// The kind of the database in whose transactions an activity runs.
    pub(crate) transaction: Option<&'static str>,
    pub(crate) code: Code,
}

#[derive(Clone)]
pub(crate) enum Code {
    Activity(ActivityCode),
    Orchestration(Arc<Function>),
}

impl Entry {
    /// Returns the entry of an activity with other code, which takes no states.
    #[cfg(feature = "testing")]
    #[track_caller]
    pub(crate) fn mock<A: crate::activity::Activity>(code: ActivityCode) -> Self {
        let place = Place::caller();
        let (type_id, requires, code) = (TypeId::of::<A>(), Vec::new(), Code::Activity(code));
        let (name, parameters, options) = (A::NAME, A::PARAMETERS, Some(A::options()));
        Self { name, version: None, place, type_id, requires, parameters, options, transaction: None, code }
    }

    /// Replaces the code if this is an activity.
    #[cfg(feature = "testing")]
    pub(super) fn map_activity(mut self, change: impl Fn(ActivityCode) -> ActivityCode) -> Self {
        if let Code::Activity(code) = self.code {
            self.code = Code::Activity(change(code));
        }
        self
    }

    /// Replaces the code if this is an activity for which the function returns other code, which takes no states.
    #[cfg(feature = "testing")]
    pub(super) fn replace_activity(mut self, change: impl Fn(&Self) -> Option<ActivityCode>) -> Self {
        if let Code::Activity(_) = self.code
            && let Some(code) = change(&self)
        {
            (self.code, self.requires, self.transaction) = (Code::Activity(code), Vec::new(), None);
        }
        self
    }

    /// Returns the recorded name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the version of an orchestration.
    pub fn version(&self) -> Option<&'static str> {
        self.version
    }

    /// Returns the kind of the function.
    pub fn kind(&self) -> Kind {
        match self.code {
            Code::Activity(_) => Kind::Activity,
            Code::Orchestration(_) => Kind::Orchestration,
        }
    }

    /// Returns its place in the source.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn key(&self) -> (Kind, &'static str, Option<Version>, &'static str) {
        let version = self.version.and_then(|text| Version::parse(text).ok());
        (self.kind(), self.name, version, self.version.unwrap_or_default())
    }

    pub(super) fn is_same_code(&self, other: &Self) -> bool {
        self.type_id == other.type_id
    }

    pub(super) fn missing_states(&self, states: &States) -> impl Iterator<Item = String> {
        let missing = self.requires.iter().filter(|state| !states.holds(state));
        missing.map(|state| {
            let (name, place, state) = (self.name, self.place, state.name());
            format!(
                "activity `{name}` ({place}) takes State<{state}>, which the program does not give: \
                 add `.state(..)` with a value of that type to the runtime's builder"
            )
        })
    }

    /// Returns the problem of an invalid name or version. Only hand-written implementations can have one: the macros
    /// check theirs.
    pub(super) fn invalid(&self) -> Option<String> {
        let name = check_text("name", self.name, MAX_NAME_LEN).err();
        let version = self.version.and_then(|version| parse_version(version).err());
        name.or(version).map(|problem: InvalidId| format!("{self} ({}): {problem}", self.place))
    }
}

impl From<&Descriptor> for Entry {
    fn from(descriptor: &Descriptor) -> Self {
        let Descriptor { place, name, parameters, .. } = *descriptor;
        let type_id = (descriptor.type_id)();
        let (version, requires, options, transaction, code) = match &descriptor.code {
            Described::Activity { requires, options, transaction, code } => {
                (None, requires(), Some(options()), *transaction, Code::Activity(code.clone()))
            }
            Described::Orchestration { version, begin } => {
                let function = Function::new(format_args!("`{name}` {version}"), place, *begin);
                (Some(*version), Vec::new(), None, None, Code::Orchestration(function))
            }
        };
        Self { name, version, place, type_id, requires, parameters, options, transaction, code }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "orchestration `{}` {version}", self.name),
            None => write!(f, "activity `{}`", self.name),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} at {}", self.place)
    }
}
