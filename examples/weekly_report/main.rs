//! A report that is made every week, by two programs: `report` coordinates, `sources` reads and speaks to the editor.
//!
//! ```sh
//! cargo run --example weekly_report              # both in one process
//! cargo run --example weekly_report -- report    # or in two terminals: kill them and start them again as you like
//! cargo run --example weekly_report -- sources
//! ```

use std::time::Duration;

use duroxide::Registry;
use duroxide::prelude::*;

mod contracts;
mod report;
mod sources;
#[cfg(test)]
mod tests;

use contracts::Approval;
use report::{Plan, weekly_report};

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("its state is in weekly_report.db: remove it to start again");
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let role = std::env::args().nth(1).unwrap_or_default();
    let functions = match role.as_str() {
        "report" => Registry::empty().with::<weekly_report>(),
        "sources" => Registry::discover().except("weekly_report"),
        _ => Registry::discover(),
    };
    let runtime = Runtime::builder().sqlite("weekly_report.db").registry(functions).start().await?;
    if role == "sources" {
        std::future::pending::<()>().await;
    }
    let plan = Plan { week: 1, last_week: 2, day: Duration::from_secs(1) };
    let report = weekly_report::start(&runtime.client(), "report", plan).if_exists(IfExists::Attach).await?;
    // The editor approves one report. The approval waits until it is read.
    report.raise(Approval { by: "Ada".to_owned() }).await?;
    println!("the last report was that of week {}", report.result().await?);
    runtime.shutdown().await?;
    Ok(())
}
