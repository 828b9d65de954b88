//! The recovery workload: a process is killed with instances in flight, and another process continues them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use duroxide::history::{Decision, EventKind, HistoryEvent, Input};
use duroxide::id::CallId;
use duroxide::{InstanceStatus, RuntimeOptions};

use super::many::{id, start_all};
use super::{Bench, BenchRun, Options};
use crate::ledger::Ledger;
use crate::measure::{Report, Run, Times};
use crate::orchestrations::notes;
use crate::setup::Kind;

const STEPS: u64 = 5;

pub(super) async fn recovery(options: Options) -> duroxide::Result<Report> {
    if options.kind == Kind::Memory {
        return Err(duroxide::Error::new("a provider in memory does not outlive its process"));
    }
    kill_a_process_half_way(&options)?;
    let before = finished_steps(&options)?;
    let ledger = Ledger::in_folder(&options.folder)?;
    ledger.open();
    // The time of a restart includes the opening of the database.
    let run = BenchRun { run: Run::begin(0), acquires: 0 };
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

/// Counts lost instances, duplicated outcomes, missing effects, and activities that ran again.
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

/// Returns the number of outcomes of each scheduled activity in a history.
fn outcomes(history: &[HistoryEvent]) -> BTreeMap<CallId, u32> {
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

fn finished_steps(options: &Options) -> duroxide::Result<f64> {
    Ok(f64::from(u32::try_from(Ledger::read(&options.folder)?.len())?))
}

/// Runs this program again as a child process, waits until it reports that half of the work is done, and kills it.
fn kill_a_process_half_way(options: &Options) -> duroxide::Result<()> {
    let delay = humantime::format_duration(options.flush_delay).to_string();
    let kind = options.kind.to_possible_value().map_or_else(String::new, |kind| kind.get_name().to_owned());
    let level = options.level.to_possible_value().map_or_else(String::new, |level| level.get_name().to_owned());
    let mut child = Command::new(std::env::current_exe()?)
        .args(["recovery", "--victim", "--n", &options.n.to_string()])
        .args(["--flush-delay", &delay, "--durability", &level, "--provider", &kind, "--database", &options.database])
        .arg("--folder")
        .arg(&options.folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let said = child.stdout.take().map(BufReader::new).and_then(|out| out.lines().next());
    child.kill()?;
    child.wait()?;
    match said {
        Some(Ok(line)) if line == "half" => Ok(()),
        other => Err(duroxide::Error::new(format!("the process to be killed printed {other:?}"))),
    }
}

/// Runs in the process that is killed. No activity ends before all instances are started, so that all are in flight.
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
