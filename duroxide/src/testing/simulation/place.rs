//! The place of one node: it runs there, dies, and comes back as another life of itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Setup;
use super::activity;
use super::clock::WallClock;
use super::connection::Connection;
use super::world::{Process, World, pause};
use crate::client::Client;
use crate::provider::Layered;
use crate::runtime::{Runtime, RuntimeOptions};

pub(super) struct Place {
    world: Arc<World>,
    setup: Setup,
    number: usize,
    clock: WallClock,
    /// A std mutex: held for a moment, never across an await.
    life: Mutex<Life>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What runs at the place now.
struct Life {
    connection: Connection,
    client: Option<Client>,
}

/// What a node is told to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Restart(Duration),
    /// If it is down, it comes back now.
    BeThere,
}

impl Place {
    pub(super) fn open(world: &Arc<World>, setup: &Setup, number: usize, clock: WallClock) -> Arc<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let life = Mutex::new(Life { connection: Connection::new(world, Process::Node(number)), client: None });
        let place = Arc::new(Self { world: world.clone(), setup: setup.clone(), number, clock, life, orders });
        tokio::spawn(place.clone().live(inbox));
        place
    }

    pub(super) fn order(&self, order: Order) {
        // The place is kept for as long as the simulation runs.
        let _ = self.orders.send(order);
    }

    pub(super) fn connection(&self) -> Connection {
        self.life().connection.clone()
    }

    /// A client in the process of the node, while it runs.
    pub(super) fn client(&self) -> Option<Client> {
        self.life().client.clone()
    }

    pub(super) fn clock(&self) -> &WallClock {
        &self.clock
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn live(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let connection = Connection::new(&self.world, Process::Node(self.number));
            *self.life() = Life { connection: connection.clone(), client: None };
            let down = tokio::select! {
                biased;
                () = connection.died() => self.time_down(),
                down = self.run(&connection, &mut orders) => down,
            };
            self.life().client = None;
            if connection.is_dead() {
                self.bury(&connection);
            }
            let back = async { while !matches!(orders.recv().await, Some(Order::BeThere) | None) {} };
            tokio::select! { biased; () = back => {}, () = pause(down) => {} }
        }
    }

    /// Runs a node until it is shut down, and tells for how long it is to stay away.
    async fn run(&self, connection: &Connection, orders: &mut mpsc::UnboundedReceiver<Order>) -> Duration {
        let builder = (self.setup.builder)(Runtime::builder().options(self.options()), self.number);
        let builder = builder.map_registry(|registry| {
            let registry = (self.setup.mocks)(registry);
            registry.map_activities(|code| activity::watched(code, &self.world, connection))
        });
        let (world, number) = (self.world.clone(), self.number);
        let builder = builder.provider(Layered(connection.clone())).clock(self.clock.clone());
        let builder = builder.inline(move || world.polled(number));
        let runtime = match builder.start().await {
            Ok(runtime) => runtime,
            Err(error) if error.is_retryable() => return Duration::from_millis(50),
            Err(error) => {
                self.world.violated(format!("node {} cannot start: {error}", self.number));
                return Duration::MAX;
            }
        };
        self.life().client = Some(runtime.client());
        let running = Running { runtime: Some(runtime), place: self, connection };
        loop {
            match orders.recv().await {
                Some(Order::Restart(down)) => {
                    self.world.trace(|| format!("node {} is shut down", self.number));
                    running.shut_down().await;
                    return down;
                }
                Some(Order::BeThere) => {}
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
        if self.world.is_calm() { Duration::ZERO } else { self.world.delay() * 4 }
    }

    /// Others notice, at once or after a while, that a node is dead.
    fn bury(&self, connection: &Connection) {
        let (world, connection) = (self.world.clone(), connection.clone());
        let unnoticed = if world.chance(0.5) { Duration::ZERO } else { world.delay() * 4 };
        tokio::spawn(async move {
            pause(unnoticed).await;
            take_over(&world, &connection).await;
        });
    }
}

/// A runtime that is dropped, as when its process is killed, unless it is shut down.
struct Running<'a> {
    runtime: Option<Runtime>,
    place: &'a Place,
    connection: &'a Connection,
}

impl Running<'_> {
    async fn shut_down(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It has no errors at present.
            let _ = runtime.shutdown().await;
            // It may not have reached the storage with its last call; then it is found to be gone.
            take_over(&self.place.world, self.connection).await;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.runtime.as_ref().is_some_and(Runtime::has_ended) {
            self.place.world.violated(format!("node {} has ended by itself: it panicked", self.place.number));
        }
    }
}

/// What the lives of a node have owned, under any epoch, is free for others.
pub(super) async fn take_over(world: &Arc<World>, connection: &Connection) {
    for epoch in connection.epochs() {
        let observed = world.clone();
        // It fails only when the simulation is over.
        let _ = world.storage.take_over(epoch, true, move || observed.observe(|record| record.gone(epoch))).await;
    }
}
