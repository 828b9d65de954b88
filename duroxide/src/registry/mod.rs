//! The functions that a program can run: the [`Registry`], and its entries with their names, versions and places.
//!
//! A program needs it to run only some of its functions, to list them, or to add functions whose traits are implemented
//! by hand. The page [Functions from several crates] explains how annotated functions are discovered.
//!
//! [Functions from several crates]: https://github.com/duroxide/duroxide/blob/main/docs/cross-crate-registry-pattern.md

pub(crate) mod contract;
pub(crate) mod descriptor;
mod entry;
pub(crate) mod event;
mod lookup;

pub use descriptor::Place;
pub(crate) use entry::Code;
pub use entry::{Entry, Kind};
pub(crate) use lookup::Lookup;

use self::contract::Contract;
use self::descriptor::{Annotated, Descriptor};
use self::event::EventType;
pub use crate::activity::StateType;
use crate::activity::{ActivityFn, BlockingActivityFn, States};
use crate::error::ErrorCode;
use crate::orchestration::OrchestrationFn;
use crate::provider::{BuildCode, CodeEntry, CodeKind};

/// The functions that a program can run. Pass it to `Runtime::builder().registry(..)`; the default is
/// [`Registry::discover`].
///
/// ```
/// use duroxide::prelude::*;
/// use duroxide::Registry;
///
/// #[activity]
/// async fn ship(order: u32) -> duroxide::Result<String> {
///     Ok(format!("label {order}"))
/// }
///
/// // Only this function, even if others are linked:
/// let registry = Registry::empty().with::<ship>();
/// let entry = registry.entries().next().unwrap();
/// assert_eq!(entry.name(), "ship");
/// ```
#[derive(Debug, Default, Clone)]
#[must_use]
pub struct Registry {
    discovered: bool,
    crates: Vec<String>,
    /// The names of discovered functions that are left out, of one kind or of both.
    except: Vec<(Option<Kind>, String)>,
    by_hand: Vec<Entry>,
}

impl Registry {
    /// Creates an empty registry, to add functions by hand.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Creates a registry of all annotated functions of all linked crates. It refuses the start of a runtime if a name is
    /// that of several functions, or of several types of events.
    ///
    /// A dependency that the program never names is not linked, so its functions are missing: write `use billing as
    /// _;`.
    pub fn discover() -> Self {
        Self { discovered: true, ..Self::default() }
    }

    /// Discovers functions only in this package, and in those of further calls of this method. `-` and `_` are the
    /// same.
    pub fn only_crate(mut self, name: &str) -> Self {
        self.discovered = true;
        self.crates.push(name.replace('-', "_"));
        self
    }

    /// Leaves out discovered functions of this name, in every version. Events of this name are not compared: several
    /// types may then have it.
    pub fn except(mut self, name: &str) -> Self {
        self.except.push((None, name.to_owned()));
        self
    }

    /// Adds an annotated function by hand: an activity, blocking or not, or an orchestration.
    pub fn with<F: Annotated>(mut self) -> Self {
        self.by_hand.push(Entry::from(&F::DESCRIPTOR));
        self
    }

    /// Adds an activity whose trait is implemented by hand.
    #[track_caller]
    pub fn with_activity<A: ActivityFn>(mut self) -> Self {
        self.by_hand.push(Entry::from(&Descriptor::activity::<A>(Place::caller())));
        self
    }

    /// Adds a blocking activity whose trait is implemented by hand.
    #[track_caller]
    pub fn with_blocking_activity<A: BlockingActivityFn>(mut self) -> Self {
        self.by_hand.push(Entry::from(&Descriptor::blocking_activity::<A>(Place::caller())));
        self
    }

    /// Adds an orchestration whose trait is implemented by hand.
    #[track_caller]
    pub fn with_orchestration<O: OrchestrationFn>(mut self) -> Self {
        self.by_hand.push(Entry::from(&Descriptor::orchestration::<O>(Place::caller())));
        self
    }

    /// Replaces the code of an activity, discovered or registered by hand. An orchestration of the same name is kept.
    #[cfg(feature = "testing")]
    #[track_caller]
    pub(crate) fn mock<A: crate::activity::Activity>(self, code: crate::activity::ActivityCode) -> Self {
        self.with_mock(Entry::mock::<A>(code))
    }

    /// As [`mock`](Self::mock), with an entry of [`Entry::mock`].
    #[cfg(feature = "testing")]
    pub(crate) fn with_mock(mut self, mock: Entry) -> Self {
        self.except.push((Some(Kind::Activity), mock.name().to_owned()));
        self.by_hand.retain(|entry| entry.kind() != Kind::Activity || entry.name() != mock.name());
        self.by_hand.push(mock);
        self
    }

    /// Replaces the code of every activity. Discovers functions now, not at the start of the runtime.
    #[cfg(feature = "testing")]
    pub(crate) fn map_activities(
        self,
        change: impl Fn(crate::activity::ActivityCode) -> crate::activity::ActivityCode,
    ) -> Self {
        let by_hand = self.entries().map(|entry| entry.map_activity(&change)).collect();
        Self { by_hand, ..Self::empty() }
    }

