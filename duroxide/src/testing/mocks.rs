//! The configuration of a test runtime, with its mocks.

use std::future::Future;

use super::VirtualClock;
use crate::activity::{Activity, ActivityCode, ActivityContext, States};
use crate::error::ErrorCode;
use crate::node::RuntimeOptions;
use crate::registry::{Entry, Kind, Registry};
use crate::runtime::{Runtime, RuntimeBuilder};

/// A mock that waits: an async closure, or a function that returns a future. Every function with these types implements
/// it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a mock of an activity that waits",
    note = "it takes the context of the activity and its input, and returns a future of its result, which is `Send`"
)]
pub trait AsyncMock<A: Activity>:
    Fn(ActivityContext, A::Input) -> <Self as AsyncMock<A>>::Future + Send + Sync + 'static
{
    /// The future of its result.
    type Future: Future<Output = Result<A::Output, A::Error>> + Send + 'static;
}

impl<A: Activity, M, F> AsyncMock<A> for M
where
    M: Fn(ActivityContext, A::Input) -> F + Send + Sync + 'static,
    F: Future<Output = Result<A::Output, A::Error>> + Send + 'static,
{
    type Future = F;
}

/// The parts of a test runtime that outlive a crash, apart from its state and its clock.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) registry: Registry,
    mocks: Vec<Entry>,
    pub(super) requires_mocks: bool,
    pub(super) states: States,
    pub(super) tags: Option<Vec<String>>,
    pub(super) build: Option<String>,
    pub(super) options: RuntimeOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            registry: Registry::discover(),
            mocks: Vec::new(),
            requires_mocks: false,
            states: States::default(),
            tags: None,
            build: None,
            options: RuntimeOptions::default(),
        }
    }
}

impl Setup {
    #[track_caller]
    pub(super) fn mock<A: Activity>(&mut self, code: ActivityCode) {
        self.mocks.push(Entry::mock::<A>(code));
    }

    /// Returns a runtime of this configuration, for a provider with the transactions of this kind of database.
    pub(super) fn runtime(&self, clock: &VirtualClock, database: Option<&str>) -> RuntimeBuilder {
        let mut registry = self.mocks.iter().cloned().fold(self.registry.clone(), Registry::with_mock);
        if registry.entries().any(|entry| self.refusal(&entry, database).is_some()) {
            registry = registry.replace_activities(|entry| {
                let (clock, reason) = (clock.clone(), self.refusal(entry, database)?);
                Some(ActivityCode::failing(move || {
                    clock.fail(reason.clone());
                    reason.clone()
                }))
            });
        }
        let mut builder = Runtime::builder().registry(registry).states(self.states.clone());
        builder = builder.options(self.options.clone());
        if let Some(tags) = &self.tags {
            builder = builder.tags(tags.clone());
        }
        match &self.build {
            Some(build) => builder.build_id(build.clone()),
            None => builder,
        }
    }

    /// Returns the reason why an activity must not be called; `None` if it may be.
    fn refusal(&self, entry: &Entry, database: Option<&str>) -> Option<String> {
        let name = entry.name();
        if entry.kind() != Kind::Activity || self.mocks.iter().any(|mock| mock.name() == name) {
            return None;
        }
        if self.requires_mocks {
            return Some(format!("activity `{name}` was called but has no mock"));
        }
        let wanted = entry.transaction.filter(|wanted| Some(*wanted) != database)?;
        Some(format!(
            "{}: activity `{name}` was called; it runs in a transaction of {wanted}, which this test runtime does not have: give \
             it a mock by `TestRuntimeBuilder::mock`",
            ErrorCode::TransactionUnsuitable
        ))
    }
}
