//! `State<T>` anywhere among the inputs, under any name.
use duroxide::prelude::*;
use std::sync::Arc;

#[derive(Clone)]
struct Pool;

#[activity]
async fn store(a: u8, State(pool): State<Arc<Pool>>, b: u8, limit: duroxide::State<u64>) -> Result<u64, String> {
    let _: Arc<Pool> = pool;
    Ok(u64::from(a + b) + limit.0)
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<u64, String> {
    store::call(&ctx, 1, 2).await.map_err(|_| String::new())
}

fn main() {
    let _ = caller;
    assert_eq!(<store as Activity>::PARAMETERS, Some(["a", "b"].as_slice()));
    assert_eq!(<store as ActivityFn>::requires().len(), 2);
}
