//! Disruptions of the nodes from outside: crashes, restarts, lost leases, set clocks and outages.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::faults::Disruption;
use super::host::{Host, Order, take_over};
use super::world::{World, pause};

/// Injects the planned disruptions until they are used up or the faults end.
pub(super) async fn inject(world: Arc<World>, hosts: Vec<Arc<Host>>, mut dice: Dice) {
    if hosts.is_empty() {
        return;
    }
    for _ in 0..world.plan.disruptions {
        pause(dice.up_to(world.plan.pause)).await;
        if world.is_calm() {
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
        }
    }
}

/// Returns a random error of a clock, in microseconds.
pub(super) fn skew(world: &World, dice: &mut Dice) -> i64 {
    let most = i64::try_from(world.plan.skew.as_micros()).unwrap_or(0);
    let by = i64::try_from(dice.below(most.unsigned_abs() * 2 + 1)).unwrap_or(0);
    by - most
}
