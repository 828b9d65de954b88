//! The client: starts instances, sends messages to them, waits for them and reads them.
//!
//! A program that starts or watches instances needs it: the program that runs them, or any other with access to their
//! storage. [`Client`] and [`Handle`] are also at the crate root; the other types are returned by their methods. The
//! page [Orchestration guide] shows lists, histories and removals.
//!
//! [Orchestration guide]: https://github.com/duroxide/duroxide/blob/main/docs/ORCHESTRATION-GUIDE.md#looking-at-instances

mod active;
mod admin;
mod audit;
mod bulk;
mod client_error;
mod cut_point;
mod drop_message;
mod erase;
mod events;
mod export;
mod graft;
mod handle;
mod inspect;
mod measure;
mod pause;
mod queues;
mod raise;
mod report;
mod snapshot;
mod start;
mod status;
mod store_metrics;
mod submit;
mod terminate;
mod tree;
mod wait;
mod wake;
mod within;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use admin::InstanceList;
pub use bulk::{BulkAction, BulkCall, BulkFailure, BulkPreview, BulkReport};
pub use client_error::{ClientError, OutcomeError};
pub use cut_point::CutPoint;
pub use events::{EventList, EventView};
pub use export::{Exports, InstanceExport};
pub use graft::{AffectedChild, CarriedEvent, CutPlan, ForkCall, RepeatedActivity, ResetCall};
pub use handle::{Handle, Untyped};
#[cfg(feature = "testing")]
pub(crate) use inspect::open_waits;
pub use inspect::{Action, Blame, Fact, Inspection, OpenWait, UnreadEvents, Waiting, Why, WhyState};
pub use pause::SuspendCall;
pub use raise::RaiseCall;
pub(crate) use snapshot::{Snapshot, executions};
pub use start::StartCall;
pub use status::Status;
pub use store_metrics::StoreMetrics;
pub use tree::{Tree, TreeLimits};
pub use within::{Raised, StartedWithin};

use crate::clock::{Clock, Timestamp};
use crate::id::InstanceId;
use crate::node::NodeHandle;
use crate::payload::Payload;
use crate::policy::Limits;
pub use crate::provider::Note;
use crate::provider::{Provider, clock_of};

/// Starts instances, and sends events and requests to them. Cheap to clone.
///
/// [`Runtime::client`](crate::Runtime::client) returns a client that passes new instances and messages to that runtime
/// at once. [`Client::new`] creates a client without a runtime: its requests are stored, and the first node that claims
/// them carries them out. A client of a runtime that has stopped can only read; all other requests fail with `DUR0103`.
///
/// ```standalone_crate
/// use duroxide::prelude::*;
/// use duroxide::provider::MemoryProvider;
///
/// #[orchestration]
/// async fn greet(ctx: OrchestrationContext, name: String) -> duroxide::Result<String> {
///     Ok(format!("hello, {name}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> duroxide::Result<()> {
/// let provider = MemoryProvider::new();
/// let client = Client::new(provider.clone());
/// let handle = client.start("greet", "first", &"world").await?; // no node runs it yet
///
/// let runtime = Runtime::builder().provider(provider).start().await?;
/// assert_eq!(handle.result().await?, "hello, world");
/// runtime.shutdown().await?;
/// Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    retry_time: Duration,
    local: Option<NodeHandle>,
    note: Option<Arc<Note>>,
    cause_messages: bool,
}

impl Client {
    /// The default of [`with_retry_time`](Self::with_retry_time).
    pub(crate) const RETRY_TIME: Duration = Duration::from_secs(60);

    /// Creates a client without a runtime.
    pub fn new(provider: impl Provider) -> Self {
        Self::shared(Arc::new(provider))
    }

    /// Creates a client without a runtime, on a provider that the program also uses elsewhere.
    pub fn shared(provider: Arc<dyn Provider>) -> Self {
        let clock = clock_of(&*provider);
        let (limits, retry_time) = (Limits::default(), Self::RETRY_TIME);
        Self { provider, clock, limits, retry_time, local: None, note: None, cause_messages: true }
    }

    /// Sets the time for which a request is retried while the storage fails, for example because another program has
    /// locked the database. The error after it says how long the request was retried, and at which operation the storage
    /// failed last. [`Duration::ZERO`]: a request is tried once. It does not limit a wait for the end of an instance,
    /// nor a request that the storage does not answer. A start, a message, a termination and a resumption are retried for
    /// 270 s at most, since the storage recognises a repetition for a limited time
    /// ([`REPEAT_TIME`](crate::provider::REPEAT_TIME)).
    ///
    /// Default: 60 s, or [`RuntimeOptions::retry_time`](crate::RuntimeOptions::retry_time) for the client of a runtime.
    /// That is longer than the storage fails for common reasons: a checkpoint takes a few seconds, a program that
    /// makes a backup with a lock some ten seconds, a fail-over of a database up to a minute.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::provider::MemoryProvider;
    ///
    /// // For a web server that answers within two seconds.
    /// let client = Client::new(MemoryProvider::new()).with_retry_time(seconds(2));
    /// # drop(client);
    /// ```
    #[must_use]
    pub fn with_retry_time(self, retry_time: Duration) -> Self {
        Self { retry_time, ..self }
    }

