//! Each pair of requests that can meet, in two transactions: the first is held at its commit while the second runs.
//!
//! The answers, and the state that a later node finds, must be those of the two requests one after another, in one of both
//! orders, as the memory provider shows them. So nothing is lost, nothing is doubled, and no request fails.

pub(crate) mod gate;
mod program;
mod scenario;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use duroxide::provider::{MemoryProvider, NodeReport};
use duroxide_postgres::PostgresProvider;
use futures_util::future::join_all;
use support::postgres::Cluster;
use support::schema::Schema;

use self::gate::Gate;
use self::program::Side;
use self::scenario::{Op, Scenario};
use crate::changes::Changes;

/// The answers of the first and of the second request, and the state afterwards.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    first: String,
    second: String,
    state: Vec<String>,
}

impl Outcome {
    /// Compares with the outcome of one order. A claim that comes second leaves out the items that the first request has
    /// locked: it never waits, and the first request signals work once it is committed. Likewise, pruning that comes second
    /// leaves out items that were not due before the first request; they are found by a later one.
    fn is_as(&self, order: &Self, second: Op) -> bool {
        let parts = |answer: &str| answer.split("; ").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let is_part = |a: &str, b: &str| {
            let (a, b): (BTreeSet<String>, BTreeSet<String>) = (parts(a), parts(b));
            a.is_subset(&b)
        };
        let is_second = match second {
            Op::Claim | Op::ClaimAll => is_part(&self.second, &order.second),
            Op::Prune => self.second <= order.second,
            _ => self.second == order.second,
        };
        is_second && self.first == order.first && self.state == order.state
    }
}

/// The databases in which pairs run at once.
const WORLDS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_requests_have_the_outcome_of_one_order() {
    let Some(server) = gate::server() else { return };
    let only = std::env::var("PAIR").unwrap_or_default();
    let all = Op::ALL.iter().flat_map(|a| Op::ALL.iter().map(move |b| (*a, *b)));
    let can_meet = all.filter(|(a, b)| format!("{a:?}-{b:?}").contains(&only) && a.can_meet(*b));
    let left = Mutex::new(can_meet.collect::<Vec<_>>());
    let results = Mutex::new(Results::default());
    let run = async |n: usize| {
        let world = World::new(&server, &format!("world_{n}")).await;
        let next = || left.lock().expect("lock").pop();
        while let Some(pair) = next() {
            let scenario = Scenario::new();
            let (outcome, waited) = world.interleaved(&scenario, pair).await;
            let orders = [in_order(&scenario, pair, false).await, in_order(&scenario, pair, true).await];
            results.lock().expect("lock").add(pair, &outcome, &orders, waited);
        }
    };
    join_all((0..WORLDS).map(run)).await;
    let Results { wrong, met, pairs } = results.into_inner().expect("lock");
    println!("{pairs} pairs, of which {met} wait for each other");
    assert!(wrong.is_empty(), "{} of {pairs}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(met > 50 || !only.is_empty(), "only {met} pairs meet");
}

#[derive(Default)]
struct Results {
    wrong: Vec<String>,
    met: usize,
    pairs: usize,
}

impl Results {
    fn add(&mut self, (a, b): (Op, Op), outcome: &Outcome, orders: &[Outcome; 2], waited: bool) {
        self.met += usize::from(waited);
        self.pairs += 1;
        if !orders.iter().any(|order| outcome.is_as(order, b)) {
            let [first, second] = orders;
            self.wrong.push(format!("{a:?}-{b:?}: {outcome:#?}\nis neither {first:#?}\nnor {second:#?}"));
        }
    }
}

/// A database, and two processes. The transactions of the first one are held at their commit.
struct World {
    gate: Gate,
    first: Side,
    second: Side,
}

impl World {
    async fn new(server: &Cluster, name: &str) -> Self {
        let url = gate::database(server, name).await;
        let schema = Schema::new(&url, name);
        let second = schema.connect();
        let gate = Gate::install(server, &url, &schema).await;
        let outbox = Changes::follow(&url, &schema, &["UPDATE OR DELETE ON outbox"]).await;
        let outbox = Arc::new(tokio::sync::Mutex::new(outbox));
        let held = gate::held_url(&url);
        let first = PostgresProvider::connect_with(schema.options_at(&held)).await.expect("connect");
        let first = Side::new(first, &held, outbox.clone()).await;
        let second = Side::new(second, &url, outbox).await;
        Self { gate, first, second }
    }

    /// Runs both requests. Returns true beside if the second one waited for the first. Leaves no rows.
    async fn interleaved(&self, scenario: &Scenario, (a, b): (Op, Op)) -> (Outcome, bool) {
        let Self { gate, first, second } = self;
        let leases = scenario.prepare(&*second.provider).await;
        if a == Op::TakeOver || b == Op::TakeOver {
            gate.expire(leases[0]).await;
        }
        if a.is_delivery() {
            gate.hold_deliveries().await;
        }
        gate.close().await;
        let hold = async {
            let mut answer = Box::pin(scenario.run(a, first, &leases));
            tokio::select! {
                biased;
                // It writes nothing.
                answer = &mut answer => return (answer, scenario.run(b, second, &leases).await, false),
                () = gate.until_held() => {}
            }
            let mut other = Box::pin(scenario.run(b, second, &leases));
            tokio::select! {
                biased;
                other = &mut other => {
                    gate.open().await;
                    (answer.await, other, false)
                }
                () = gate.until_both_wait() => {
                    gate.open().await;
                    let (answer, other) = tokio::join!(answer, other);
                    (answer, other, true)
                }
            }
        };
        let (one, other, waited) = hold.await;
        gate.open().await;
        let (state, lease) = scenario.observe(second, &leases).await;
        gate.clear().await;
        // The process learns that its node is gone.
        second.provider.renew(&lease, &NodeReport::default()).await.expect("renew");
        (Outcome { first: one, second: other, state }, waited)
    }
}

/// Runs both requests in memory, one after another.
async fn in_order(scenario: &Scenario, (a, b): (Op, Op), swapped: bool) -> Outcome {
    let provider = Arc::new(MemoryProvider::new());
    let side = Side { provider: provider.clone(), program: None };
    let leases = scenario.prepare(&*provider).await;
    // A node that renews before it is taken over lives.
    let renews_first = if swapped { (b, a) } else { (a, b) } == (Op::Renew, Op::TakeOver);
    let run = async |op| {
        if op == Op::TakeOver && !renews_first {
            provider.kill(leases[0].epoch);
        }
        scenario.run(op, &side, &leases).await
    };
    let (first, second) = if swapped {
        let second = run(b).await;
        (run(a).await, second)
    } else {
        (run(a).await, run(b).await)
    };
    Outcome { first, second, state: scenario.observe(&side, &leases).await.0 }
}
