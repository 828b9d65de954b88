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

    /// Compares every linked contract with the code of its name and version, or with the other contracts if the code
    /// is not linked.
    pub(super) fn mismatches(entries: &[Entry]) -> Vec<String> {
        let contracts: Vec<_> = inventory::iter::<Self>.into_iter().collect();
        let mut found = Vec::new();
        for (at, contract) in contracts.iter().enumerate() {
            match entries.iter().find(|entry| contract.is_of(entry)) {
                Some(code) => found.extend(contract.mismatch(code)),
                None => found.extend(contracts[..at].iter().filter_map(|other| contract.mismatch_of_contract(other))),
            }
        }
        found.sort();
        found
    }

    fn key(&self) -> (Kind, &'static str, Option<&'static str>) {
        (self.kind, self.name, self.version)
    }

    fn is_of(&self, entry: &Entry) -> bool {
        self.key() == (entry.kind(), entry.name(), entry.version())
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

/// Returns true if both lists make the same input. Several parameters are keyed by name, in any order; a single one has
/// no key.
fn agree(declared: &[&str], taken: &[&str]) -> bool {
    declared.len() == taken.len() && (declared.len() < 2 || declared.iter().all(|name| taken.contains(name)))
}
