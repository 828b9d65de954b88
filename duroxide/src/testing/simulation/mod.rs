//! A simulation of nodes, clients, storage and time on one thread, with faults that a seed chooses.

mod activity;
mod answered;
mod chaos;
mod clock;
mod connection;
mod dice;
mod faults;
mod host;
mod oracle;
mod record;
mod report;
mod seeds;
mod storage;
mod world;

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

pub use self::answered::Answered;
pub use self::faults::Faults;
pub use self::report::{Failure, Report};
pub use self::seeds::for_each_seed;
pub use self::storage::Flaw;

use self::clock::WallClock;
use self::connection::Connection;
use self::dice::{Dice, Stream};
use self::host::{Host, Order};
use self::storage::Isolation;
use self::world::{Process, World};
use crate::activity::{Activity, ActivityCode};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::error::{ErrorCode, Suspension};
use crate::id::InstanceId;
use crate::node::RuntimeOptions;
use crate::provider::{InstanceRecord, InstanceStatus, Layered, Provider, Submission};
use crate::random::seeded::Seeded;
use crate::registry::Registry;
use crate::runtime::{Runtime, RuntimeBuilder};

/// Runs orchestrations on several nodes that crash, with a storage that fails, on one thread, and checks the guarantees
/// of the library. The same seed always leads to the same run, so that a failure can be reproduced.
///
/// A *scenario* starts instances and sends them events. While it runs, each call of the storage may be delayed, fail,
/// or lose its answer; nodes crash between any two steps, lose their leases, and are restarted; their clocks differ;
/// live copies are dropped. Once the scenario has returned, the faults end, and every instance must finish. Then the
/// simulation checks that:
///
/// - every instance that was started has finished, and the stored histories are exactly the committed ones;
/// - every history is well formed and replays: every call has at most one outcome, no timer fired early, and no event
///   is later than any clock has shown;
/// - no commit was carried out twice, or for a node that did not own the instance;
/// - no message was lost, read twice, or read before an earlier one, even between processes and across continue-as-new;
/// - the outcome of an activity is that of one of its attempts, and no attempt was made beyond its policy, or before
///   the activity was committed;
/// - the outcomes that parents have of their children are right, and no child outlived a parent that should have closed
///   it;
/// - no message and no activity is left, and no node or client was in an endless loop.
///
/// Time is virtual: waits take no real time, and an orchestration may sleep for days. For a run to be repeatable, its
/// code must depend only on the seed: not on other threads, the system time, the iteration order of a `HashMap`, or the
/// random choice of a `tokio::select!` without `biased`.
///
/// ```standalone_crate
/// use duroxide::prelude::*;
/// use duroxide::testing::{Simulation, for_each_seed};
///
/// #[activity(retry(max_attempts = 5))]
/// async fn charge(cents: u64) -> duroxide::Result<String> {
///     unreachable!("would talk to the bank")
/// }
///
/// #[event]
/// struct Approval { by: String }
///
/// #[orchestration]
/// async fn checkout(ctx: OrchestrationContext, cents: u64) -> duroxide::Result<String> {
///     select! {
///         _ = ctx.event::<Approval>() => {}
///         _ = ctx.sleep(days(3)) => return Err(duroxide::Error::new("not approved")),
///     }
///     Ok(charge::call(&ctx, cents).await?)
/// }
///
/// // A test would run some hundreds of seeds.
/// for_each_seed(20, |seed| {
///     Simulation::new(seed).mock::<charge>(|cents| Ok(format!("paid {cents}"))).run(|sim| async move {
///         let order = checkout::start(&sim.client(), "order-1", 500).await?;
///         order.raise(Approval { by: "Ada".to_owned() }).await?;
///         assert_eq!(order.result().await?, "paid 500");
///         Ok::<_, duroxide::Error>(())
///     })
/// });
/// ```
#[must_use = "nothing happens before `run`"]
pub struct Simulation {
    seed: u64,
    nodes: usize,
    faults: Faults,
    isolation: Isolation,
    setup: Setup,
    resumed: Vec<ErrorCode>,
    limit: Duration,
    traced: bool,
}

/// The configuration of the nodes.
#[derive(Clone)]
struct Setup {
    builder: Arc<dyn Fn(RuntimeBuilder, usize) -> RuntimeBuilder + Send + Sync>,
    mocks: Arc<dyn Fn(Registry) -> Registry + Send + Sync>,
    options: RuntimeOptions,
}

