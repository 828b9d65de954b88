//! What a program can run: names and versions, and the code for them.
//!
//! Every annotated function of every linked crate describes itself with a [`Descriptor`]; [`Registry::discover`] collects
//! them. A registry can also be put together by hand, or both.

mod contract;
mod descriptor;
mod entry;
mod lookup;

pub use contract::Contract;
pub use descriptor::{Annotated, Descriptor, Place};
pub(crate) use entry::Code;
pub use entry::{Entry, Kind};
pub(crate) use lookup::Lookup;

use crate::activity::{ActivityFn, BlockingActivityFn, States};
use crate::error::ErrorCode;
use crate::orchestration::OrchestrationFn;

/// What a program can run. Build it, then hand it to `Runtime::builder().registry(..)`; without one, the runtime discovers.
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
/// // Only this one, whatever else is linked:
/// let registry = Registry::empty().with::<ship>();
/// let entry = registry.entries().next().unwrap();
/// assert_eq!(entry.name(), "ship");
/// ```
#[derive(Debug, Default, Clone)]
#[must_use]
pub struct Registry {
    discovered: bool,
    crates: Vec<String>,
    except: Vec<String>,
    by_hand: Vec<Entry>,
}

impl Registry {
    /// Nothing; add by hand.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Everything that is annotated in the crates that are linked.
    ///
    /// A dependency that no code names is not linked, and what it annotates is not there: write `use billing as _;`.
    pub fn discover() -> Self {
        Self { discovered: true, ..Self::default() }
    }

    /// Discovers only in this crate, and in those of other calls. The name is the package's; `-` and `_` are the same.
    pub fn only_crate(mut self, name: &str) -> Self {
        self.discovered = true;
        self.crates.push(name.replace('-', "_"));
        self
    }

    /// Leaves out what is discovered under this name, in every version.
    pub fn except(mut self, name: &str) -> Self {
        self.except.push(name.to_owned());
        self
    }

    /// Adds an annotated function by hand: an activity, blocking or not, or an orchestration.
    pub fn with<F: Annotated>(mut self) -> Self {
        self.by_hand.push(F::DESCRIPTOR.entry());
        self
    }

    /// Adds an activity whose trait is implemented by hand.
    #[track_caller]
    pub fn with_activity<A: ActivityFn>(mut self) -> Self {
        self.by_hand.push(Entry::activity::<A>(Place::caller()));
        self
    }

    /// Adds a blocking activity whose trait is implemented by hand.
    #[track_caller]
    pub fn with_blocking_activity<A: BlockingActivityFn>(mut self) -> Self {
        self.by_hand.push(Entry::blocking_activity::<A>(Place::caller()));
        self
    }

    /// Adds an orchestration whose trait is implemented by hand.
    #[track_caller]
    pub fn with_orchestration<O: OrchestrationFn>(mut self) -> Self {
        self.by_hand.push(Entry::orchestration::<O>(Place::caller()));
        self
    }

    /// Puts other code in the place of an activity: what is discovered under its name is left out.
    #[cfg(feature = "testing")]
    #[track_caller]
    pub(crate) fn mock<A: crate::activity::Activity>(self, code: crate::activity::ActivityCode) -> Self {
        let mut registry = self.except(A::NAME);
        registry.by_hand.retain(|entry| entry.kind() != Kind::Activity || entry.name() != A::NAME);
        registry.by_hand.push(Entry::of_activity::<A>(Place::caller(), Vec::new(), code));
        registry
    }

    /// The same, with other code for every activity. What is to be discovered is discovered now.
    #[cfg(feature = "testing")]
    pub(crate) fn map_activities(
        self,
        change: impl Fn(crate::activity::ActivityCode) -> crate::activity::ActivityCode,
    ) -> Self {
        let by_hand = self.entries().map(|entry| entry.map_activity(&change)).collect();
        Self { by_hand, ..Self::empty() }
    }

    /// What is in it, sorted by kind, name and version. Names that stand twice are listed twice.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        let mut entries = self.by_hand.clone();
        if self.discovered {
            let all = inventory::iter::<Descriptor>.into_iter().map(Descriptor::entry);
            let known = |entry: &Entry| self.by_hand.iter().any(|other| other.is_same_code(entry));
            entries.extend(all.filter(|entry| self.selects(entry) && !known(entry)));
        }
        entries.sort_by(|a, b| a.key().cmp(&b.key()));
        entries.into_iter()
    }

    /// Finds the entries that satisfy a condition, without checks.
    #[cfg(feature = "testing")]
    pub(crate) fn lookup_of(&self, condition: impl FnMut(&Entry) -> bool) -> Lookup {
        Lookup::new(self.entries().filter(condition).collect())
    }

    fn selects(&self, entry: &Entry) -> bool {
        let krate = entry.place().crate_name.replace('-', "_");
        (self.crates.is_empty() || self.crates.contains(&krate)) && !self.except.iter().any(|n| n == entry.name())
    }

    /// Checks that it can be run: no name twice, all states there, no contract that its code contradicts, all expected crates
    /// linked.
    pub(crate) fn check(&self, states: &States, expected: &[String]) -> Result<Lookup, Vec<Problem>> {
        let entries: Vec<Entry> = self.entries().collect();
        let mut problems = Vec::new();
        let mut report = |code: ErrorCode, found: Vec<String>| {
            problems.extend(found.into_iter().map(|problem| (code, problem)));
        };
        report(ErrorCode::DuplicateRegistration, duplicates(&entries));
        for entry in &entries {
            report(ErrorCode::MissingState, entry.missing_states(states).collect());
            report(ErrorCode::InvalidId, entry.invalid().into_iter().collect());
        }
        report(ErrorCode::ContractMismatch, Contract::mismatches(&entries));
        report(ErrorCode::CrateNotLinked, expected.iter().filter_map(|name| not_linked(name)).collect());
        if problems.is_empty() { Ok(Lookup::new(entries)) } else { Err(problems) }
    }
}

/// Something that keeps a registry from being run: its code, and what it is about.
pub(crate) type Problem = (ErrorCode, String);

/// `entries` are sorted.
fn duplicates(entries: &[Entry]) -> Vec<String> {
    let twice = entries.chunk_by(|a, b| a.key() == b.key()).filter(|same| same.len() > 1);
    twice
        .map(|same| {
            let all: Vec<_> = same.iter().map(|entry| entry.place().to_string()).collect();
            format!(
                "{} is registered {} times: {}; rename all but one (`name = \"..\"`)",
                same[0],
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
