//! Each pair of requests that can meet, in two transactions: the first is held at its commit while the second runs.
//!
//! The answers, and the state that a later node finds, must be those of the two requests one after another, in one of both
//! orders, as the memory provider shows them. So nothing is lost, nothing is doubled, and no request fails.

pub(crate) mod gate;
mod scenario;

use std::collections::BTreeSet;

use duroxide::provider::{MemoryProvider, Provider};
use support::schema::Schema;

use self::gate::Gate;
use self::scenario::{Op, Scenario};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interleaved_requests_have_the_outcome_of_one_order() {
    let Some(server) = gate::server() else { return };
    let schema = Schema::new(&server.url(), "pairs");
    let second = schema.connect();
    let gate = Gate::install(&server, &schema).await;
    let url = gate::held_url(&server.url());
    let first = duroxide_postgres::PostgresProvider::connect_with(schema.options_at(&url)).await.expect("connect");
    let only = std::env::var("PAIR").unwrap_or_default();
    let (mut wrong, mut met, mut pairs) = (Vec::new(), 0, 0);
    for a in Op::ALL {
        for b in Op::ALL {
            let name = format!("{a:?}-{b:?}");
            if !name.contains(&only) || !a.can_meet(*b) {
                continue;
            }
            let scenario = Scenario::new();
            gate.clear().await;
            let (outcome, waited) = interleaved(&scenario, &gate, &first, &second, (*a, *b)).await;
            (met, pairs) = (met + usize::from(waited), pairs + 1);
            let orders = [in_order(&scenario, (*a, *b), false).await, in_order(&scenario, (*a, *b), true).await];
            if !orders.iter().any(|order| outcome.is_as(order, *b)) {
                wrong.push(format!("{name}: {outcome:#?}\nis neither {:#?}\nnor {:#?}", orders[0], orders[1]));
            }
        }
    }
    println!("{pairs} pairs, of which {met} wait for each other");
    assert!(wrong.is_empty(), "{} of {pairs}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(met > 50 || !only.is_empty(), "only {met} pairs meet");
}

/// Runs both requests in PostgreSQL. Returns true beside if the second one waited for the first.
async fn interleaved(
    scenario: &Scenario,
    gate: &Gate,
    first: &dyn Provider,
    second: &dyn Provider,
    (a, b): (Op, Op),
) -> (Outcome, bool) {
    let leases = scenario.prepare(second).await;
    if a == Op::TakeOver || b == Op::TakeOver {
        gate.expire(leases[0]).await;
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
    let state = scenario.observe(second, &leases).await;
    (Outcome { first: one, second: other, state }, waited)
}

/// Runs both requests in memory, one after another.
async fn in_order(scenario: &Scenario, (a, b): (Op, Op), swapped: bool) -> Outcome {
    let provider = MemoryProvider::new();
    let leases = scenario.prepare(&provider).await;
    // A node that renews before it is taken over lives.
    let renews_first = if swapped { (b, a) } else { (a, b) } == (Op::Renew, Op::TakeOver);
    let run = async |op| {
        if op == Op::TakeOver && !renews_first {
            provider.kill(leases[0].epoch);
        }
        scenario.run(op, &provider, &leases).await
    };
    let (first, second) = if swapped {
        let second = run(b).await;
        (run(a).await, second)
    } else {
        (run(a).await, run(b).await)
    };
    Outcome { first, second, state: scenario.observe(&provider, &leases).await }
}
