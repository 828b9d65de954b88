//! Cancelling an orchestration at once, with time to clean up, and in an activity; terminating one that ignores the
//! request.

use std::time::Duration;

use duroxide::prelude::*;

/// Listens for its cancellation. An activity that never asks is dropped at its next await.
#[activity]
async fn cook(ctx: ActivityContext, dish: String) -> duroxide::Result<String> {
    println!("  cooking {dish}");
    select! {
        () = ctx.cancelled() => {
            println!("  {dish}: the stove is switched off");
            Err(duroxide::Error::new("not finished"))
        }
        () = tokio::time::sleep(Duration::from_secs(30)) => Ok(dish),
    }
}

#[activity]
async fn apologize(reason: String) -> duroxide::Result<()> {
    println!("  sorry: {reason}");
    Ok(())
}

/// Does not listen, and so ends at once: the function is dropped, and its calls are cancelled.
#[orchestration]
async fn simple_dinner(ctx: OrchestrationContext, dish: String) -> duroxide::Result<String> {
    Ok(cook::call(&ctx, dish).await?)
}

/// Listens: after its first call of `ctx.cancelled()`, a cancel is a request, and the result of the function is the
/// outcome.
#[orchestration]
async fn polite_dinner(ctx: OrchestrationContext, dish: String) -> duroxide::Result<String> {
    select! {
        reason = ctx.cancelled() => {
            // The call in the other branch was dropped, which cancels the activity. Now compensate:
            apologize::call(&ctx, reason).await?;
            Ok("bread and cheese".to_owned())
        }
        dinner = cook::call(&ctx, dish) => Ok(dinner?),
    }
}

/// Listens, and ignores the request.
#[orchestration]
async fn stubborn_dinner(ctx: OrchestrationContext) -> duroxide::Result<String> {
    loop {
        let reason = ctx.cancelled().await;
        tracing::info!("no, I will not stop because of {reason:?}");
        ctx.sleep(hours(1)).await;
    }
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("three dinners, and none of them is finished");
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().in_memory().start().await?;
    let client = runtime.client();
    let a_while = || tokio::time::sleep(Duration::from_millis(150));

    let simple = simple_dinner::start(&client, "simple", "soup".to_owned()).await?;
    a_while().await;
    simple.cancel("the guests went home").await?;
    println!("simple: {}", simple.wait().await?); // `wait` returns the final status, `result` the output

    let polite = polite_dinner::start(&client, "polite", "roast".to_owned()).await?;
    a_while().await;
    polite.cancel("the oven is on fire").await?;
    println!("polite: {:?}", polite.result().await?);

    let stubborn = stubborn_dinner::start(&client, "stubborn").await?;
    stubborn.cancel("it is late").await?;
    a_while().await;
    println!("stubborn is still {}", stubborn.status().await?.status);
    stubborn.terminate("enough").await?; // does not run its code again
    match stubborn.result().await {
        Err(error) => println!("stubborn: {error}"),
        Ok(dinner) => println!("stubborn: {dinner:?}"),
    }
    runtime.shutdown().await?;
    Ok(())
}
