//! Names that are chosen at run time: a small interpreter of workflows in JSON.

use duroxide::Registry;
use duroxide::prelude::*;
use duroxide::registry::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[activity]
async fn uppercase(text: String) -> duroxide::Result<String> {
    Ok(text.to_uppercase())
}

#[activity]
async fn reverse(text: String) -> duroxide::Result<String> {
    Ok(text.chars().rev().collect())
}

#[activity]
async fn repeat(text: String, times: usize) -> duroxide::Result<String> {
    Ok(text.repeat(times))
}

#[orchestration]
async fn shout(ctx: OrchestrationContext, text: String) -> duroxide::Result<String> {
    Ok(uppercase::call(&ctx, text).await? + "!")
}

/// One step of a workflow, as a file could contain it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// An activity that takes one text.
    Activity(String),
    /// An orchestration that takes one text.
    Orchestration(String),
    /// Several arguments are an object, by the names of the parameters.
    Repeat(usize),
    /// The text of an external event is appended.
    Event(String),
}

#[orchestration]
async fn interpret(ctx: OrchestrationContext, steps: Vec<Step>, mut text: String) -> duroxide::Result<String> {
    for step in steps {
        // The twins of the typed calls take a name and anything that can be serialized.
        text = match &step {
            Step::Activity(name) => ctx.call_activity(name, &text).await?,
            Step::Orchestration(name) => ctx.call_orchestration(name, &text).await?,
            Step::Repeat(times) => ctx.call_activity("repeat", &json!({"text": text, "times": times})).await?,
            Step::Event(name) => text + &ctx.event_named::<String>(name).await,
        };
        tracing::info!("{step:?} gives {text:?}");
    }
    Ok(text)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("registered functions:");
    for entry in Registry::discover().entries() {
        let kind = if entry.kind() == Kind::Activity { "activity" } else { "orchestration" };
        println!("  {kind:13} {:10} {}", entry.name(), entry.place());
    }
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().in_memory().start().await?;
    let client = runtime.client();

    let workflow = r#"[{"activity": "reverse"}, {"event": "suffix"}, {"repeat": 2}, {"orchestration": "shout"}]"#;
    let input = json!({"steps": serde_json::from_str::<Value>(workflow)?, "text": "olleh"});
    let handle = client.start("interpret", "workflow-1", &input).await?;
    handle.raise_named("suffix", ", world. ").await?;
    // Without types the result is JSON; `result_as::<String, Value>()` would read it as text.
    println!("the result: {}", handle.result().await?);

    // An unregistered name is not an error: the instance waits for a node with that code, and its status shows it.
    let stuck = client.start("interpreter", "workflow-2", &Value::Null).await?;
    if let Some(unclaimed) = stuck.status().await?.unclaimed {
        println!("workflow-2 waits for {}", unclaimed.what);
    }
    runtime.shutdown().await?;
    Ok(())
}
