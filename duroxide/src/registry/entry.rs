//! One registered function.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use semver::Version;

use super::Place;
use crate::activity::{Activity, ActivityCode, ActivityFn, BlockingActivityFn, StateType, States};
use crate::error::shortened;
use crate::history::Failure;
use crate::id::{InvalidId, MAX_NAME_LEN, check_text, parse_version};
use crate::orchestration::{OrchestrationContext, OrchestrationFn};
use crate::payload::PayloadError;
use crate::replay::{Failed, Function, direct_call};

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
    pub(crate) code: Code,
}

#[derive(Clone)]
pub(crate) enum Code {
    Activity(ActivityCode),
    Orchestration(Arc<Function>),
}

impl Entry {
    pub(super) fn activity<A: ActivityFn>(place: Place) -> Self {
        Self::of_activity::<A>(place, A::requires(), ActivityCode::of::<A>())
    }

    pub(super) fn blocking_activity<A: BlockingActivityFn>(place: Place) -> Self {
        Self::of_activity::<A>(place, A::requires(), ActivityCode::of_blocking::<A>())
    }

    pub(super) fn of_activity<A: Activity>(place: Place, requires: Vec<StateType>, code: ActivityCode) -> Self {
        let type_id = TypeId::of::<A>();
        let parameters = A::PARAMETERS;
        Self { name: A::NAME, version: None, place, type_id, requires, parameters, code: Code::Activity(code) }
    }

    pub(super) fn orchestration<O: OrchestrationFn>(place: Place) -> Self {
        Self {
            name: O::NAME,
            version: Some(O::VERSION),
            place,
            type_id: TypeId::of::<O>(),
            requires: Vec::new(),
            parameters: O::PARAMETERS,
            code: Code::Orchestration(function::<O>(&place)),
        }
    }

    /// Replaces the code if this is an activity.
    #[cfg(feature = "testing")]
    pub(super) fn map_activity(mut self, change: impl Fn(ActivityCode) -> ActivityCode) -> Self {
        if let Code::Activity(code) = self.code {
            self.code = Code::Activity(change(code));
        }
        self
    }

    /// Replaces the code if this is an activity for whose name the function returns other code, which takes no states.
    #[cfg(feature = "testing")]
    pub(super) fn replace_activity(mut self, change: impl Fn(&str) -> Option<ActivityCode>) -> Self {
        if let Code::Activity(_) = self.code
            && let Some(code) = change(self.name)
        {
            (self.code, self.requires) = (Code::Activity(code), Vec::new());
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

/// Erases the types of an orchestration.
fn function<O: OrchestrationFn>(place: &Place) -> Arc<Function> {
    Function::new(format_args!("`{}` {}", O::NAME, O::VERSION), place, |core, input| {
        let input = input.decode()?;
        let ctx = OrchestrationContext::new(core.clone());
        Ok(Box::pin(async move {
            let refused = |error: PayloadError| {
                let reason = shortened(&error.to_string());
                Failed::from(Failure::Rejected { reason })
            };
            direct_call::enter::<O>();
            match O::run(ctx, input).await {
                Ok(output) => core.encode(&output).map_err(refused),
                Err(error) => {
                    let error = core.encode(&error).map_err(refused)?;
                    Err(Failed { failure: Failure::Application, error })
                }
            }
        }))
    })
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
