use duroxide::prelude::*;
use std::time::Duration;

#[orchestration]
async fn hot(ctx: OrchestrationContext, n: u64) -> duroxide::Result<()> {
    hot::continue_as_new(&ctx, n + 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_is_cancelled() {
    let provider = duroxide::provider::MemoryProvider::new();
    let runtime = Runtime::builder().provider(provider.clone()).registry(Registry::empty().with_orchestration::<hot>()).start().await.unwrap();
    for outside in [false, true] {
      for delayed in [false, true] {
       for terminate in [false, true] {
        let client = if outside { duroxide::Client::new(provider.clone()) } else { runtime.client() };
        let start = hot::start(&runtime.client(), format!("h{outside}{delayed}{terminate}"), 0);
        let handle = if delayed { start.delay(Duration::MAX) } else { start }.await.unwrap();
        tokio::task::yield_now().await;
        let begun = std::time::Instant::now();
        let handle = hot::handle(&client, handle.id().unwrap().as_str());
        if terminate { handle.terminate("enough").await.unwrap(); } else { handle.cancel("enough").await.unwrap(); }
        let result = tokio::time::timeout(Duration::from_secs(5), handle.result()).await;
        println!("{outside} {delayed} {terminate} {:?} after {:?}; execution {:?}", result.map(|r| r.map_err(|e| e.to_string())), begun.elapsed(), handle.status().await.map(|s| (s.execution, s.events)));
       }
      }
    }
}