    /// Sets the limits of inputs and events. Give a client without a runtime the limits of the runtimes that run its
    /// instances: a larger value would be refused there, or suspend the instance that passes it on. Default:
    /// [`Limits::default`], or [`RuntimeOptions::limits`](crate::RuntimeOptions::limits) for the client of a runtime.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::provider::MemoryProvider;
    /// use duroxide::runtime::Limits;
    ///
    /// let limits = Limits::default().payload(10 * 1024 * 1024);
    /// let client = Client::new(MemoryProvider::new()).with_limits(limits);
    /// # drop(client);
    /// ```
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets whether the cause of a pause holds its reason without the parts that differ between instances, so that pauses are
    /// counted by it. With `false`, the cause is only the code of a pause. The reason itself is stored with the instance
    /// in any case. Default: true, or [`RuntimeOptions::cause_messages`](crate::RuntimeOptions::cause_messages) for the
    /// client of a runtime.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::provider::MemoryProvider;
    ///
    /// let client = Client::new(MemoryProvider::new()).with_cause_messages(false);
    /// # drop(client);
    /// ```
    #[must_use]
    pub fn with_cause_messages(self, cause_messages: bool) -> Self {
        Self { cause_messages, ..self }
    }

    /// Replaces the clock of the client. In a test, use the clock of the runtime that runs its instances: a delay of a
    /// day by the clock of the machine would end years after the time of a
    /// [`VirtualClock`](crate::testing::VirtualClock).
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::testing::TestRuntime;
    ///
    /// #[orchestration]
    /// async fn greet(ctx: OrchestrationContext) -> duroxide::Result<String> {
    ///     Ok(format!("hello at {}", ctx.now()))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// let test = TestRuntime::start().await?;
    /// // A client as in another process.
    /// let client = Client::new(test.provider().clone()).with_clock(test.clock().clone());
    /// let handle = greet::start(&client, "tomorrow").delay(days(1)).await?;
    /// assert_eq!(handle.result().await?, "hello at 2020-01-02T00:00:00.000Z");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Returns a client that acts for a person or a program: its cancels, terminations and events name the actor in the
    /// history of the instance, and each of its actions that has an effect writes an entry to the [`audit`](Self::audit), in
    /// the same transaction. A client without a note records neither.
    ///
    /// A start with a note is stored before its first turn: it needs one commit more than a start without one.
    ///
    /// ```
    /// use duroxide::client::Note;
    /// use duroxide::prelude::*;
    ///
    /// async fn stop(client: &Client, id: &str) -> duroxide::Result<()> {
    ///     let client = client.clone().with_note(Note::by("ana"));
    ///     client.handle(id).cancel("the order was entered twice").await?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn with_note(self, note: Note) -> Self {
        Self { note: Some(Arc::new(note)), ..self }
    }

    /// Returns the name of the actor that this client acts for.
    fn actor(&self) -> Option<String> {
        self.note.as_ref().map(|note| note.actor.clone())
    }

    /// Creates the client of a runtime.
    pub(crate) fn local(provider: Arc<dyn Provider>, clock: Arc<dyn Clock>, local: NodeHandle) -> Self {
        Self { clock, local: Some(local), ..Self::shared(provider) }
    }

    /// Starts an orchestration by a name that is chosen at run time. For a name that is known at compile time, use the
    /// typed `orchestration::start(&client, ..)`.
    pub fn start(&self, name: &str, id: impl AsRef<str>, input: &(impl Serialize + ?Sized)) -> StartCall<Untyped> {
        StartCall::new(self, name, id.as_ref(), Payload::encode(input))
    }

    /// Returns a handle to an instance whose types are not known here. The instance need not exist: the methods of the
    /// handle report a missing one.
    pub fn handle(&self, id: impl AsRef<str>) -> Handle<Untyped> {
        Handle::new(self, id.as_ref())
    }

    /// Returns the time by the clock of this client, which sets the times of its starts, messages and prunes.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns true if this is the client of a runtime that has stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.stop_signal().is_set())
    }

    /// Refuses a request that changes anything if the runtime of this client has stopped. A request that is already
    /// under way is carried out.
    fn check_running(&self, instance: Option<&InstanceId>) -> Result<(), ClientError> {
        if self.is_stopped() { Err(ClientError::stopped(instance)) } else { Ok(()) }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn epoch(&self) -> Option<crate::id::Epoch> {
        self.local.as_ref().map(|local| local.lease().epoch)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("local", &self.local.is_some()).finish_non_exhaustive()
    }
}
