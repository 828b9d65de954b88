//! The contract of a provider as test cases: the tests of a provider run all of [`cases`], each with an empty [`Subject`],
//! and all of [`admin_cases`] if the provider has an [`Admin`](super::Admin).
//!
//! The author of a provider needs them (feature `conformance`); the page [Provider testing guide] shows
//! their use.
//!
//! [Provider testing guide]: https://github.com/duroxide/duroxide/blob/main/docs/provider-testing-guide.md#1-conformance
//!
//! ```
//! use std::sync::Arc;
//! use duroxide::provider::conformance::{Subject, admin_cases, cases};
//! use duroxide::provider::{Lease, MemoryProvider, Provider};
//!
//! struct Memory(MemoryProvider);
//!
//! impl Subject for Memory {
//!     fn open(&self) -> Arc<dyn Provider> {
//!         Arc::new(self.0.clone())
//!     }
//!     fn kill(&self, _: Arc<dyn Provider>, lease: Lease) {
//!         self.0.kill(lease.epoch);
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! for case in cases().into_iter().chain(admin_cases()) {
//!     (case.run)(Arc::new(Memory(MemoryProvider::new()))).await;
//! }
//! # });
//! ```

mod acquiring;
mod activities;
mod admin;
mod audit;
mod claims;
mod creating;
mod departed;
mod fixture;
mod grafts;
mod identities;
mod mail;
mod members;
mod messages;
mod pauses;
mod reads;
mod redacts;
mod rollouts;
mod signals;
mod submissions;
mod turns;
mod waits;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Lease, Provider};

/// A store under test, empty at first.
pub trait Subject: Send + Sync {
    /// Opens the store: as another process would do, if the store can be shared by processes.
    fn open(&self) -> Arc<dyn Provider>;

    /// Simulates the death of a node that does not leave. Its provider is dropped here. The next renewal of another node must
    /// find it dead.
    fn kill(&self, provider: Arc<dyn Provider>, lease: Lease);
}

/// One behaviour that every provider must show.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Runs the test. Panics if the provider does not show the behaviour.
    pub run: fn(Arc<dyn Subject>) -> BoxFuture<'static, ()>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Returns the behaviours that every provider must show.
pub fn cases() -> Vec<Case> {
    [
        turns::CASES,
        creating::CASES,
        messages::CASES,
        mail::CASES,
        identities::CASES,
        activities::CASES,
        submissions::CASES,
        acquiring::CASES,
        claims::CASES,
        members::CASES,
        rollouts::CASES,
        pauses::CASES,
        reads::CASES,
        signals::CASES,
    ]
    .concat()
}

/// Returns the further behaviours that a provider with an [`Admin`](super::Admin) must show.
pub fn admin_cases() -> Vec<Case> {
    [
        admin::CASES,
        audit::CASES,
        departed::CASES,
        creating::ADMIN_CASES,
        activities::ADMIN_CASES,
        identities::ADMIN_CASES,
        submissions::ADMIN_CASES,
        grafts::CASES,
        redacts::CASES,
        members::ADMIN_CASES,
        signals::ADMIN_CASES,
        waits::ADMIN_CASES,
    ]
    .concat()
}

/// Makes the lists of a file's cases: those for all providers, and those that need an [`Admin`](super::Admin).
macro_rules! list {
    ($($name:ident),+ $(,)?) => {
        list!(@ CASES $($name),+);
    };
    (with_admin: $($admin:ident),+ $(,)?) => {
        list!(@ ADMIN_CASES $($admin),+);
    };
    ($($name:ident),+; with_admin: $($admin:ident),+ $(,)?) => {
        list!(@ CASES $($name),+);
        list!(@ ADMIN_CASES $($admin),+);
    };
    (@ $list:ident $($name:ident),+) => {
        pub(super) const $list: &[super::Case] = &[$(super::Case {
            name: stringify!($name),
            run: |subject| Box::pin($name(super::fixture::World::new(subject))),
        }),+];
    };
}
use list;
