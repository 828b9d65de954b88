//! A process is killed with instances in flight, and another one recovers them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use duroxide::{Decision, EventKind, HistoryEvent, Input, InstanceStatus, RuntimeOptions};

use super::many::{id, start_all};
use super::{Bench, Options};
use crate::ledger::Ledger;
use crate::measure::{Report, Run, Times};
use crate::orchestrations::notes;
use crate::setup::Kind;

const STEPS: u64 = 5;

pub(super) async fn recovery(options: Options) -> duroxide::Result<Report> {
    if options.kind == Kind::Memory {
        return Err(duroxide::Error::new("state in memory does not outlive the process"));
    }
    kill_a_process_in_the_middle(&options)?;
    let before = done_once(&options)?;
    let ledger = Ledger::in_folder(&options.folder)?;
    ledger.open();
    // The cost of a restart includes opening the database.
    let run = Run::begin(0);
    let bench = Bench::start_with(options, |builder| builder.state(ledger)).await?;
    for i in 0..bench.options.n {
        notes::handle(&bench.client, id("recovery", i)).result().await?;
    }
    let mut report = bench.end(&run, bench.options.n, Times::default());
    report.add("steps_before_the_kill", before);
    check(&bench, &mut report).await?;
    bench.runtime.shutdown().await?;
    Ok(report)
}

/// Counts lost instances, duplicate outcomes, and repeated activities.
async fn check(bench: &Bench, report: &mut Report) -> duroxide::Result<()> {
    let (mut lost, mut duplicated) = (0u32, 0u32);
    for i in 0..bench.options.n {
        let handle = notes::handle(&bench.client, id("recovery", i));
        let outcomes = outcomes(&handle.history().await?);
        let all = outcomes.len() as u64 == STEPS && outcomes.values().all(|n| *n > 0);
        let completed = handle.status().await?.status == InstanceStatus::Completed;
        lost += u32::from(!all || !completed);
        duplicated += u32::from(outcomes.values().any(|n| *n > 1));
    }
    let done = Ledger::read(&bench.options.folder)?;
    let missing = (bench.options.n * STEPS).saturating_sub(done.len() as u64);
    report.add("lost", f64::from(lost));
    report.add("duplicated", f64::from(duplicated));
    report.add("effects_missing", f64::from(u32::try_from(missing).unwrap_or(u32::MAX)));
    report.add("reruns", f64::from(done.values().map(|times| times - 1).sum::<u32>()));
    let slots = u32::try_from(RuntimeOptions::default().max_activities).unwrap_or(u32::MAX);
    report.add("worker_slots", f64::from(slots));
    Ok(())
}

/// Counts the outcomes in a history of each activity that it scheduled.
fn outcomes(history: &[HistoryEvent]) -> BTreeMap<duroxide::CallId, u32> {
    let mut outcomes = BTreeMap::new();
    for event in history {
        match &event.kind {
            EventKind::Decision(Decision::ActivityScheduled(a)) => _ = outcomes.entry(a.call).or_insert(0),
            EventKind::Input(Input::ActivityCompleted { call }) => *outcomes.entry(*call).or_insert(0) += 1,
            _ => {}
        }
    }
    outcomes
}

fn done_once(options: &Options) -> duroxide::Result<f64> {
    Ok(f64::from(u32::try_from(Ledger::read(&options.folder)?.len())?))
}

/// Runs this program again, waits until it reports that half is done, and kills it.
fn kill_a_process_in_the_middle(options: &Options) -> duroxide::Result<()> {
    let delay = humantime::format_duration(options.flush_delay).to_string();
    let level = options.level.to_possible_value().map_or_else(String::new, |level| level.get_name().to_owned());
    let mut child = Command::new(std::env::current_exe()?)
        .args(["recovery", "--victim", "--n", &options.n.to_string()])
        .args(["--flush-delay", &delay, "--durability", &level])
        .arg("--folder")
        .arg(&options.folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let said = child.stdout.take().map(BufReader::new).and_then(|out| out.lines().next());
    child.kill()?;
    child.wait()?;
    match said {
        Some(Ok(line)) if line == "half" => Ok(()),
        other => Err(duroxide::Error::new(format!("the process that was to be killed said {other:?}"))),
    }
}

/// Runs in the process that is killed: no activity ends before all instances are started, so that all are in flight.
pub async fn work_until_the_kill(options: Options) -> duroxide::Result<()> {
    let ledger = Ledger::in_folder(&options.folder)?;
    let bench = Bench::start_with(options, |builder| builder.state(ledger.clone())).await?;
    start_all(&bench, async |i| Ok(notes::start(&bench.client, id("recovery", i), i, STEPS).await?)).await?;
    ledger.open();
    ledger.has(bench.options.n * STEPS / 2).await;
    println!("half");
    std::io::stdout().flush()?;
    std::future::pending().await
}
