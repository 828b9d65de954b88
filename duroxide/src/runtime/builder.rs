//! Configures and starts a runtime.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::retention::{Remover, Retention};
use super::{Runtime, StartError};
use crate::activity::States;
use crate::client::Client;
use crate::clock::{Clock, SystemClock, tokio_is_paused};
use crate::id::{InvalidId, MAX_NAME_LEN, NodeId, check_text};
use crate::node::{Inline, NodeConfig, RunningNode, RuntimeOptions, check_live};
use crate::provider::{Handlers, MemoryProvider, NodeDetails, NodeInfo, Provider, ProviderError};
#[cfg(feature = "metrics")]
use crate::provider::{Layered, Measured};
use crate::registry::Registry;

/// Configures a [`Runtime`]; see [`Runtime::builder`].
#[must_use]
pub struct RuntimeBuilder {
    storage: Storage,
    /// True if the provider to be opened has no clock.
    has_no_clock: bool,
    registry: Registry,
    states: States,
    expected: Vec<String>,
    tags: Option<Vec<String>>,
    build: Option<String>,
    options: RuntimeOptions,
    /// The number of live instances of each orchestration that are replayed before the node joins.
    check_live: usize,
    retention: Retention,
    /// Default: the clock of the provider, or of the operating system.
    clock: Option<Arc<dyn Clock>>,
    /// The surroundings of a node that runs its turns itself.
    inline: Option<Arc<dyn Inline>>,
}

enum Storage {
    Missing,
    Given(Arc<dyn Provider>),
    Opener(Box<dyn FnOnce() -> BoxFuture<'static, Opened> + Send>),
}

type Opened = Result<Arc<dyn Provider>, ProviderError>;

impl Default for RuntimeBuilder {
    fn default() -> Self {
        Self {
            storage: Storage::Missing,
            has_no_clock: false,
            registry: Registry::discover(),
            states: States::default(),
            expected: Vec::new(),
            tags: None,
            build: None,
            options: RuntimeOptions::default(),
            check_live: 0,
            retention: Retention::new(),
            clock: None,
            inline: None,
        }
    }
}

impl RuntimeBuilder {
    /// Keeps state in a SQLite file, which is created if it does not exist.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(self, path: impl Into<std::path::PathBuf>) -> Self {
        self.sqlite_with(path, crate::sqlite::SqliteOptions::default())
    }

    /// Keeps state in a SQLite file that is opened with these options, such as another durability.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::sqlite::{Durability, SqliteOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// let options = SqliteOptions::new().durability(Durability::Relaxed);
    /// let runtime = Runtime::builder().sqlite_with(path, options).start().await?;
    /// runtime.shutdown().await?;
    /// Ok(())
    /// # }
    /// ```
    #[cfg(feature = "sqlite")]
    pub fn sqlite_with(self, path: impl Into<std::path::PathBuf>, options: crate::sqlite::SqliteOptions) -> Self {
        let path = path.into();
        let opened = self.open_provider(async move || crate::sqlite::SqliteProvider::open_with(path, options));
        Self { has_no_clock: true, ..opened }
    }

    /// Keeps state in memory, for tests and experiments. It is lost when the process ends.
    pub fn in_memory(self) -> Self {
        self.provider(MemoryProvider::new())
    }

    /// Keeps state in this provider.
    pub fn provider(self, provider: impl Provider) -> Self {
        self.shared_provider(Arc::new(provider))
    }

    /// Keeps state in the provider that this function opens. It is called by [`start`](Self::start), which returns its
    /// error. Meant for the extension trait of a provider, with a method such as `.sqlite(path)`.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::provider::{MemoryProvider, ProviderError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let refused = async || Err::<MemoryProvider, _>(ProviderError::permanent("connect", "no route to the host"));
    /// let error = Runtime::builder().open_provider(refused).start().await.err().unwrap();
    /// assert!(error.to_string().contains("no route to the host"), "{error}");
    /// # }
    /// ```
    pub fn open_provider<P, F>(mut self, open: impl FnOnce() -> F + Send + 'static) -> Self
    where
        P: Provider,
        F: Future<Output = Result<P, ProviderError>> + Send + 'static,
    {
        let open = move || -> BoxFuture<'static, Opened> {
            let opened = open();
            Box::pin(async move { opened.await.map(|provider| Arc::new(provider) as Arc<dyn Provider>) })
        };
        (self.storage, self.has_no_clock) = (Storage::Opener(Box::new(open)), false);
        self
    }

    /// Keeps state in a provider that is also used elsewhere.
    pub fn shared_provider(mut self, provider: Arc<dyn Provider>) -> Self {
        (self.storage, self.has_no_clock) = (Storage::Given(provider), false);
        self
    }

