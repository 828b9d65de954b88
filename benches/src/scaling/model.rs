//! The events of the model: turns, transactions and flushes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::costs;

/// Some nodes and servers, and their load. Times are nanoseconds.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The number of nodes.
    pub nodes: usize,
    /// The number of servers; an instance belongs to one of them.
    pub servers: usize,
    /// The processors of each node.
    pub node_cores: usize,
    /// The processors of each server.
    pub server_cores: usize,
    /// The time of a flush of the log.
    pub flush: u64,
    /// The time to a server and back.
    pub round_trip: u64,
    /// The activities of an instance, one after the other.
    pub steps: u32,
    /// The instances that a node has under way.
    pub in_flight: usize,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Instances that ended, per second.
    pub instances: f64,
    /// The median time from a decision to the answer of its commit, and the 99th percentile.
    pub latency: (u64, u64),
    /// Entries for each transaction.
    pub batch: f64,
    /// The used share of the servers' processors, after the loss by contention.
    pub server_cpu: f64,
    /// Bytes of the log per second and server.
    pub log: f64,
    /// The used share of the nodes' processors.
    pub node_cpu: f64,
    /// The share of the time in which a connection for commits has a transaction under way.
    pub connections: f64,
}

/// The time before the measurement begins, and its length.
const WARM_UP: u64 = 400_000_000;
const LENGTH: u64 = 300_000_000;

/// Processors that take jobs in the order of their arrival.
struct Cores {
    free_at: BinaryHeap<Reverse<u64>>,
    busy: u64,
}

impl Cores {
    fn new(cores: usize) -> Self {
        Self { free_at: (0..cores.max(1)).map(|_| Reverse(0)).collect(), busy: 0 }
    }

    /// Takes a job, and returns the time of its end.
    fn run(&mut self, now: u64, cost: u64) -> u64 {
        let free = self.free_at.pop().map_or(0, |Reverse(free)| free);
        let end = free.max(now) + cost;
        self.free_at.push(Reverse(end));
        self.busy += cost;
        end
    }
}

/// A commit of one instance.
#[derive(Clone, Copy)]
struct Entry {
    /// The commits that follow it.
    left: u32,
    /// True for the first and the last commit of an instance.
    is_end: bool,
    decided_at: u64,
}

/// The entries of one transaction.
struct Batch {
    node: usize,
    server: usize,
    entries: Vec<Entry>,
    sent_at: u64,
}

enum Event {
    /// A turn is decided: its entry waits for the connection.
    Decided(usize, usize, Entry),
    /// A transaction has arrived at the server.
    Arrived(Batch),
    /// A transaction waits for the log.
    Written(Batch),
    Flushed(usize, Vec<Batch>),
    Answered(Batch),
}

/// An event of the queue, ordered by its time, then by its number.
struct Timed(u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

/// The connection of a node for commits to a server: one transaction at a time.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Entry>,
    is_busy: bool,
}

struct Server {
    cores: Cores,
    to_flush: Vec<Batch>,
    is_flushing: bool,
}

#[derive(Default)]
struct Count {
    ended: u64,
    transactions: u64,
    entries: u64,
    log: u64,
    under_way: u64,
    latencies: Vec<u64>,
}

struct Model {
    setup: Setup,
    now: u64,
    events: BinaryHeap<Timed>,
    scheduled: u64,
    nodes: Vec<Cores>,
    lanes: Vec<Lane>,
    servers: Vec<Server>,
    count: Count,
}

/// Runs the model of a setup.
pub fn run(setup: &Setup) -> Outcome {
    let mut model = Model::new(setup.clone());
    model.run_until(WARM_UP);
    model.reset();
    model.run_until(WARM_UP + LENGTH);
    model.outcome()
}

