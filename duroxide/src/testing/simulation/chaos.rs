//! Disruptions of the nodes from outside: crashes, restarts, lost leases, set clocks, outages and pauses of instances.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::faults::Disruption;
use super::host::{Host, Order, take_over};
use super::storage::Footprint;
use super::world::{Process, World, pause};
use crate::error::{ErrorCode, Suspension};
use crate::id::CommitId;
use crate::provider::{MemoryProvider, Submission, SuspendRequest};

/// Injects the planned disruptions until they are used up or the faults end.
pub(super) async fn inject(world: Arc<World>, hosts: Vec<Arc<Host>>, mut dice: Dice) {
    if hosts.is_empty() {
        return;
    }
    for _ in 0..world.plan.disruptions {
        pause(dice.up_to(world.plan.pause)).await;
        if world.have_faults_ended() {
            return;
        }
        let disruption = world.plan.disruption_kinds[dice.index(world.plan.disruption_kinds.len())];
        let host = &hosts[dice.index(hosts.len())];
        match disruption {
            Disruption::Crash => host.connection().die(),
            Disruption::Restart => host.order(Order::Restart(dice.up_to(Duration::from_secs(10)))),
            Disruption::LostLease => {
                world.trace(|| "a live node is taken for dead".to_owned());
                take_over(&world, &host.connection()).await;
            }
            Disruption::ClockSet => host.clock().set(skew(&world, &mut dice)),
            Disruption::Outage => {
                let node = (dice.below(2) == 0).then(|| dice.index(hosts.len()));
                world.cut_off(node, dice.up_to(Duration::from_secs(5)));
            }
            Disruption::Pause => pause_any(&world, &mut dice).await,
        }
    }
}

/// Pauses a random live instance for some seconds.
async fn pause_any(world: &Arc<World>, dice: &mut Dice) {
    let live: Vec<_> = {
        let record = world.record();
        let mut live: Vec<_> = record.instances.iter().filter(|(_, seen)| !seen.status.is_finished()).collect();
        live.sort_unstable_by_key(|(id, _)| *id);
        live.into_iter().map(|(id, _)| id.clone()).collect()
    };
    if live.is_empty() {
        return;
    }
    let (instance, time) = (live[dice.index(live.len())].clone(), world.now());
    let reason = Suspension::new(ErrorCode::Paused, "simulated");
    let request = SuspendRequest {
        id: CommitId::new(),
        instance,
        reason: serde_json::to_string(&reason).unwrap_or_default(),
        cause: "DUR0010: simulated".to_owned(),
        until: Some(time + dice.up_to(Duration::from_secs(5))),
        time,
    };
    world.trace(|| format!("{} is paused", request.instance));
    submit(world, Submission::Suspend(request)).await;
}

/// Carries out a submission of a client that neither fails nor is delayed.
pub(super) async fn submit(world: &Arc<World>, submission: Submission) {
    let (footprint, observed) = (Footprint::of_submission(&submission), world.clone());
    let apply = move |storage: &MemoryProvider, begun| {
        let answer = [storage.finish_submission(begun, submission.clone())];
        observed.observe(|record| record.submitted(Process::Client, vec![submission], &answer));
    };
    // The write fails only if the simulation has ended.
    let _ = world.storage.write(footprint, || false, apply).await;
}

/// Returns a random error of a clock, in microseconds.
pub(super) fn skew(world: &World, dice: &mut Dice) -> i64 {
    let most = i64::try_from(world.plan.skew.as_micros()).unwrap_or(0);
    let by = i64::try_from(dice.below(most.unsigned_abs() * 2 + 1)).unwrap_or(0);
    by - most
}