impl Simulation {
    /// Creates a simulation with this seed: three nodes with all annotated functions, and all faults.
    pub fn new(seed: u64) -> Self {
        let setup = Setup {
            builder: Arc::new(|builder, _| builder),
            mocks: Arc::new(|registry| registry),
            options: RuntimeOptions::new(),
        };
        // The injected crashes lead to crash loops, so this suspension is not a finding.
        let resumed = vec![ErrorCode::CrashLoop];
        Self {
            seed,
            nodes: 3,
            faults: Faults::all(),
            isolation: Isolation::default(),
            setup,
            resumed,
            limit: Duration::from_secs(30 * 86_400),
            traced: false,
        }
    }

    /// Sets the number of nodes, at least one. Default: 3.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes.max(1);
        self
    }

    /// Sets the kinds of faults. Default: all.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Gives the storage the concurrency of a database such as PostgreSQL: writes become visible some time after they
    /// have begun, overtake each other, and wait for each other's locks; reads and claims see only finished writes.
    /// Default: false, every call of the storage is atomic.
    pub fn snapshots(mut self, on: bool) -> Self {
        self.isolation = if on { Isolation::Snapshots(None) } else { Isolation::Linearizable };
        self
    }

    /// As [`snapshots`](Self::snapshots), with a storage that has a bug: for tests of the simulation.
    #[doc(hidden)]
    pub fn flaw(mut self, flaw: Flaw) -> Self {
        self.isolation = Isolation::Snapshots(Some(flaw));
        self
    }

    /// Configures each node whenever it starts: its registry, its states, its tags. The function takes the number of
    /// the node, from 0. Node 0 must have the code of all orchestrations, because histories are checked against its
    /// registry. The simulation sets the storage, the clock and the number of idle instances.
    pub fn setup(mut self, setup: impl Fn(RuntimeBuilder, usize) -> RuntimeBuilder + Send + Sync + 'static) -> Self {
        self.setup.builder = Arc::new(setup);
        self
    }

    /// Sets the options of the nodes. They are applied before [`setup`](Self::setup).
    pub fn options(mut self, options: RuntimeOptions) -> Self {
        self.setup.options = options;
        self
    }

    /// Replaces the code of an activity; see [`TestRuntimeBuilder::mock`](super::TestRuntimeBuilder::mock).
    #[track_caller]
    pub fn mock<A: Activity>(
        mut self,
        mock: impl Fn(A::Input) -> Result<A::Output, A::Error> + Send + Sync + 'static,
    ) -> Self {
        let code = ActivityCode::mock::<A>(move |_, input| mock(input), |_| true);
        let before = self.setup.mocks;
        self.setup.mocks = Arc::new(move |registry| before(registry).mock::<A>(code.clone()));
        self
    }

    /// Resumes instances that are suspended with this code, as an operator would. Any other suspension is a finding,
    /// except [`ErrorCode::CrashLoop`], which the injected crashes cause.
    pub fn resume(mut self, code: ErrorCode) -> Self {
        self.resumed.push(code);
        self
    }

    /// Sets the time limit of a run, by the virtual clock. A run that reaches it hangs, which is a finding. Default: 30
    /// days.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Records a trace of the run in [`Report::trace`] or [`Failure::trace`]. Default: false.
    pub fn trace(mut self, traced: bool) -> Self {
        self.traced = traced;
        self
    }

    /// Runs a scenario. Must not be called within a tokio runtime, because it creates one.
    ///
    /// # Errors
    /// [`Failure`] if a guarantee is violated, or if the scenario fails, panics or hangs.
    pub fn run<F, E: Display>(self, scenario: impl FnOnce(Sim) -> F) -> Result<Report, Failure>
    where
        F: Future<Output = Result<(), E>>,
    {
        let _seeded = Seeded::new(self.seed);
        let seed = self.seed;
        let refused = |error: std::io::Error| Failure { seed, findings: vec![error.to_string()], trace: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map_err(refused)?.block_on(self.run_in_time(scenario))
    }

    async fn run_in_time<F, E: Display>(self, scenario: impl FnOnce(Sim) -> F) -> Result<Report, Failure>
    where
        F: Future<Output = Result<(), E>>,
    {
        let begun = Instant::now();
        let world = World::new(self.seed, self.faults, self.isolation, self.traced);
        let mut dice = Dice::new(self.seed, Stream::Chaos);
        let hosts: Vec<_> = (0..self.nodes)
            .map(|number| {
                let clock = WallClock::new(begun);
                clock.set(chaos::skew(&world, &mut dice));
                Host::open(&world, &self.setup, number, clock)
            })
            .collect();
        tokio::spawn(forward_signals(world.clone(), hosts.clone()));
        tokio::spawn(chaos::inject(world.clone(), hosts.clone(), dice));
        let dice = Mutex::new(Dice::new(self.seed, Stream::Scenario));
        let sim = Sim(Arc::new(Shared {
            world: world.clone(),
            hosts,
            dice,
            resumed: self.resumed,
            suspended: Mutex::default(),
        }));
        let found = tokio::select! {
            biased;
            () = world.failed() => Vec::new(),
            found = sim.run_scenario(scenario, &self.setup) => found,
            () = tokio::time::sleep(self.limit) => sim.describe_hang().await,
        };
        let findings = [std::mem::take(&mut world.record().violations), found].concat();
        let trace = world.take_trace();
        if !findings.is_empty() {
            return Err(Failure { seed: self.seed, findings, trace });
        }
        let (instances, answered) = {
            let record = world.record();
            (record.instances.len(), record.answered.clone())
        };
        Ok(Report {
            seed: self.seed,
            instances,
            calls: world.calls(),
            faults: world.faults(),
            crashes: world.crashes(),
            answered,
            time: begun.elapsed(),
            trace,
        })
    }
}

