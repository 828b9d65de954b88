//! Runs one program, and measures the share of the processors that other programs took.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::figures::Report;

/// The name of the field with the share of all processors that other programs took during the run.
pub const OTHERS: &str = "others";
/// The share that other programs may take on a quiet machine.
pub const QUIET: f64 = 0.1;

/// Runs a program until the machine was quiet, at most `attempts` times. Returns the object of the last printed line, from the
/// run in which other programs took the least. `through` is a command that runs the program, such as `taskset -c 0`.
pub fn quietest(through: &[String], program: &Path, arguments: &str, attempts: u32) -> duroxide::Result<Report> {
    let mut best = once(through, program, arguments)?;
    for _ in 1..attempts {
        if others(&best) <= QUIET || best.contains_key("error") {
            break;
        }
        let next = once(through, program, arguments)?;
        if others(&next) < others(&best) {
            best = next;
        }
    }
    Ok(best)
}

fn others(report: &Report) -> f64 {
    report.get(OTHERS).and_then(serde_json::Value::as_f64).unwrap_or_default()
}

fn once(through: &[String], program: &Path, arguments: &str) -> duroxide::Result<Report> {
    let mut command = match through {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.args(arguments.split(' ')).arg("--json").stderr(Stdio::null());
    let usage = ProcessorUse::begin();
    let output = command.output()?;
    let others = usage.others();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut report = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|_| {
        let reason = format!("{} ended with {} and no figures", program.display(), output.status);
        Report::from_iter([("error".to_owned(), reason.into())])
    });
    report.insert(OTHERS.to_owned(), others.into());
    Ok(report)
}

/// Measures the use of the processors while a program runs.
struct ProcessorUse {
    begun: Instant,
    busy: f64,
    ours: f64,
}

impl ProcessorUse {
    fn begin() -> Self {
        Self { begun: Instant::now(), busy: busy_ticks(), ours: our_ticks() }
    }

    /// Returns the share of the time of all processors that other programs took; zero if the system does not count it.
    fn others(&self) -> f64 {
        let ticks = (busy_ticks() - self.busy) - (our_ticks() - self.ours);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let all = self.begun.elapsed().as_secs_f64() * TICKS_PER_SECOND * processors as f64;
        (ticks / all).max(0.0)
    }
}

/// The unit in which `/proc` counts time.
pub const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the user time of all programs. System time does not count: much of it belongs to the measured writes to the disk,
/// which threads of the system carry out.
fn busy_ticks() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    // user, nice
    first.split_whitespace().skip(1).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

/// Returns the user time of this process, and of all children that it has waited for, with their children.
fn our_ticks() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may contain blanks. The third field follows it; utime is the 14th, cutime the
    // 16th.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let fields = after.split_whitespace().skip(11).take(4).step_by(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}
