//! The crate `durare` 0.5.0, used as its documentation shows.
//!
//! Default settings: five connections, `synchronous = NORMAL`. `full` is the same pool with Duroxide's sync level.

use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ::durare::{DurableContext, DurableEngine, PostgresProvider, SqliteProvider, WorkflowHandle, WorkflowOptions};
use futures_util::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::engine::{Engine, Job, Level, Result};
use crate::ledger::Ledger;

pub(crate) struct Durare(DurableEngine);

/// The ledger of the steps: the context of this engine carries no values of the program.
static LEDGER: OnceLock<Ledger> = OnceLock::new();
/// Longer than any run.
const TIMEOUT: Duration = Duration::from_secs(3600);

impl Engine for Durare {
    type Handle = WorkflowHandle<u64>;

    async fn open(
        folder: &Path,
        database: Option<&str>,
        level: Level,
        _concurrency: Option<usize>,
        ledger: Ledger,
    ) -> Result<Self> {
        let _ = LEDGER.set(ledger);
        let url = format!("sqlite://{}", folder.join("durare.db").display());
        let engine = match (database, level) {
            (Some(url), _) => DurableEngine::new(Arc::new(PostgresProvider::connect(url).await?)).await?,
            (None, Level::Default) => DurableEngine::new(Arc::new(SqliteProvider::connect(&url).await?)).await?,
            (None, Level::Full) => {
                DurableEngine::new(Arc::new(SqliteProvider::from_pool(pool_that_flushes(&url).await?))).await?
            }
        };
        engine.launch().await?;
        engine.recover().await?;
        Ok(Self(engine))
    }

    async fn start(&self, id: &str, job: Job) -> Result<Self::Handle> {
        let options = WorkflowOptions::with_id(id);
        let engine = &self.0;
        Ok(match job {
            Job::Steps(n) => engine.start_with(Steps, n, options).await?,
            Job::Fan(n) => engine.start_with(Fan, n, options).await?,
            Job::Nap(millis) => engine.start_with(Nap, millis, options).await?,
            Job::Waits => engine.start_with(Awaits, 0, options).await?,
            Job::Family(n) => engine.start_with(Family, n, options).await?,
            Job::Carry(text) => engine.start_with(Carry, text, options).await?,
            Job::StepsThenEvent(n) => engine.start_with(Awaits, n, options).await?,
            Job::Notes { instance, steps } => engine.start_with(Notes, (instance, steps), options).await?,
        })
    }

    async fn handle(&self, id: &str) -> Result<Self::Handle> {
        Ok(self.0.retrieve_workflow(id).await?)
    }

    async fn result(&self, handle: &Self::Handle) -> Result<()> {
        handle.result().await?;
        Ok(())
    }

    async fn raise(&self, id: &str) -> Result<()> {
        Ok(self.0.send(id, 1u64, "go").await?)
    }

    async fn waits(&self, _id: &str) -> Result<bool> {
        Ok(true)
    }

    async fn due(&self, id: &str) -> Result<Duration> {
        Ok(Duration::from_micros(self.0.retrieve_workflow::<u64>(id).await?.result().await?))
    }

    async fn outcomes(&self, id: &str) -> Result<u64> {
        let steps = self.0.get_workflow_steps(id).await?;
        Ok(steps.iter().filter(|step| step.name.ends_with("echo")).count() as u64)
    }

    async fn shutdown(self) -> Result<()> {
        Ok(self.0.shutdown(Duration::from_secs(5)).await?)
    }
}

async fn pool_that_flushes(url: &str) -> Result<sqlx::SqlitePool> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    Ok(SqlitePoolOptions::new().max_connections(5).connect_with(options).await?)
}

#[::durare::step]
async fn echo(ctx: &DurableContext, n: u64) -> ::durare::Result<u64> {
    Ok(n)
}

#[::durare::step]
async fn echo_text(ctx: &DurableContext, text: String) -> ::durare::Result<String> {
    Ok(text)
}

#[::durare::step]
async fn note(ctx: &DurableContext, instance: u64, step: u64) -> ::durare::Result<u64> {
    let ledger = LEDGER.get().ok_or_else(|| ::durare::Error::app("no ledger"))?;
    ledger.note(instance, step).await.map_err(|e| ::durare::Error::app(e.to_string()))
}

#[::durare::workflow]
async fn steps(ctx: DurableContext, n: u64) -> ::durare::Result<u64> {
    for i in 0..n {
        echo(&ctx, i).await?;
    }
    Ok(n)
}

#[::durare::workflow]
async fn fan(ctx: DurableContext, n: u64) -> ::durare::Result<u64> {
    for result in join_all((0..n).map(|i| echo(&ctx, i))).await {
        result?;
    }
    Ok(n)
}

#[::durare::workflow]
async fn nap(ctx: DurableContext, millis: u64) -> ::durare::Result<u64> {
    let time = Duration::from_millis(millis);
    // Not deterministic, but never replayed: one process runs it from its start to its end.
    let due = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + time;
    ctx.sleep(time).await?;
    Ok(u64::try_from(due.as_micros()).unwrap_or(u64::MAX))
}

#[::durare::workflow]
async fn family(ctx: DurableContext, n: u64) -> ::durare::Result<u64> {
    let mut children = Vec::new();
    for _ in 0..n {
        children.push(ctx.start_workflow::<_, u64>("steps", 1u64, WorkflowOptions::default()).await?);
    }
    for child in children {
        child.result().await?;
    }
    Ok(n)
}

#[::durare::workflow]
async fn carry(ctx: DurableContext, text: String) -> ::durare::Result<u64> {
    Ok(echo_text(&ctx, text).await?.len() as u64)
}

#[::durare::workflow]
async fn awaits(ctx: DurableContext, n: u64) -> ::durare::Result<u64> {
    for i in 0..n {
        echo(&ctx, i).await?;
    }
    ctx.recv::<u64>("go", TIMEOUT).await?.ok_or_else(|| ::durare::Error::app("the event was not sent"))
}

#[::durare::workflow]
async fn notes(ctx: DurableContext, (instance, steps): (u64, u64)) -> ::durare::Result<u64> {
    for step in 0..steps {
        note(&ctx, instance, step).await?;
    }
    Ok(steps)
}
