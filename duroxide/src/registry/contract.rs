//! Contracts: the types that callers link in place of the code.

use semver::Version;

use super::{Entry, Kind, Place};
use crate::activity::Activity;
use crate::orchestration::Orchestration;
use crate::policy::{ActivityOptions, RetryPolicy};

/// The description of an annotated function without a body, collected from every linked crate. Made by the macros.
///
/// No node can run it. It is only compared with the code of the same name.
pub struct Contract {
    place: Place,
    kind: Kind,
    name: &'static str,
    version: Option<&'static str>,
    parameters: Option<&'static [&'static str]>,
    /// Returns the options with which its callers schedule an activity.
    options: Option<fn() -> ActivityOptions>,
}

inventory::collect!(Contract);

impl Contract {
    /// Describes an activity.
    pub const fn activity<A: Activity>(place: Place) -> Self {
        let (parameters, options) = (A::PARAMETERS, Some(A::options as fn() -> ActivityOptions));
        Self { place, kind: Kind::Activity, name: A::NAME, version: None, parameters, options }
    }

    /// Describes an orchestration.
    pub const fn orchestration<O: Orchestration>(place: Place) -> Self {
        let version = Some(O::VERSION);
        let (parameters, options) = (O::PARAMETERS, None);
        Self { place, kind: Kind::Orchestration, name: O::NAME, version, parameters, options }
    }

    /// Compares every linked contract with its code, or with the other contracts if the code is not linked.
    pub(super) fn mismatches(entries: &[Entry]) -> Vec<String> {
        let contracts: Vec<_> = inventory::iter::<Self>.into_iter().collect();
        let mut found = Vec::new();
        for (at, contract) in contracts.iter().enumerate() {
            match contract.code_among(entries) {
                Some(code) => found.extend(contract.mismatch(code).into_iter().chain(contract.unused_options(code))),
                None => found.extend(contracts[..at].iter().filter_map(|other| contract.mismatch_of_contract(other))),
            }
        }
        found.sort();
        found
    }

    fn key(&self) -> (Kind, &'static str, Option<&'static str>) {
        (self.kind, self.name, self.version)
    }

    /// Returns the code of this contract among sorted entries: that of its version, or else the latest if that is newer,
    /// since a start takes the latest. Code that is only older than the contract belongs to another one.
    fn code_among<'e>(&self, entries: &'e [Entry]) -> Option<&'e Entry> {
        let same_name = || entries.iter().filter(|entry| (entry.kind(), entry.name()) == (self.kind, self.name));
        let version = |text: Option<&str>| text.and_then(|text| Version::parse(text).ok());
        let latest = || same_name().next_back().filter(|latest| version(latest.version()) > version(self.version));
        same_name().find(|entry| entry.version() == self.version).or_else(latest)
    }

    /// Returns the options of the code that have no effect, since callers schedule it with those of the contract.
    fn unused_options(&self, code: &Entry) -> Option<String> {
        let (declared, own) = (self.options?(), code.options.as_ref()?);
        let unused = [
            ("timeout", own.start_to_close.is_some() && own.start_to_close != declared.start_to_close),
            (
                "schedule_to_close",
                own.schedule_to_close.is_some() && own.schedule_to_close != declared.schedule_to_close,
            ),
            ("retry", is_unused(own.retry.as_ref(), declared.retry.as_ref())),
        ];
        let unused: Vec<_> = unused.iter().filter(|(_, unused)| *unused).map(|(key, _)| format!("`{key}`")).collect();
        (!unused.is_empty()).then(|| {
            let (keys, place, contract) = (unused.join(" and "), code.place(), self.place);
            format!(
                "the code of {code} ({place}) declares {keys}, but calls of its contract ({contract}) are scheduled with \
                 the options of the contract: declare it there (only `if` of a retry stays with the code)"
            )
        })
    }

    fn mismatch(&self, code: &Entry) -> Option<String> {
        let (declared, taken) = (self.parameters?, code.parameters?);
        (!agree(declared, taken)).then(|| {
            let (declared, taken) = (declared.join(", "), taken.join(", "));
            format!(
                "the contract of {code} ({}) takes ({declared}), its code ({}) takes ({taken})",
                self.place,
                code.place()
            )
        })
    }

    fn mismatch_of_contract(&self, other: &Self) -> Option<String> {
        let (here, there) = (self.parameters?, other.parameters?);
        (self.key() == other.key() && !agree(here, there)).then(|| {
            let (name, here, there) = (self.name, here.join(", "), there.join(", "));
            let (place, other) = (self.place, other.place);
            format!(
                "two contracts of `{name}` differ: one ({place}) takes ({here}), the other ({other}) takes ({there})"
            )
        })
    }
}

/// Returns true if the policy of the code is not that of the contract. One without keys, or with a condition alone, only
/// needs that there is a policy.
fn is_unused(own: Option<&RetryPolicy>, declared: Option<&RetryPolicy>) -> bool {
    own.is_some_and(|own| declared.is_none_or(|declared| own != declared && *own != RetryPolicy::new()))
}

/// Returns true if both lists make the same input. Several parameters are keyed by name, in any order; a single one has
/// no key.
fn agree(declared: &[&str], taken: &[&str]) -> bool {
    declared.len() == taken.len() && (declared.len() < 2 || declared.iter().all(|name| taken.contains(name)))
}
