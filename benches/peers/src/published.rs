//! The published crate `duroxide` 0.1.32, used as its documentation shows.
//!
//! Default settings: two turns and two activities at once, `PRAGMA synchronous = WAL`, which SQLite treats as `NORMAL`. `full`
//! sets Duroxide's level on each of the pool's connections. `--concurrency` sets the number of turns and of activities that
//! run at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::published::providers::Provider;
use ::published::providers::sqlite::SqliteProvider;
use ::published::runtime::registry::ActivityRegistry;
use ::published::runtime::{Runtime, RuntimeOptions};
use ::published::{
    ActivityContext, Client, EventKind, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus,
};

use crate::engine::{Engine, Job, Level, Result};
use crate::ledger::Ledger;

pub(crate) struct Published {
    runtime: Arc<Runtime>,
    client: Client,
}

/// The number of connections in the engine's pool.
const CONNECTIONS: usize = 5;

impl Engine for Published {
    type Handle = String;

    async fn open(
        folder: &Path,
        database: Option<&str>,
        level: Level,
        concurrency: Option<usize>,
        ledger: Ledger,
    ) -> Result<Self> {
        let store: Arc<dyn Provider> = match database {
            Some(url) => Arc::new(duroxide_pg::PostgresProvider::new(url).await?),
            None => {
                let url = format!("sqlite:{}?mode=rwc", folder.join("published.db").display());
                let store = SqliteProvider::new(&url, None).await?;
                if level == Level::Full {
                    flush_every_commit(&store).await?;
                }
                Arc::new(store)
            }
        };
        let mut options = RuntimeOptions::default();
        if let Some(concurrency) = concurrency {
            options.orchestration_concurrency = concurrency;
            options.worker_concurrency = concurrency;
        }
        let (activities, orchestrations) = (activities(ledger), orchestrations());
        let runtime = Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
        Ok(Self { runtime, client: Client::new(store) })
    }

    async fn start(&self, id: &str, job: Job) -> Result<String> {
        let (name, input) = match job {
            Job::Steps(n) => ("steps", n.to_string()),
            Job::Fan(n) => ("fan", n.to_string()),
            Job::Nap(millis) => ("nap", millis.to_string()),
            Job::Waits => ("steps_then_event", "0".to_owned()),
            Job::Family(n) => ("family", n.to_string()),
            Job::Carry(text) => ("carry", text),
            Job::StepsThenEvent(n) => ("steps_then_event", n.to_string()),
            Job::Notes { instance, steps } => ("notes", format!("{instance} {steps}")),
        };
        self.client.start_orchestration(id, name, input).await?;
        Ok(id.to_owned())
    }

    async fn handle(&self, id: &str) -> Result<String> {
        Ok(id.to_owned())
    }

    async fn result(&self, id: &String) -> Result<()> {
        match self.client.wait_for_orchestration(id, Duration::from_secs(3600)).await? {
            OrchestrationStatus::Completed { .. } => Ok(()),
            other => Err(format!("{id}: {other:?}").into()),
        }
    }

    async fn raise(&self, id: &str) -> Result<()> {
        Ok(self.client.raise_event(id, "go", "1").await?)
    }

    /// Checks the history, since this engine drops an event that arrives before the wait.
    async fn waits(&self, id: &str) -> Result<bool> {
        let history = self.client.read_execution_history(id, 1).await?;
        Ok(history.iter().any(|event| matches!(event.kind, EventKind::ExternalSubscribed { .. })))
    }

    async fn due(&self, id: &str) -> Result<Duration> {
        let history = self.client.read_execution_history(id, 1).await?;
        let due = history.iter().find_map(|event| match event.kind {
            EventKind::TimerCreated { fire_at_ms } => Some(fire_at_ms),
            _ => None,
        });
        Ok(Duration::from_millis(due.ok_or("no timer in the history")?))
    }

    async fn outcomes(&self, id: &str) -> Result<u64> {
        let history = self.client.read_execution_history(id, 1).await?;
        Ok(history.iter().filter(|event| matches!(event.kind, EventKind::ActivityCompleted { .. })).count() as u64)
    }

    async fn shutdown(self) -> Result<()> {
        self.runtime.shutdown(None).await;
        Ok(())
    }
}

/// Sets the sync level of all connections, which are acquired together so that each is set.
async fn flush_every_commit(store: &SqliteProvider) -> Result<()> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = store.get_pool().acquire().await?;
        sqlx::query("PRAGMA synchronous = FULL").execute(&mut *connection).await?;
        connections.push(connection);
    }
    Ok(())
}

fn activities(ledger: Ledger) -> ActivityRegistry {
    ActivityRegistry::builder()
        .register("echo", |_: ActivityContext, input: String| async move { Ok(input) })
        .register("note", move |_: ActivityContext, input: String| {
            let ledger = ledger.clone();
            async move {
                let (instance, step) = two_numbers(&input)?;
                ledger.note(instance, step).await.map_err(|e| e.to_string())?;
                Ok(input)
            }
        })
        .build()
}

fn orchestrations() -> OrchestrationRegistry {
    OrchestrationRegistry::builder()
        .register("steps", |ctx: OrchestrationContext, input: String| async move {
            for i in 0..number(&input)? {
                ctx.schedule_activity("echo", i.to_string()).await?;
            }
            Ok(input)
        })
        .register("fan", |ctx: OrchestrationContext, input: String| async move {
            let calls = (0..number(&input)?).map(|i| ctx.schedule_activity("echo", i.to_string())).collect();
            for result in ctx.join(calls).await {
                result?;
            }
            Ok(input)
        })
        .register("nap", |ctx: OrchestrationContext, input: String| async move {
            ctx.schedule_timer(Duration::from_millis(number(&input)?)).await;
            Ok(input)
        })
        .register("family", |ctx: OrchestrationContext, input: String| async move {
            let children = (0..number(&input)?).map(|_| ctx.schedule_sub_orchestration("steps", "1")).collect();
            for result in ctx.join(children).await {
                result?;
            }
            Ok(input)
        })
        .register("carry", |ctx: OrchestrationContext, text: String| async move {
            Ok(ctx.schedule_activity("echo", text).await?.len().to_string())
        })
        .register("steps_then_event", |ctx: OrchestrationContext, input: String| async move {
            for i in 0..number(&input)? {
                ctx.schedule_activity("echo", i.to_string()).await?;
            }
            Ok(ctx.schedule_wait("go").await)
        })
        .register("notes", |ctx: OrchestrationContext, input: String| async move {
            let (instance, steps) = two_numbers(&input)?;
            for step in 0..steps {
                ctx.schedule_activity("note", format!("{instance} {step}")).await?;
            }
            Ok(input)
        })
        .build()
}

fn number(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|e| format!("{text:?}: {e}"))
}

fn two_numbers(text: &str) -> std::result::Result<(u64, u64), String> {
    let (a, b) = text.split_once(' ').ok_or("two numbers are needed")?;
    Ok((number(a)?, number(b)?))
}
