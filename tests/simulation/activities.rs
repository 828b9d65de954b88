//! The activities of the programs, and a build of the program that can read nothing.

use duroxide::prelude::*;

/// Fails in its first attempts, as often as it is told.
#[activity]
async fn work(ctx: ActivityContext, failures: u32) -> Result<u32, u32> {
    if ctx.attempt() <= failures { Err(ctx.attempt()) } else { Ok(ctx.attempt()) }
}

#[activity]
fn blocking(n: u32) -> Result<u32, u32> {
    if n % 4 == 3 { Err(n) } else { Ok(n) }
}

/// Asks whether it is still wanted, and goes on a little when it is not.
#[activity]
async fn polite(ctx: ActivityContext, millis: u64) -> Result<bool, ()> {
    select! {
        () = ctx.cancelled() => Ok(false),
        () = pass(millis) => Ok(true),
    }
}

async fn pass(millis: u64) {
    tokio::time::timeout(std::time::Duration::from_millis(millis), std::future::pending::<()>()).await.unwrap_err();
}

/// The names that are there, with code that cannot read what they are called with.
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
