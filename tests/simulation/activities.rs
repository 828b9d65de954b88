//! The activities of the programs, and a build whose code cannot read any input.

use duroxide::prelude::*;

/// Fails in its first attempts, `failures` times.
#[activity]
async fn work(ctx: ActivityContext, failures: u32) -> Result<u32, u32> {
    if ctx.attempt() <= failures { Err(ctx.attempt()) } else { Ok(ctx.attempt()) }
}

#[activity]
fn blocking(n: u32) -> Result<u32, u32> {
    if n % 4 == 3 { Err(n) } else { Ok(n) }
}

/// Runs for a while, and ends early when it is cancelled.
#[activity]
async fn polite(ctx: ActivityContext, millis: u64) -> Result<bool, ()> {
    select! {
        () = ctx.cancelled() => Ok(false),
        () = sleep(millis) => Ok(true),
    }
}

async fn sleep(millis: u64) {
    tokio::time::timeout(std::time::Duration::from_millis(millis), std::future::pending::<()>()).await.unwrap_err();
}

/// A build with the same names, whose functions cannot read the inputs of the programs.
pub(crate) mod broken {
    use duroxide::Registry;
    use duroxide::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(crate) struct Other {
        other: Vec<std::net::IpAddr>,
    }

    pub(crate) enum Work {}

    impl Activity for Work {
        const NAME: &'static str = "work";
        type Input = Other;
        type Output = u32;
        type Error = u32;
    }

    impl ActivityFn for Work {
        async fn run(_: ActivityContext, _: Other) -> Result<u32, u32> {
            Ok(0)
        }
    }

    pub(crate) enum Program {}

    impl Orchestration for Program {
        const NAME: &'static str = "program";
        type Input = Other;
        type Output = String;
        type Error = String;
    }

    impl OrchestrationFn for Program {
        async fn run(_: OrchestrationContext, _: Other) -> Result<String, String> {
            Ok(String::new())
        }
    }

    pub(crate) fn registry() -> Registry {
        Registry::discover().except("work").except("program").with_activity::<Work>().with_orchestration::<Program>()
    }
}
