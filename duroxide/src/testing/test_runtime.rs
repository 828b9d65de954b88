//! A runtime for tests.

use std::time::Duration;

use super::VirtualClock;
use crate::activity::{Activity, ActivityCode, ActivityContext};
use crate::client::Client;
use crate::node::RuntimeOptions;
use crate::payload::compare_values_read_back;
use crate::provider::MemoryProvider;
use crate::registry::Registry;
use crate::runtime::{Runtime, RuntimeBuilder, ShutdownError, StartError};

/// A runtime for tests. It stores its state in memory, and its clock jumps to the next due time while a test waits for
/// an outcome, so that timers of months fire at once. The clock of tokio keeps running: an activity that is not mocked
/// may use sockets, threads and time limits of tokio, and takes no time by the clock of the runtime.
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
pub struct TestRuntime {
    runtime: Option<Runtime>,
    client: Client,
    clock: VirtualClock,
    provider: MemoryProvider,
}

/// Configures a [`TestRuntime`].
#[must_use]
pub struct TestRuntimeBuilder {
    builder: RuntimeBuilder,
    clock: VirtualClock,
    provider: MemoryProvider,
}

impl TestRuntime {
    /// Configures a test runtime.
    pub fn builder() -> TestRuntimeBuilder {
        let (clock, provider) = (VirtualClock::new(), MemoryProvider::new());
        TestRuntimeBuilder { builder: Runtime::builder(), clock, provider }
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
        &self.clock
    }

    /// Returns the provider of the runtime. Pass it to [`TestRuntimeBuilder::provider`] to continue with its state.
    pub fn provider(&self) -> &MemoryProvider {
        &self.provider
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    /// Ends the runtime as if its process had been killed. Its stored state survives, and another runtime on the same
    /// [`provider`](Self::provider) continues with it.
    pub fn crash(mut self) -> MemoryProvider {
        let epoch = self.runtime.as_ref().and_then(Runtime::epoch);
        if let Some(epoch) = epoch {
            self.provider.kill(epoch);
        }
        drop(self.runtime.take());
        self.provider.clone()
    }

    /// Shuts the runtime down gracefully.
    ///
    /// # Errors
    /// None at present.
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        match self.runtime.take() {
            Some(runtime) => runtime.shutdown().await,
            None => Ok(()),
        }
    }
}

impl TestRuntimeBuilder {
    /// Replaces the code of an activity. The mock is called with the input of the activity: for several parameters, a
    /// struct with one field for each.
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
        let code = ActivityCode::mock::<A>(mock, |_| true);
        self.builder = self.builder.map_registry(|registry| registry.mock::<A>(code));
        self
    }

    /// Provides a value to activities that take `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.builder = self.builder.state(value);
        self
    }

    /// Runs the functions of this registry. It replaces the registry with all mocks that were set before.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.builder = self.builder.registry(registry);
        self
    }

    /// Sets the build id of this runtime; see [`RuntimeBuilder::build_id`].
    pub fn build_id(mut self, id: impl Into<String>) -> Self {
        self.builder = self.builder.build_id(id);
        self
    }

    /// Sets all other options.
    pub fn options(mut self, options: RuntimeOptions) -> Self {
        self.builder = self.builder.options(options);
        self
    }

    /// Sets the activity tags that the runtime serves; see [`RuntimeBuilder::tags`].
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.builder = self.builder.tags(tags);
        self
    }

    /// Uses the provider of another runtime, to continue with its state.
    pub fn provider(mut self, provider: MemoryProvider) -> Self {
        self.provider = provider;
        self
    }

    /// Uses the clock of another runtime.
    pub fn clock(mut self, clock: VirtualClock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// [`StartError`] if the registry has problems.
    pub async fn start(self) -> Result<TestRuntime, StartError> {
        let Self { builder, clock, provider } = self;
        compare_values_read_back();
        let runtime = builder.provider(provider.clone()).clock(clock.clone()).start().await?;
        let client = runtime.client();
        Ok(TestRuntime { runtime: Some(runtime), client, clock, provider })
    }
}
