//! Wraps the code of activities: attempts take time, and their outcomes are recorded.

use std::sync::Arc;

use super::connection::Connection;
use super::world::{World, pause};
use crate::activity::{ActivityCode, Ended};

/// Wraps the code of an activity. A blocking activity also runs on the thread of the simulation.
pub(super) fn recorded(code: ActivityCode, world: &Arc<World>, connection: &Connection) -> ActivityCode {
    let (world, connection) = (world.clone(), connection.clone());
    ActivityCode::Replaced(Arc::new(move |ctx, input| {
        let (code, world, connection) = (code.clone(), world.clone(), connection.clone());
        let (id, attempt) = (ctx.id().clone(), ctx.attempt());
        Box::pin(async move {
            world.observe(|record| record.activity_begins(&id, attempt));
            let start = world.record().start_of(&id);
            pause(world.activity_time()).await;
            connection.halt_if_dead().await;
            let ended = match code {
                ActivityCode::Async(run) => run(ctx, input).await,
                ActivityCode::Replaced(run) => run(ctx, input).await,
                ActivityCode::Blocking(run) => run(ctx, input),
            };
            connection.halt_if_dead().await;
            let result = if matches!(ended, Ended::Completed(_)) { "completed" } else { "failed" };
            world.trace(|| format!("activity {id}, attempt {attempt}: {result}"));
            world.record().activity_ended(start, &id, attempt, &ended);
            pause(world.activity_time()).await;
            connection.halt_if_dead().await;
            ended
        })
    }))
}
