//! The floor below every engine: commits of the database per second, the rate of the disk, and the time to wake a
//! sleeping thread.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::Instant;

use crate::drive::{Options, Workload};
use crate::engine::Result;
use crate::measure::{Report, Run, Times, Written};

pub(crate) fn run(workload: Workload, options: &Options) -> Result<Report> {
    match workload {
        Workload::Commits => commits(options),
        Workload::Disk => disk(options),
        Workload::Threads => threads(options),
        _ => Err("the floor has only the workloads `commits`, `disk` and `threads`".into()),
    }
}

/// One small row per transaction, one transaction after another, each on the disk before the next.
fn commits(options: &Options) -> Result<Report> {
    let database = rusqlite::Connection::open(options.folder.join("floor.db"))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)", [])?;
    let mut insert = database.prepare("INSERT INTO rows (text) VALUES (?1)")?;
    let written = Written::now();
    let run = Run::begin(0);
    let mut times = Times::default();
    for _ in 0..options.n {
        let begun = Instant::now();
        insert.execute(["a small row"])?;
        times.push(begun.elapsed());
    }
    let mut report = run.end(options.n, times, options.n);
    written.add_since(&mut report);
    Ok(report)
}

/// 1 MiB at a time, appended and flushed.
fn disk(options: &Options) -> Result<Report> {
    let mut file = File::create(options.folder.join("floor.bin"))?;
    let block = vec![0x5a; 1024 * 1024];
    let run = Run::begin(0);
    let mut times = Times::default();
    for _ in 0..options.n {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    let mut report = run.end(options.n, times, 0);
    report.add("mib_per_second", report.per_second);
    Ok(report)
}

/// Sends a message to a waiting thread, and one back. A single time is half of that: one thread switch.
fn threads(options: &Options) -> Result<Report> {
    let ((there, inbox), (back, answers)) = (channel(), channel());
    let other = std::thread::spawn(move || inbox.iter().take_while(|()| back.send(()).is_ok()).count());
    let run = Run::begin(0);
    let mut times = Times::default();
    for _ in 0..options.n {
        let begun = Instant::now();
        there.send(())?;
        answers.recv()?;
        times.push(begun.elapsed() / 2);
    }
    drop(there);
    other.join().map_err(|_| "the other thread has panicked")?;
    Ok(run.end(options.n, times, 0))
}