    /// Runs the orchestrations and activities of this registry. Default: all that are annotated in the linked crates.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn map_registry(mut self, change: impl FnOnce(Registry) -> Registry) -> Self {
        self.registry = change(self.registry);
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn into_registry(self) -> Registry {
        self.registry
    }

    /// Sets the value for activities that take `State<T>`. There is one value per type; the last one counts.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn states(mut self, states: States) -> Self {
        self.states = states;
        self
    }

    /// Refuses to start if nothing of this crate is linked: the linker leaves out a dependency that no code names, and
    /// its orchestrations with it.
    pub fn expect_crate(mut self, name: &str) -> Self {
        self.expected.push(name.to_owned());
        self
    }

    /// Runs activities with one of these tags, and those without a tag. Default: all activities.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Names the code of this program, for example by its commit. An instance that the code of one build cannot run is left
    /// to nodes of the other builds, each once. Default: a value that differs for each program file.
    pub fn build_id(mut self, id: impl Into<String>) -> Self {
        self.build = Some(id.into());
        self
    }

    /// Checks at the start that this code can continue running instances: replays up to `limit` of each registered
    /// orchestration, the newest ones, without writing anything. If the code would suspend one of them,
    /// [`start`](Self::start) fails before the node joins, and the error names the instances
    /// ([`StartError::incompatible`]). Otherwise the suspension comes with the next message of the instance. Default: 0, no
    /// check.
    ///
    /// Instances are not checked if they are suspended already, or belong to a version that is not registered here: this
    /// node does not run these. The page [Versioning] shows when to use it.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// let runtime = Runtime::builder().sqlite(path).check_live(100).start().await?;
    /// runtime.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [Versioning]: https://github.com/duroxide/duroxide/blob/main/docs/versioning.md#at-the-deploy
    pub fn check_live(mut self, limit: usize) -> Self {
        self.check_live = limit;
        self
    }

    /// Removes finished instances by their age, in the background, on one node at a time: at the start, and then once per hour.
    /// Removals are made in batches of 100 with pauses between them, so that they delay no work. Default: nothing is removed.
    ///
    /// Give all nodes of a store the same retention, since the oldest one removes. [`start`](Self::start) fails if the
    /// provider does not prune.
    ///
    /// ```standalone_crate
    /// use duroxide::prelude::*;
    /// use duroxide::runtime::Retention;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> duroxide::Result<()> {
    /// let retention = Retention::new().finished(days(90)).of("heartbeat", days(1)).keep("ledger");
    /// let runtime = Runtime::builder().in_memory().retention(retention).start().await?;
    /// runtime.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Sets all other options.
    pub fn options(mut self, options: RuntimeOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the clock. Default: the clock of the provider ([`Provider::clock`]), or else of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Runs turns and the heartbeat in the task of the node, without threads.
    #[cfg(feature = "testing")]
    pub(crate) fn inline(mut self, surroundings: impl Inline + 'static) -> Self {
        self.inline = Some(Arc::new(surroundings));
        self
    }

    /// Joins the provider and begins to execute. Must be called within a tokio runtime with a time driver, such as that
    /// of `#[tokio::main]`; async activities run on it.
    ///
    /// # Errors
    /// [`StartError`]: there is no tokio runtime, it has no time driver, or its clock is paused and no other clock was
    /// set; an option is zero that must not be; no storage was chosen, or it cannot be opened; the registry has problems,
    /// all of which are listed; this code cannot continue a live instance ([`check_live`](Self::check_live)).
    ///
    /// A start that fails leaves nothing behind: no file, no thread, no membership. Only a disk that fills up while the
    /// database is created keeps a part of its file, which the next start completes.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a member without work; other nodes end its membership after the lease time.
    pub async fn start(self) -> Result<Runtime, StartError> {
        self.start_node().await
    }

    /// Boxed, so that the node is compiled once: an async function is compiled in each crate that awaits it.
    fn start_node(self) -> BoxFuture<'static, Result<Runtime, StartError>> {
        Box::pin(async move {
            if tokio::runtime::Handle::try_current().is_err() {
                let problem = "there is no tokio runtime here: start it within one, as `#[tokio::main]` makes it";
                return Err(StartError::configuration(problem));
            }
            if !has_time_driver() {
                let problem = "the tokio runtime has no time driver: build it with `enable_time` or `enable_all`";
                return Err(StartError::configuration(problem));
            }
            if let Some(problem) = self.options.problem() {
                return Err(StartError::configuration(problem));
            }
            check_names(self.build.as_deref(), self.tags.as_deref())?;
            let lookup = Arc::new(self.registry.check(&self.states, &self.expected).map_err(StartError::registry)?);
            if self.clock.is_none() && self.has_no_clock {
                // Before the file is created.
                check_tokio_clock()?;
            }
            let provider = self.storage.open().await?;
            let database = provider.transactional().map(|provider| provider.database());
            if let Some(problem) = lookup.without_transaction(database) {
                return Err(StartError::no_transaction(problem));
            }
            #[cfg(feature = "metrics")]
            let provider: Arc<dyn Provider> = Arc::new(Layered(Measured::shared(provider)));
            if self.check_live > 0 {
                let admin = provider.admin().ok_or_else(StartError::no_admin)?;
                let check = check_live(&*provider, admin, &lookup, self.check_live).await?;
                StartError::of_check(check)?;
            }
            if self.retention.is_set() && provider.admin().is_none() {
                return Err(StartError::no_admin());
            }
            let clock = choose_clock(self.clock, &*provider)?;
            let RuntimeOptions { limits, retry_time, cause_messages, .. } = self.options;
            let (host, process) = (gethostname::gethostname().to_string_lossy().into_owned(), std::process::id());
            let info = NodeInfo {
                id: NodeId::new(),
                name: format!("{host}, process {process}"),
                build: lookup.build_id(self.build.as_deref()),
                handlers: Handlers {
                    orchestrations: lookup.orchestrations(),
                    activities: lookup.activities(),
                    tags: self.tags,
                },
                lease_time: self.options.lease_time,
                details: NodeDetails {
                    host: Some(host),
                    process: Some(process),
                    started_at: Some(clock.now()),
                    code: Arc::new(self.registry.describe()),
                },
            };
            let registered = lookup.orchestrations().into_iter().map(|(name, _)| name).collect();
            let node = RunningNode::start(NodeConfig {
                provider: provider.clone(),
                clock: clock.clone(),
                lookup,
                states: self.states,
                options: self.options,
                info,
                inline: self.inline,
            });
            let node = node.await?;
            let removals = self.retention.is_set().then(|| {
                let (provider, clock, node) = (provider.clone(), clock.clone(), node.handle().clone());
                Remover { provider, clock, node, retention: self.retention, registered }.spawn()
            });
            let client = Client::local(provider, clock, node.handle().clone());
            let client = client.with_limits(limits).with_retry_time(retry_time).with_cause_messages(cause_messages);
            Ok(Runtime { client, node, removals })
        })
    }
}

