//! What happens to the nodes from outside.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::faults::Trouble;
use super::place::{Order, Place, take_over};
use super::world::{World, pause};

/// Brings trouble until all of it was brought, or peace has come.
pub(super) async fn reign(world: Arc<World>, places: Vec<Arc<Place>>, mut dice: Dice) {
    if places.is_empty() {
        return;
    }
    for _ in 0..world.plan.troubles {
        pause(dice.up_to(world.plan.pause)).await;
        if world.is_calm() {
            return;
        }
        let trouble = world.plan.trouble[dice.index(world.plan.trouble.len())];
        let place = &places[dice.index(places.len())];
        match trouble {
            Trouble::Crash => place.connection().die(),
            Trouble::Restart => place.order(Order::Restart(dice.up_to(Duration::from_secs(10)))),
            Trouble::LostLease => {
                world.trace(|| "a node that lives is taken for dead".to_owned());
                take_over(&world, &place.connection()).await;
            }
            Trouble::ClockSet => place.clock().set(skew(&world, &mut dice)),
            Trouble::Outage => {
                let node = (dice.below(2) == 0).then(|| dice.index(places.len()));
                world.cut_off(node, dice.up_to(Duration::from_secs(5)));
            }
        }
    }
}

/// By how much a clock is wrong, in microseconds.
pub(super) fn skew(world: &World, dice: &mut Dice) -> i64 {
    let most = i64::try_from(world.plan.skew.as_micros()).unwrap_or(0);
    let by = i64::try_from(dice.below(most.unsigned_abs() * 2 + 1)).unwrap_or(0);
    by - most
}
