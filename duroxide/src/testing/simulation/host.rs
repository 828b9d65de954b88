//! The host of one node: it runs the node, and starts it again after a crash or a shutdown, each time as a new
//! incarnation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::Setup;
use super::activity;
use super::clock::WallClock;
use super::connection::Connection;
use super::world::{Process, World, pause};
use crate::client::Client;
use crate::node::{Inline, RuntimeOptions};
use crate::provider::Layered;
use crate::runtime::Runtime;

pub(super) struct Host {
    world: Arc<World>,
    setup: Setup,
    number: usize,
    clock: WallClock,
    /// A std mutex: held for a few instructions, never across an await.
    incarnation: Mutex<Incarnation>,
    orders: mpsc::UnboundedSender<Order>,
}

/// The current run of the node, from a start to its crash or shutdown.
struct Incarnation {
    connection: Connection,
    client: Option<Client>,
}

/// An order to a host.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Restart(Duration),
    /// Starts the node now if it is down.
    EnsureRunning,
}

impl Host {
    pub(super) fn open(world: &Arc<World>, setup: &Setup, number: usize, clock: WallClock) -> Arc<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let incarnation =
            Mutex::new(Incarnation { connection: Connection::new(world, Process::Node(number)), client: None });
        let host = Arc::new(Self { world: world.clone(), setup: setup.clone(), number, clock, incarnation, orders });
        tokio::spawn(host.clone().run_node(inbox));
        host
    }

    pub(super) fn order(&self, order: Order) {
        // The receiver lives as long as the simulation, so sending cannot fail before its end.
        let _ = self.orders.send(order);
    }

    pub(super) fn connection(&self) -> Connection {
        self.incarnation().connection.clone()
    }

    /// Returns a client in the process of the node, if the node runs.
    pub(super) fn client(&self) -> Option<Client> {
        self.incarnation().client.clone()
    }

    pub(super) fn clock(&self) -> &WallClock {
        &self.clock
    }

    fn incarnation(&self) -> MutexGuard<'_, Incarnation> {
        self.incarnation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one incarnation of the node after another, until the simulation ends.
    async fn run_node(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let connection = Connection::new(&self.world, Process::Node(self.number));
            *self.incarnation() = Incarnation { connection: connection.clone(), client: None };
            let down = tokio::select! {
                biased;
                () = connection.died() => self.time_down(),
                down = self.run(&connection, &mut orders) => down,
            };
            self.incarnation().client = None;
            if connection.is_dead() {
                self.expire_lease(&connection);
            }
            let back = async { while !matches!(orders.recv().await, Some(Order::EnsureRunning) | None) {} };
            tokio::select! { biased; () = back => {}, () = pause(down) => {} }
        }
    }

    /// Runs the node until it is shut down, and returns the time that it stays down.
    async fn run(&self, connection: &Connection, orders: &mut mpsc::UnboundedReceiver<Order>) -> Duration {
        let builder = (self.setup.builder)(Runtime::builder().options(self.options()), self.number);
        let builder = builder.map_registry(|registry| {
            let registry = (self.setup.mocks)(registry);
            registry.map_activities(|code| activity::recorded(code, &self.world, connection))
        });
        let builder = builder.provider(Layered(connection.clone())).clock(self.clock.clone());
        let builder = builder.inline(InlineHooks { world: self.world.clone(), number: self.number });
        let runtime = match builder.start().await {
            Ok(runtime) => runtime,
            Err(error) if error.is_retryable() => {
                // The answer to its join may have been lost: then its lease expires.
                self.expire_lease(connection);
                return Duration::from_millis(50);
            }
            Err(error) => {
                self.world.violated(format!("node {} cannot start: {error}", self.number));
                return Duration::MAX;
            }
        };
        self.incarnation().client = Some(runtime.client());
        let running = Running { runtime: Some(runtime), host: self, connection };
        loop {
            match orders.recv().await {
                Some(Order::Restart(down)) => {
                    self.world.trace(|| format!("node {} is shut down", self.number));
                    running.shut_down().await;
                    return down;
                }
                Some(Order::EnsureRunning) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn options(&self) -> RuntimeOptions {
        let options = self.setup.options.clone();
        match self.world.plan.max_idle_instances {
            Some(copies) => options.max_idle_instances(copies),
            None => options,
        }
    }

    fn time_down(&self) -> Duration {
        if self.world.have_faults_ended() { Duration::ZERO } else { self.world.delay() * 4 }
    }

    /// Frees the items of a crashed node, at once or after a delay, as if its lease had expired.
    fn expire_lease(&self, connection: &Connection) {
        let (world, connection) = (self.world.clone(), connection.clone());
        let delay = if world.chance(0.5) { Duration::ZERO } else { world.delay() * 4 };
        tokio::spawn(async move {
            pause(delay).await;
            take_over(&world, &connection).await;
        });
    }
}

/// Drives a node without threads, by the events of the world.
struct InlineHooks {
    world: Arc<World>,
    number: usize,
}

impl Inline for InlineHooks {
    fn polled(&self) {
        self.world.polled(self.number);
    }

    fn events(&self) -> u64 {
        self.world.events()
    }

    fn next_event(&self, seen: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.world.next_event(seen))
    }
}

/// A running runtime. A drop without a shutdown ends it as if its process had been killed.
struct Running<'a> {
    runtime: Option<Runtime>,
    host: &'a Host,
    connection: &'a Connection,
}

impl Running<'_> {
    async fn shut_down(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The shutdown has no errors at present.
            let _ = runtime.shutdown().await;
            // If its call to leave has failed, its lease expires.
            take_over(&self.host.world, self.connection).await;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.runtime.as_ref().is_some_and(Runtime::has_ended) {
            self.host.world.violated(format!("node {} has ended without a shutdown: it panicked", self.host.number));
        }
    }
}

/// Frees the items that this incarnation of a node owns under any of its epochs, so that other nodes can claim them.
pub(super) async fn take_over(world: &Arc<World>, connection: &Connection) {
    for epoch in connection.epochs() {
        let observed = world.clone();
        // The take-over fails only if the simulation has ended.
        let _ =
            world.storage.take_over(epoch, true, move || observed.observe(|record| record.epoch_ended(epoch))).await;
    }
}