/// The interface of a simulation to its scenario. Cheap to clone.
#[derive(Clone)]
pub struct Sim(Arc<Shared>);

struct Shared {
    world: Arc<World>,
    hosts: Vec<Arc<Host>>,
    /// A std mutex: held for a few instructions, never across an await.
    dice: Mutex<Dice>,
    resumed: Vec<ErrorCode>,
    /// The suspended instances, each with the time at which it was first found so.
    suspended: Mutex<HashMap<InstanceId, Instant>>,
}

impl Sim {
    /// Returns a client in its own process, which does not crash. Its calls fail like those of nodes, but so few in a
    /// row that its retries succeed.
    pub fn client(&self) -> Client {
        let connection = Connection::new(&self.0.world, Process::Client);
        Client::new(Layered(connection)).with_clock(self.0.world.clock.clone())
    }

    /// Runs a function with a client in the process of a node, which passes new instances and messages to that node at
    /// once. Returns `None` if the node does not run, or if it crashes or is shut down before the function returns:
    /// then the requests of the function may or may not have been carried out.
    pub async fn on_node<T, F: Future<Output = T>>(&self, node: usize, act: impl FnOnce(Client) -> F) -> Option<T> {
        let host = self.0.hosts.get(node)?;
        let (connection, client) = (host.connection(), host.client()?);
        let own = client.clone();
        tokio::select! {
            biased;
            () = connection.died() => None,
            done = act(client) => (!own.is_stopped()).then_some(done),
        }
    }

    /// Returns the true time. The clocks of the nodes may differ.
    pub fn now(&self) -> Timestamp {
        self.0.world.now()
    }

    /// Waits for a time, by the virtual clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Returns a number below a limit; the seed chooses it.
    pub fn below(&self, limit: u64) -> u64 {
        self.0.dice.lock().unwrap_or_else(PoisonError::into_inner).below(limit)
    }

    /// Crashes a node, as if its process had been killed. The node restarts later.
    pub fn crash(&self, node: usize) {
        if let Some(host) = self.0.hosts.get(node) {
            host.connection().die();
        }
    }

    /// Shuts a node down gracefully. The node restarts after the time `down`.
    pub fn restart(&self, node: usize, down: Duration) {
        if let Some(host) = self.0.hosts.get(node) {
            host.order(Order::Restart(down));
        }
    }

    /// Ends all faults: the nodes restart, the clocks show the true time, and no more faults are injected. Returns once
    /// every message that is due was read. Messages that stay unread for 600 s are a finding.
    pub async fn quiesce(&self) {
        let Shared { world, hosts, .. } = &*self.0;
        world.end_faults();
        for host in hosts {
            host.clock().set(0);
            host.order(Order::EnsureRunning);
        }
        const LIMIT: u64 = 600;
        for _ in 0..LIMIT {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.resume_suspended().await;
            if world.record().unread(world.now()).next().is_none() {
                oracle::orphans(world).for_each(|orphan| world.violated(orphan));
                return;
            }
        }
        oracle::orphans(world).for_each(|orphan| world.violated(orphan));
        let unread: Vec<_> = world.record().unread(world.now()).map(ToString::to_string).collect();
        world.violated(format!("messages to these instances were not read in {LIMIT} s without faults: {unread:?}"));
    }

