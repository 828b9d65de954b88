//! Contracts: the types that callers link in place of the code.

use super::{Entry, Kind, Place};
use crate::activity::Activity;
use crate::orchestration::Orchestration;

/// The description of an annotated function without a body, collected from every linked crate. Made by the macros.
///
/// No node can run it. It is only compared with the code of the same name.
pub struct Contract {
    place: Place,
    kind: Kind,
    name: &'static str,
    version: Option<&'static str>,
    parameters: Option<&'static [&'static str]>,
}

inventory::collect!(Contract);

impl Contract {
    /// Describes an activity.
    pub const fn activity<A: Activity>(place: Place) -> Self {
        Self { place, kind: Kind::Activity, name: A::NAME, version: None, parameters: A::PARAMETERS }
    }

    /// Describes an orchestration.
    pub const fn orchestration<O: Orchestration>(place: Place) -> Self {
        let version = Some(O::VERSION);
        Self { place, kind: Kind::Orchestration, name: O::NAME, version, parameters: O::PARAMETERS }
    }

    /// Compares every linked contract with the code of its name and version.
    pub(super) fn mismatches(entries: &[Entry]) -> Vec<String> {
        let contracts = inventory::iter::<Self>.into_iter();
        let mut found: Vec<_> = contracts.flat_map(|c| entries.iter().filter_map(|entry| c.mismatch(entry))).collect();
        found.sort();
        found
    }

    fn mismatch(&self, entry: &Entry) -> Option<String> {
        let same = (self.kind, self.name, self.version) == (entry.kind(), entry.name(), entry.version());
        let (declared, taken) = (self.parameters?, entry.parameters?);
        (same && !agree(declared, taken)).then(|| {
            let (declared, taken) = (declared.join(", "), taken.join(", "));
            format!(
                "the contract of {entry} ({}) takes ({declared}), its code ({}) takes ({taken})",
                self.place,
                entry.place()
            )
        })
    }
}

/// Returns true if both lists make the same input. Several parameters are keyed by name, in any order; a single one has
/// no key.
fn agree(declared: &[&str], taken: &[&str]) -> bool {
    declared.len() == taken.len() && (declared.len() < 2 || declared.iter().all(|name| taken.contains(name)))
}