impl Model {
    fn new(setup: Setup) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let cores = (setup.server_cores as f64 * costs::EFFICIENCY) as usize;
        let server = || Server { cores: Cores::new(cores), to_flush: Vec::new(), is_flushing: false };
        let mut model = Self {
            now: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            nodes: (0..setup.nodes).map(|_| Cores::new(setup.node_cores)).collect(),
            lanes: (0..setup.nodes * setup.servers).map(|_| Lane::default()).collect(),
            servers: (0..setup.servers).map(|_| server()).collect(),
            count: Count::default(),
            setup,
        };
        for node in 0..model.setup.nodes {
            for instance in 0..model.setup.in_flight {
                // Some are further than others, so that they do not take their steps together.
                let left = u32::try_from(instance / model.setup.servers).unwrap_or_default() % (model.setup.steps + 1);
                model.decide(node, instance % model.setup.servers, left, left == 0 || left == model.setup.steps);
            }
        }
        model
    }

    fn reset(&mut self) {
        self.count = Count::default();
        self.nodes.iter_mut().for_each(|cores| cores.busy = 0);
        self.servers.iter_mut().for_each(|server| server.cores.busy = 0);
    }

    fn run_until(&mut self, end: u64) {
        while self.events.peek().is_some_and(|Timed(at, ..)| *at < end) {
            let Some(Timed(at, _, event)) = self.events.pop() else { return };
            self.now = at;
            self.handle(event);
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Timed(time, self.scheduled, event));
    }

    /// Starts an instance: its first turn, one commit for each activity but the last, and the commit of its end.
    fn begin(&mut self, node: usize, server: usize) {
        self.decide(node, server, self.setup.steps, true);
    }

    fn decide(&mut self, node: usize, server: usize, left: u32, is_end: bool) {
        let cost = if is_end { costs::NODE_END } else { costs::NODE_STEP };
        let decided_at = self.nodes[node].run(self.now, cost);
        self.at(decided_at, Event::Decided(node, server, Entry { left, is_end, decided_at }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Decided(node, server, entry) => {
                self.lanes[node * self.setup.servers + server].waiting.push_back(entry);
                self.send(node, server);
            }
            Event::Arrived(batch) => self.arrived(batch),
            Event::Written(batch) => {
                let server = batch.server;
                self.servers[server].to_flush.push(batch);
                self.flush(server);
            }
            Event::Flushed(server, batches) => {
                let answered = self.now + self.setup.round_trip / 2;
                batches.into_iter().for_each(|batch| self.at(answered, Event::Answered(batch)));
                self.servers[server].is_flushing = false;
                self.flush(server);
            }
            Event::Answered(batch) => self.answered(batch),
        }
    }

    /// Sends what waits, if no transaction of this connection is under way.
    fn send(&mut self, node: usize, server: usize) {
        let lane = &mut self.lanes[node * self.setup.servers + server];
        if lane.is_busy || lane.waiting.is_empty() {
            return;
        }
        lane.is_busy = true;
        let entries = lane.waiting.drain(..lane.waiting.len().min(costs::BATCH)).collect();
        let batch = Batch { node, server, entries, sent_at: self.now };
        self.at(self.now + self.setup.round_trip / 2, Event::Arrived(batch));
    }

    /// A processor of the server executes the statements of a transaction, which came in one round trip.
    fn arrived(&mut self, batch: Batch) {
        let entry = |entry: &Entry| if entry.is_end { costs::SERVER_END } else { costs::SERVER_STEP };
        let cost = costs::TRANSACTION + batch.entries.iter().map(entry).sum::<u64>();
        let done = self.servers[batch.server].cores.run(self.now, cost);
        self.at(done, Event::Written(batch));
    }

    /// Begins a flush for all transactions that wait, if none is under way.
    fn flush(&mut self, server: usize) {
        let Server { to_flush, is_flushing, .. } = &mut self.servers[server];
        if *is_flushing || to_flush.is_empty() {
            return;
        }
        *is_flushing = true;
        let batches = std::mem::take(to_flush);
        let log = |entry: &Entry| if entry.is_end { costs::LOG_END } else { costs::LOG_STEP };
        let bytes: u64 = batches.iter().flat_map(|batch| &batch.entries).map(log).sum();
        self.count.log += bytes;
        let end = self.now + self.setup.flush + bytes * 1_000_000_000 / costs::LOG_BANDWIDTH;
        self.at(end, Event::Flushed(server, batches));
    }

    fn answered(&mut self, batch: Batch) {
        let Batch { node, server, entries, sent_at } = batch;
        self.count.under_way += self.now - sent_at;
        self.count.transactions += 1;
        self.count.entries += entries.len() as u64;
        for entry in entries {
            self.count.latencies.push(self.now - entry.decided_at);
            if entry.left == 0 {
                self.count.ended += 1;
                self.begin(node, server);
            } else {
                self.decide(node, server, entry.left - 1, entry.left == 1);
            }
        }
        self.lanes[node * self.setup.servers + server].is_busy = false;
        self.send(node, server);
    }

    fn outcome(mut self) -> Outcome {
        let Setup { nodes, servers, node_cores, .. } = self.setup;
        let seconds = LENGTH as f64 / 1e9;
        let share = |busy: u64, cores: usize| (busy as f64 / LENGTH as f64 / cores as f64).min(1.0);
        self.count.latencies.sort_unstable();
        let latencies = &self.count.latencies;
        let quantile = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
        let server_cores: usize = self.servers.iter().map(|server| server.cores.free_at.len()).sum();
        Outcome {
            instances: self.count.ended as f64 / seconds,
            latency: (quantile(50), quantile(99)),
            batch: self.count.entries as f64 / self.count.transactions.max(1) as f64,
            server_cpu: share(self.servers.iter().map(|server| server.cores.busy).sum(), server_cores),
            log: self.count.log as f64 / seconds / servers as f64,
            node_cpu: share(self.nodes.iter().map(|cores| cores.busy).sum(), nodes * node_cores),
            connections: share(self.count.under_way, nodes * servers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Setup = Setup {
        nodes: 1,
        servers: 1,
        node_cores: 1,
        server_cores: 2,
        flush: 2_000_000,
        round_trip: 500_000,
        steps: 1,
        in_flight: 1,
    };

    #[test]
    fn commit_that_is_alone_takes_a_round_trip_and_a_flush() {
        let (latency, _) = run(&ALONE).latency;
        let expected = ALONE.round_trip + ALONE.flush + costs::TRANSACTION + costs::SERVER_END;
        assert!(latency.abs_diff(expected) < 10_000, "{latency} instead of {expected}");
    }

    #[test]
    fn rate_is_the_number_in_flight_by_the_time_of_an_instance() {
        let outcome = run(&Setup { steps: 4, ..ALONE });
        let commits = outcome.instances * 5.0;
        let time = 1e9 / (outcome.latency.0 + costs::NODE_STEP) as f64;
        assert!((commits / time - 1.0).abs() < 0.1, "{commits} commits, {time} expected");
    }

    #[test]
    fn servers_share_the_load() {
        let load = Setup { nodes: 20, node_cores: 4, server_cores: 4, in_flight: 2000, ..ALONE };
        let (one, two) = (run(&load), run(&Setup { servers: 2, ..load.clone() }));
        assert!(two.instances > 1.8 * one.instances, "{} and {}", one.instances, two.instances);
        assert!(one.server_cpu > 0.9 || one.log > 0.9 * costs::LOG_BANDWIDTH as f64);
    }
}