    /// Replaces the code of the activities for which the function returns other code. The replaced ones take no states.
    /// Discovers functions now, not at the start of the runtime.
    #[cfg(feature = "testing")]
    pub(crate) fn replace_activities(self, change: impl Fn(&Entry) -> Option<crate::activity::ActivityCode>) -> Self {
        let by_hand = self.entries().map(|entry| entry.replace_activity(&change)).collect();
        Self { by_hand, ..Self::empty() }
    }

    /// Returns the entries, sorted by kind, name and version. A name that is registered twice is listed twice.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        let mut entries = self.by_hand.clone();
        if self.discovered {
            let all = inventory::iter::<Descriptor>.into_iter().map(Entry::from);
            let known = |entry: &Entry| self.by_hand.iter().any(|other| other.is_same_code(entry));
            entries.extend(all.filter(|entry| self.selects(entry) && !known(entry)));
        }
        entries.sort_by(|a, b| a.key().cmp(&b.key()));
        entries.into_iter()
    }

    /// Describes the functions and the discovered events, for people.
    pub(crate) fn describe(&self) -> BuildCode {
        let entry = |kind, name: &str, version: Option<&str>, place: &Place| CodeEntry {
            kind,
            name: name.to_owned(),
            version: version.map(str::to_owned),
            place: Some(place.to_string()),
            package: Some(place.crate_name.to_owned()),
            doc: Some(place.doc.to_owned()),
        };
        let functions = self.entries().map(|function| {
            let kind = match function.kind() {
                Kind::Activity => CodeKind::Activity,
                Kind::Orchestration => CodeKind::Orchestration,
            };
            entry(kind, function.name(), function.version(), function.place())
        });
        let events = self.events().map(|event| entry(CodeKind::Event, event.name(), None, event.place()));
        BuildCode::new(functions.chain(events))
    }

    /// Builds a lookup of the entries that satisfy a condition, without checks.
    pub(crate) fn lookup_of(&self, condition: impl FnMut(&Entry) -> bool) -> Lookup {
        Lookup::new(self.entries().filter(condition).collect())
    }

    fn selects(&self, entry: &Entry) -> bool {
        let is_left_out = |(kind, name): &(Option<Kind>, String)| {
            name == entry.name() && kind.is_none_or(|kind| kind == entry.kind())
        };
        self.selects_crate(entry.place()) && !self.except.iter().any(is_left_out)
    }

    fn selects_crate(&self, place: &Place) -> bool {
        self.crates.is_empty() || self.crates.contains(&place.crate_name.replace('-', "_"))
    }

    /// Returns the discovered types of events. Without discovery there are none: functions that are added by hand do
    /// not tell which events they receive.
    fn events(&self) -> impl Iterator<Item = &'static EventType> {
        let discovered = inventory::iter::<EventType>.into_iter().filter(|_| self.discovered);
        discovered.filter(|event| {
            let is_left_out = |(kind, name): &(Option<Kind>, String)| kind.is_none() && name == event.name();
            self.selects_crate(event.place()) && !self.except.iter().any(is_left_out)
        })
    }

    /// Checks that no name is registered twice, that all state is provided, that no contract contradicts its code or
    /// another contract, and that all expected crates are linked.
    pub(crate) fn check(&self, states: &States, expected: &[String]) -> Result<Lookup, Vec<Problem>> {
        let entries: Vec<Entry> = self.entries().collect();
        let mut problems = Vec::new();
        let mut report = |code: ErrorCode, found: Vec<String>| {
            problems.extend(found.into_iter().map(|problem| (code, problem)));
        };
        report(ErrorCode::DuplicateRegistration, duplicates(&entries));
        report(ErrorCode::DuplicateRegistration, EventType::duplicates(self.events()));
        for entry in &entries {
            report(ErrorCode::MissingState, entry.missing_states(states).collect());
            report(ErrorCode::InvalidId, entry.invalid().into_iter().collect());
        }
        report(ErrorCode::ContractMismatch, Contract::mismatches(&entries));
        report(ErrorCode::CrateNotLinked, expected.iter().filter_map(|name| not_linked(name)).collect());
        if problems.is_empty() { Ok(Lookup::new(entries)) } else { Err(problems) }
    }
}

/// A problem that prevents the start: its code, and its description.
pub(crate) type Problem = (ErrorCode, String);

/// Describes the names that are registered more than once in sorted entries.
fn duplicates(entries: &[Entry]) -> Vec<String> {
    let groups = entries.chunk_by(|a, b| a.key() == b.key()).filter(|group| group.len() > 1);
    groups
        .map(|group| {
            let all: Vec<_> = group.iter().map(|entry| entry.place().to_string()).collect();
            format!(
                "{} is registered {} times: {}; rename all but one (`name = \"..\"`)",
                group[0],
                all.len(),
                all.join(", ")
            )
        })
        .collect()
}

fn not_linked(name: &str) -> Option<String> {
    let wanted = name.replace('-', "_");
    let linked = inventory::iter::<Descriptor>.into_iter().any(|d| d.place.crate_name.replace('-', "_") == wanted);
    (!linked).then(|| {
        format!("crate `{name}` is expected but nothing of it is linked: write `use {wanted} as _;` in the program")
    })
}
