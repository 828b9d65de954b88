//! A process is killed with instances in flight, and another takes over.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use duroxide::{Decision, EventKind, Input, RuntimeOptions};

use super::many::{id, start_all};
use super::{Bench, Options};
use crate::measure::{Report, Times};
use crate::orchestrations::steps;
use crate::setup::Kind;

const STEPS: u64 = 5;

pub(super) async fn recovery(options: Options) -> duroxide::Result<Report> {
    if options.kind == Kind::Memory {
        return Err(duroxide::Error::new("what is in memory does not outlive the process"));
    }
    kill_a_process_in_the_middle(&options)?;
    let bench = Bench::start(options).await?;
    let run = bench.begin();
    let (mut lost, mut twice) = (0u32, 0u32);
    for i in 0..bench.options.n {
        steps::handle(&bench.client, id("recovery", i)).result().await?;
    }
    let mut report = bench.end(&run, bench.options.n, Times::default());
    for i in 0..bench.options.n {
        let mut outcomes = BTreeMap::new();
        for event in steps::handle(&bench.client, id("recovery", i)).history().await? {
            match event.kind {
                EventKind::Decision(Decision::ActivityScheduled(a)) => _ = outcomes.entry(a.call).or_insert(0u32),
                EventKind::Input(Input::ActivityCompleted { call }) => *outcomes.entry(call).or_insert(0) += 1,
                _ => {}
            }
        }
        lost += u32::from(outcomes.len() as u64 != STEPS) + u32::from(outcomes.values().any(|n| *n == 0));
        twice += u32::from(outcomes.values().any(|n| *n > 1));
    }
    report.extra.insert("lost".to_owned(), lost.into());
    report.extra.insert("duplicated".to_owned(), twice.into());
    bench.runtime.shutdown().await?;
    Ok(report)
}

/// Runs this program again, waits until it says that all instances are started, and kills it.
fn kill_a_process_in_the_middle(options: &Options) -> duroxide::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["recovery", "--victim", "--n", &options.n.to_string()])
        .arg("--folder")
        .arg(&options.folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let said = child.stdout.take().map(BufReader::new).and_then(|out| out.lines().next());
    child.kill()?;
    child.wait()?;
    match said {
        Some(Ok(line)) if line == "started" => Ok(()),
        other => Err(duroxide::Error::new(format!("the process that was to be killed said {other:?}"))),
    }
}

/// The part of the process that is killed.
pub async fn start_and_wait_for_the_kill(options: Options) -> duroxide::Result<()> {
    let store = crate::setup::Store::open(options.kind, options.level, &options.folder)?;
    let runtime = store.runtime(RuntimeOptions::default()).await?;
    let client = runtime.client();
    let bench = Bench { options, store, runtime, client };
    start_all(&bench, async |i| Ok(steps::start(&bench.client, id("recovery", i), STEPS).await?)).await?;
    println!("started");
    std::io::stdout().flush()?;
    std::future::pending().await
}
