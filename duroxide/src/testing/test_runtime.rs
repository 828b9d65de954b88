//! A runtime for tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::VirtualClock;
use super::mocks::{AsyncMock, Setup};
use super::stall;
use crate::activity::{Activity, ActivityCode, ActivityContext};
use crate::client::Client;
use crate::id::Epoch;
use crate::node::RuntimeOptions;
use crate::payload::compare_values_read_back;
use crate::provider::{MemoryProvider, Provider};
use crate::registry::Registry;
use crate::runtime::{Runtime, ShutdownError, StartError};

/// A runtime for tests. It stores its state in memory, and its clock jumps to the next due time while a test waits for
/// an outcome or sleeps, so that timers of months fire at once. The clock of tokio keeps running: an activity that is
/// not mocked may use sockets, threads and time limits of tokio, and takes no time by the clock of the runtime.
///
/// ```standalone_crate
/// use duroxide::prelude::*;
/// use duroxide::testing::TestRuntime;
///
/// #[activity]
/// async fn charge(cents: u64) -> duroxide::Result<String> {
///     unreachable!("would talk to the bank")
/// }
///
/// #[orchestration]
/// async fn checkout(ctx: OrchestrationContext, cents: u64) -> duroxide::Result<String> {
///     ctx.sleep(days(30)).await;
///     Ok(charge::call(&ctx, cents).await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// let test = TestRuntime::builder().mock::<charge>(|cents| Ok(format!("paid {cents}"))).start().await?;
/// let handle = checkout::start(&test.client(), "order-1", 500).await?;
/// assert_eq!(handle.result().await?, "paid 500");
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// A wait for an instance panics, with the reason, if it can never end: all runtimes are idle, no timer is pending, and
/// nothing has changed for some time ([`TestRuntimeBuilder::stall_limit`]). The reason says for what each unfinished instance
/// waits, or why it is suspended.
#[must_use = "a dropped runtime runs nothing"]
pub struct TestRuntime {
    runtime: Option<Runtime>,
    client: Client,
    /// The configuration, to start again with the same clock, state and mocks.
    builder: TestRuntimeBuilder,
    watchdog: AbortHandle,
}

/// Configures a [`TestRuntime`].
#[must_use]
#[derive(Clone)]
pub struct TestRuntimeBuilder {
    setup: Setup,
    clock: VirtualClock,
    provider: MemoryProvider,
    other: Option<Other>,
    stall_limit: Duration,
}

/// A provider in place of that in memory, and the function that kills a member of it.
#[derive(Clone)]
struct Other {
    provider: Arc<dyn Provider>,
    kill: Arc<dyn Fn(Epoch) + Send + Sync>,
}

impl TestRuntime {
    /// Configures a test runtime.
    pub fn builder() -> TestRuntimeBuilder {
        let (clock, provider) = (VirtualClock::new(), MemoryProvider::new());
        let (setup, stall_limit) = (Setup::default(), Duration::from_secs(2));
        TestRuntimeBuilder { setup, clock, provider, other: None, stall_limit }
    }

    /// Starts a test runtime with all annotated functions.
    ///
    /// # Errors
    /// [`StartError`] if the registry has problems.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Returns a client of the runtime.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the clock of the runtime.
    pub fn clock(&self) -> &VirtualClock {
        &self.builder.clock
    }

    /// Returns the provider of the runtime. Pass it to [`TestRuntimeBuilder::provider`] to continue with its state.
    pub fn provider(&self) -> &MemoryProvider {
        &self.builder.provider
    }

    /// Returns the provider of the runtime, even if it is another one than [`TestRuntime::provider`]. For the tests of
    /// providers.
    #[doc(hidden)]
    pub fn store(&self) -> Arc<dyn Provider> {
        self.builder.store()
    }