    /// Runs the scenario, waits until all instances have finished, and returns the findings.
    async fn run_scenario<F, E: Display>(&self, scenario: impl FnOnce(Self) -> F, setup: &Setup) -> Vec<String>
    where
        F: Future<Output = Result<(), E>>,
    {
        let scenario = AssertUnwindSafe(async { scenario(self.clone()).await });
        match scenario.catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return vec![format!("the scenario failed: {error}")],
            Err(panic) => {
                return vec![format!("the scenario panicked: {:?}", crate::replay::panicked(&*panic).failure)];
            }
        }
        self.quiesce().await;
        self.all_ended().await;
        let builder = (setup.builder)(Runtime::builder(), 0);
        let found = oracle::check(&self.0.world, &(setup.mocks)(builder.into_registry())).await;
        found.unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Waits until every instance has finished and every activity has ended.
    async fn all_ended(&self) {
        let world = &self.0.world;
        loop {
            let seen = world.events();
            let is_suspended = self.resume_suspended().await;
            let open = world.record().instances.values().any(|seen| !seen.status.is_finished());
            if !open && world.storage.visible().left().activities.is_empty() {
                return;
            }
            if !is_suspended {
                world.next_event(seen).await;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }

    /// Resumes instances that are suspended with an expected code. Any other suspension that lasts for a minute is a
    /// finding: a node with other code may still be about to join. A finished instance may have a suspension, too: that of
    /// a detached activity which was parked. Returns true if there was a suspended instance.
    async fn resume_suspended(&self) -> bool {
        let Shared { world, resumed, .. } = &*self.0;
        let Ok(instances) = oracle::all_instances(world).await else { return true };
        let suspended = |r: &InstanceRecord| r.status == InstanceStatus::Suspended || r.suspension.is_some();
        let mut since = std::mem::take(&mut *self.0.suspended.lock().unwrap_or_else(PoisonError::into_inner));
        since.retain(|id, _| instances.get(id).is_some_and(suspended));
        let mut is_suspended = false;
        for record in instances.into_values().filter(suspended) {
            is_suspended = true;
            let reason = record.suspension.as_deref().and_then(|json| serde_json::from_str::<Suspension>(json).ok());
            let instance = record.execution.instance;
            match reason {
                // The clocks of the nodes may show an earlier time than the end of a pause.
                Some(reason) if reason.code == ErrorCode::Paused || resumed.contains(&reason.code) => {
                    chaos::submit(world, Submission::Resume { instance, time: world.now() }).await;
                }
                reason => {
                    let begun = since.entry(instance.clone()).or_insert_with(Instant::now);
                    if begun.elapsed() >= Duration::from_secs(60) {
                        let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
                        world.violated(format!("{instance} is suspended: {reason}"));
                    }
                }
            }
        }
        *self.0.suspended.lock().unwrap_or_else(PoisonError::into_inner) = since;
        is_suspended
    }

    /// Returns the findings of a run that has reached its time limit.
    async fn describe_hang(&self) -> Vec<String> {
        let mut found = vec!["the run hangs: it has reached its time limit".to_owned()];
        let open = oracle::all_instances(&self.0.world).await.unwrap_or_default();
        for record in open.into_values().filter(|record| !record.status.is_finished()) {
            let events = self.0.world.record().histories.get(&record.execution).cloned().unwrap_or_default();
            let last = events.iter().rev().take(3).rev().map(|event| event.data.as_str());
            let last: Vec<_> = last.collect();
            found.push(format!("{} is {}; its last events: {last:?}", record.execution, record.status));
        }
        oracle::nothing_is_left(&self.0.world, &mut found);
        found
    }
}

/// Forwards the signals for work from the storage to the nodes, to each with a delay of its own.
async fn forward_signals(world: Arc<World>, hosts: Vec<Arc<Host>>) {
    let mut work = world.storage.visible().wakeups().subscribe();
    while work.changed().await.is_ok() {
        for host in &hosts {
            let (host, delay) = (host.clone(), world.delay());
            if delay.is_zero() {
                host.connection().wake();
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    host.connection().wake();
                });
            }
        }
    }
}
