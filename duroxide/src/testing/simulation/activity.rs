//! Activities take time, and what becomes of each attempt is noted.

use std::sync::Arc;

use super::connection::Connection;
use super::world::{World, pause};
use crate::activity::{ActivityCode, Ended};

/// The same code, watched. What blocks its thread otherwise is run where the node runs.
pub(super) fn watched(code: ActivityCode, world: &Arc<World>, connection: &Connection) -> ActivityCode {
    let (world, connection) = (world.clone(), connection.clone());
    ActivityCode::Async(Arc::new(move |ctx, input| {
        let (code, world, connection) = (code.clone(), world.clone(), connection.clone());
        let (id, attempt) = (ctx.id().clone(), ctx.attempt());
        Box::pin(async move {
            world.observe(|record| record.activity_begins(&id, attempt));
            let life = world.record().life_of(&id);
            pause(world.activity_time()).await;
            connection.if_alive().await;
            let ended = match code {
                ActivityCode::Async(run) => run(ctx, input).await,
                ActivityCode::Blocking(run) => run(ctx, input),
            };
            connection.if_alive().await;
            let how = if matches!(ended, Ended::Completed(_)) { "completed" } else { "failed" };
            world.trace(|| format!("activity {id}, attempt {attempt}: {how}"));
            world.record().activity_ended(life, &id, attempt, &ended);
            pause(world.activity_time()).await;
            connection.if_alive().await;
            ended
        })
    }))
}