    /// Waits for a time, by the clock of the runtime. Every timer that is due by then fires at its time, and the work that
    /// follows from it is done when this returns; so time also passes for an instance that never ends. A sleep of zero
    /// waits until the runtime is idle.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::testing::TestRuntime;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// #[activity]
    /// async fn back_up() -> duroxide::Result<()> {
    ///     unreachable!("would copy the database")
    /// }
    ///
    /// #[orchestration]
    /// async fn nightly(ctx: OrchestrationContext) -> duroxide::Result<()> {
    ///     loop {
    ///         ctx.sleep(days(1)).await;
    ///         back_up::call(&ctx).await?;
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// let backups = Arc::new(AtomicU32::new(0));
    /// let counted = backups.clone();
    /// let mock = move |()| {
    ///     counted.fetch_add(1, Ordering::Relaxed);
    ///     Ok(())
    /// };
    /// let test = TestRuntime::builder().mock::<back_up>(mock).start().await?;
    /// nightly::start(&test.client(), "nightly").await?;
    /// test.sleep(days(7)).await;
    /// assert_eq!(backups.load(Ordering::Relaxed), 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If an activity without a mock was called and must not be ([`TestRuntimeBuilder::require_mocks`]).
    ///
    /// # Cancel safety
    /// If the future is dropped, the clock stays where it is.
    pub async fn sleep(&self, duration: Duration) {
        self.builder.clock.sleep(duration).await;
    }

    /// Moves the clock forward at once, even while an activity runs; see [`VirtualClock::advance`].
    pub fn advance(&self, duration: Duration) {
        self.builder.clock.advance(duration);
    }

    /// Ends the runtime as if its process had been killed. The returned builder starts it again, with its stored state,
    /// clock, mocks and options. Change them to continue with other code.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::testing::TestRuntime;
    ///
    /// #[orchestration]
    /// async fn nap(ctx: OrchestrationContext) -> duroxide::Result<String> {
    ///     ctx.sleep(days(2)).await;
    ///     Ok(ctx.now().to_string())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// let test = TestRuntime::start().await?;
    /// nap::start(&test.client(), "nap").await?;
    /// test.sleep(days(1)).await;
    /// let test = test.crash().start().await?;
    /// let handle = nap::handle(&test.client(), "nap");
    /// assert_eq!(handle.result().await?, "2020-01-03T00:00:00.000Z");
    /// # Ok(())
    /// # }
    /// ```
    pub fn crash(mut self) -> TestRuntimeBuilder {
        let epoch = self.runtime.as_ref().and_then(Runtime::epoch);
        if let Some(epoch) = epoch {
            match &self.builder.other {
                Some(other) => (other.kill)(epoch),
                None => self.builder.provider.kill(epoch),
            }
        }
        drop(self.runtime.take());
        self.builder.clone()
    }

    /// Shuts the runtime down gracefully.
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Panics
    /// If an activity without a mock was called and must not be ([`TestRuntimeBuilder::require_mocks`]).
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        if let Some(reason) = self.builder.clock.failure() {
            panic!("{reason}");
        }
        match self.runtime.take() {
            Some(runtime) => runtime.shutdown().await,
            None => Ok(()),
        }
    }
}

impl Drop for TestRuntime {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

impl TestRuntimeBuilder {
    /// Replaces the code of an activity. The mock is called with the input of the activity: for several parameters, a
    /// struct with one field for each, as visible as the activity.
    #[track_caller]
    pub fn mock<A: Activity>(
        self,
        mock: impl Fn(A::Input) -> Result<A::Output, A::Error> + Send + Sync + 'static,
    ) -> Self {
        self.mock_with_context::<A>(move |_, input| mock(input))
    }

    /// Like [`mock`](Self::mock), for a mock that also takes the context of the activity.
    #[track_caller]
    pub fn mock_with_context<A: Activity>(
        mut self,
        mock: impl Fn(ActivityContext, A::Input) -> Result<A::Output, A::Error> + Send + Sync + 'static,
    ) -> Self {
        self.setup.mock::<A>(ActivityCode::mock::<A>(mock, |_| true));
        self
    }