/// Checks the texts that are stored with the node.
fn check_names(build: Option<&str>, tags: Option<&[String]>) -> Result<(), StartError> {
    let build = build.map(|id| check_text("build id", id, MAX_NAME_LEN));
    let tags = tags.unwrap_or_default().iter().map(|tag| check_text("tag", tag, MAX_NAME_LEN));
    let checked: Result<(), InvalidId> = build.into_iter().chain(tags).collect();
    checked.map_err(|error| StartError::configuration(error.to_string()))
}

/// Returns true if the tokio runtime has a time driver. Without one, tokio panics when a timer is created, and offers no
/// other way to find out.
fn has_time_driver() -> bool {
    std::panic::catch_unwind(|| drop(tokio::time::sleep(std::time::Duration::ZERO))).is_ok()
}

/// Returns the clock that was set, or that of the provider, or that of the operating system.
fn choose_clock(set: Option<Arc<dyn Clock>>, provider: &dyn Provider) -> Result<Arc<dyn Clock>, StartError> {
    match set.or_else(|| provider.clock()) {
        Some(clock) => Ok(clock),
        None => check_tokio_clock().map(|()| Arc::new(SystemClock) as Arc<dyn Clock>),
    }
}

/// Refuses a paused clock of tokio for a node that uses the clock of the operating system: its sleeps would spin.
fn check_tokio_clock() -> Result<(), StartError> {
    if !tokio_is_paused() {
        return Ok(());
    }
    Err(StartError::configuration(
        "the clock of tokio is paused (`start_paused` or `tokio::time::pause`), but that of the operating system \
         runs: start a `testing::TestRuntime`, whose timers fire at once, or set a clock with `.clock(..)`",
    ))
}

impl Storage {
    async fn open(self) -> Result<Arc<dyn Provider>, StartError> {
        match self {
            Self::Given(provider) => Ok(provider),
            Self::Opener(open) => Ok(open().await?),
            Self::Missing => Err(StartError::configuration(
                "no storage was chosen: call `.sqlite(path)`, `.in_memory()` or `.provider(..)` on the builder",
            )),
        }
    }
}
