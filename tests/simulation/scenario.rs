//! Starts random programs, and sends them all requests that a client can send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::id::EventId;
use duroxide::provider::Filter;
use duroxide::testing::{Failure, Report, Sim, Simulation};
use duroxide::{Client, ClientError, ErrorCode, IfExists, Status};

use crate::activities::broken;
use crate::program::{Name, Program};

/// Runs the programs of a seed. The caller chooses the simulation's mode; nodes and limits are set here.
pub(crate) fn run(simulation: Simulation, seed: u64, traced: bool) -> Result<Report, Failure> {
    // In every eighth seed, one node has the build that cannot read any input. Nothing may stay suspended for it.
    let is_broken = Arc::new(AtomicBool::new(seed % 8 == 7));
    let broken_node = is_broken.clone();
    simulation
        .nodes(1 + (seed % 3) as usize)
        .setup(move |builder, node| {
            if node == 1 && broken_node.load(Ordering::Relaxed) {
                builder.registry(broken::registry()).build_id("broken")
            } else {
                builder
            }
        })
        .limit(Duration::from_secs(4 * 3600))
        .trace(traced)
        .run(|sim| async move { play(&sim, &is_broken).await })
}

async fn play(sim: &Sim, is_broken: &AtomicBool) -> Result<(), ClientError> {
    let mut players = Players { sim, raised: 0, started: 0 };
    for _ in 0..3 + sim.below(20) {
        players.act().await?;
        if sim.below(3) == 0 {
            sim.sleep(Duration::from_millis(1 << sim.below(14))).await;
        }
    }
    is_broken.store(false, Ordering::Relaxed);
    sim.restart(1, Duration::ZERO);
    sim.quiesce().await;
    players.finish().await
}

/// Lets all programs end.
pub(crate) async fn finish(sim: &Sim) -> Result<(), ClientError> {
    Players { sim, raised: 0, started: 0 }.finish().await
}

struct Players<'a> {
    sim: &'a Sim,
    /// The number of the last event.
    raised: u64,
    started: u64,
}