    /// Like [`mock_with_context`](Self::mock_with_context), for a mock that waits. The clock stands still while it does: to
    /// test a time limit, advance the clock in the meantime.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::testing::TestRuntime;
    ///
    /// #[activity]
    /// async fn fetch(page: u32) -> duroxide::Result<String> {
    ///     unreachable!("would fetch page {page}")
    /// }
    ///
    /// #[orchestration]
    /// async fn reads(ctx: OrchestrationContext) -> duroxide::Result<String> {
    ///     let page = fetch::call(&ctx, 1).timeout(minutes(1)).await;
    ///     Ok(page.unwrap_or_else(|_| "no page".to_owned()))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    /// let mock = move |_: ActivityContext, page| {
    ///     begun.send(page).expect("the test waits");
    ///     std::future::pending()
    /// };
    /// let test = TestRuntime::builder().mock_async::<fetch>(mock).start().await?;
    /// let handle = reads::start(&test.client(), "reads").await?;
    /// assert_eq!(begins.recv().await, Some(1));
    /// test.advance(minutes(1));
    /// assert_eq!(handle.result().await?, "no page");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn mock_async<A: Activity>(mut self, mock: impl AsyncMock<A>) -> Self {
        self.setup.mock::<A>(ActivityCode::mock_async::<A, _>(mock, |_| true));
        self
    }

    /// Refuses activities without a mock, so that none of them has an effect: if one is called, the test fails with its
    /// name, in its next wait for an instance, in its next [`sleep`](TestRuntime::sleep), or at the
    /// [`shutdown`](TestRuntime::shutdown). States that only these activities take need not be set. Default: such
    /// activities are run.
    pub fn require_mocks(mut self) -> Self {
        self.setup.requires_mocks = true;
        self
    }

    /// Provides a value to activities that take `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.setup.states.insert(value);
        self
    }

    /// Runs the functions of this registry, and the mocks. Default: all annotated functions.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.setup.registry = registry;
        self
    }

    /// Sets the build id of this runtime; see [`RuntimeBuilder::build_id`](crate::RuntimeBuilder::build_id).
    pub fn build_id(mut self, id: impl Into<String>) -> Self {
        self.setup.build = Some(id.into());
        self
    }

    /// Sets all other options.
    pub fn options(mut self, options: RuntimeOptions) -> Self {
        self.setup.options = options;
        self
    }

    /// Sets the activity tags that the runtime serves; see [`RuntimeBuilder::tags`](crate::RuntimeBuilder::tags).
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.setup.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Uses the provider of another runtime, to continue with its state.
    pub fn provider(mut self, provider: MemoryProvider) -> Self {
        (self.provider, self.other) = (provider, None);
        self
    }

    /// Keeps the state in another provider; `kill` ends a membership as the death of its process does. For the tests of
    /// providers: [`TestRuntime::provider`] is not used.
    #[doc(hidden)]
    pub fn other_provider(mut self, provider: Arc<dyn Provider>, kill: impl Fn(Epoch) + Send + Sync + 'static) -> Self {
        self.other = Some(Other { provider, kill: Arc::new(kill) });
        self
    }

    /// Uses the store of another runtime; see [`TestRuntime::store`].
    #[doc(hidden)]
    pub fn store_of(mut self, test: &TestRuntime) -> Self {
        (self.provider, self.other) = (test.builder.provider.clone(), test.builder.other.clone());
        self
    }

    fn store(&self) -> Arc<dyn Provider> {
        match &self.other {
            Some(other) => other.provider.clone(),
            None => Arc::new(self.provider.clone()),
        }
    }

    /// Uses the clock of another runtime.
    pub fn clock(mut self, clock: VirtualClock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the time, by the real clock, after which a test fails in which nothing can happen: it waits for an instance,
    /// all runtimes are idle and no timer is pending. Until then, another task of the test may still send an event. Default:
    /// 2 s. `Duration::MAX`: it waits without a limit.
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// [`StartError`] if the registry has problems.
    pub async fn start(self) -> Result<TestRuntime, StartError> {
        compare_values_read_back();
        let provider = self.store();
        let database = provider.transactional().map(|transactions| transactions.database());
        let builder = self.setup.runtime(&self.clock, database);
        let runtime = builder.shared_provider(provider.clone()).clock(self.clock.clone()).start().await?;
        let client = runtime.client();
        let watchdog = stall::watch(self.clock.clone(), provider, self.stall_limit);
        let watchdog = tokio::spawn(watchdog).abort_handle();
        Ok(TestRuntime { runtime: Some(runtime), client, builder: self, watchdog })
    }
}