impl Players<'_> {
    /// Sends one request, from a client in its own process or in that of a node.
    async fn act(&mut self) -> Result<(), ClientError> {
        let sim = self.sim;
        let act = if self.started == 0 { 0 } else { sim.below(27) };
        let done = match act {
            0..4 => {
                self.started += 1;
                let (id, program) = (format!("root-{}", sim.below(5)), Program::any(&mut |n| sim.below(n), 2));
                let if_exists = [IfExists::Error, IfExists::Attach, IfExists::Replace][sim.below(3) as usize];
                let delay = if sim.below(4) == 0 { Some(Duration::from_millis(sim.below(5_000))) } else { None };
                let version = if sim.below(4) == 0 { Some("1.0.0") } else { None };
                self.anywhere(|client| async move {
                    let mut start = client.start("program", id, &program).if_exists(if_exists);
                    if let Some(delay) = delay {
                        start = start.delay(delay);
                    }
                    if let Some(version) = version {
                        start = start.version(version);
                    }
                    start.await.map(drop)
                })
                .await
            }
            _ => {
                let Some(instance) = self.any_instance().await? else { return Ok(()) };
                let (id, last) = (instance.execution.instance, instance.events);
                match act {
                    4..14 => self.raise(id.as_str()).await,
                    14..17 => self.anywhere(|client| async move { client.handle(&id).cancel("why").await }).await,
                    17 => self.anywhere(|client| async move { client.handle(&id).terminate("why").await }).await,
                    18 => self.anywhere(|client| async move { client.handle(&id).resume().await }).await,
                    19 => self.anywhere(|client| async move { client.handle(&id).delete().await }).await,
                    20 => {
                        let now = sim.now();
                        let prune =
                            |client: Client| async move { client.prune(&Filter::default(), now).await.map(drop) };
                        self.anywhere(prune).await
                    }
                    21 => {
                        sim.crash(sim.below(3) as usize);
                        Ok(())
                    }
                    22..25 => self.cut(id.as_str(), last, act == 24).await,
                    _ => self.anywhere(|client| async move { client.handle(&id).history().await.map(drop) }).await,
                }
            }
        };
        match done {
            Err(error) if error.is_not_found() || error.is_exists() || error.is_finished() => Ok(()),
            Err(error) if error.code() == ErrorCode::InstanceLive || error.code() == ErrorCode::InstanceExists => {
                Ok(())
            }
            done => done,
        }
    }

    /// Resets an instance to an event, or forks it from there. Refused in the middle of a step.
    async fn cut(&mut self, id: &str, last: EventId, is_fork: bool) -> Result<(), ClientError> {
        let (at, keeps) = (EventId(self.sim.below(last.0 + 1)), self.sim.below(2) == 0);
        self.started += 1;
        let fork = format!("fork-{}", self.started);
        let cut = |client: Client| async move {
            if is_fork {
                let fork = client.fork(id, at, fork);
                return if keeps { fork.keep_outcomes() } else { fork }.await.map(drop);
            }
            let reset = client.handle(id).reset(at);
            if keeps { reset.keep_outcomes() } else { reset }.await.map(drop)
        };
        let refused = [ErrorCode::NotAStep, ErrorCode::InstanceChanged, ErrorCode::NoCutPoint];
        self.anywhere(cut).await.or_else(|error| if refused.contains(&error.code()) { Ok(()) } else { Err(error) })
    }

    async fn raise(&mut self, id: &str) -> Result<(), ClientError> {
        self.raised += 1;
        let (number, name) = (self.raised, if self.sim.below(4) == 0 { Name::B } else { Name::A });
        self.anywhere(|client| async move { client.handle(id).raise_named(name.text(), &number).await }).await
    }

    async fn anywhere<F>(&self, act: impl FnOnce(Client) -> F) -> Result<(), ClientError>
    where
        F: Future<Output = Result<(), ClientError>>,
    {
        // Some clients drop their request: it happens, or not.
        let limit = if self.sim.below(8) == 0 { 1 << self.sim.below(12) } else { 1 << 40 };
        let act = |client| {
            let act = tokio::time::timeout(Duration::from_millis(limit), act(client));
            async move { act.await.unwrap_or(Ok(())) }
        };
        let process = self.sim.below(5) as usize;
        if process == 4 {
            return act(self.sim.client()).await;
        }
        // A client that dies with its node returns no error.
        self.sim.on_node(process, act).await.unwrap_or(Ok(())).or_else(|error| {
            let outage = error.is_retryable();
            if outage { Ok(()) } else { Err(error) }
        })
    }

    async fn any_instance(&self) -> Result<Option<Status>, ClientError> {
        let mut list = self.sim.client().list(&Filter::default(), 1_000).await?.instances;
        let position = self.sim.below(list.len() as u64) as usize;
        Ok(if list.is_empty() { None } else { Some(list.swap_remove(position)) })
    }

    /// Raises events until all instances have ended.
    async fn finish(&mut self) -> Result<(), ClientError> {
        // Dropped requests may still be in flight.
        self.sim.sleep(Duration::from_secs(60)).await;
        for _ in 0..200 {
            let list = self.sim.client().list(&Filter::default(), 1_000).await?.instances;
            let open: Vec<_> = list.into_iter().filter(|status| !status.status.is_finished()).collect();
            if open.is_empty() {
                return Ok(());
            }
            for status in open {
                for name in [Name::A, Name::B] {
                    self.raised += 1;
                    let (id, number) = (status.execution.instance.clone(), self.raised);
                    let raised = self.sim.client().handle(&id).raise_named(name.text(), &number).await;
                    raised.or_else(|e| if e.is_finished() { Ok(()) } else { Err(e) })?;
                }
            }
            self.sim.sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }
}
