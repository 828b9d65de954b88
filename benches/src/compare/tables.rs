//! Prints the figures as tables.

use std::fmt::Write as _;
use std::path::Path;

use super::figures::Figures;
use super::run::QUIET;
use super::targets::{self, Bound};

/// A figure of one workload, for this engine and for others.
struct Row {
    /// The name of the runs.
    name: &'static str,
    title: &'static str,
    field: &'static str,
    unit: &'static str,
    /// True if more is better.
    more: bool,
}

const ROWS: &[Row] = &[
    Row { name: "hello", title: "one activity, 256 instances at once", field: "per_second", unit: "/s", more: true },
    Row { name: "latency", title: "one activity, one at a time, median", field: "p50_ms", unit: "ms", more: false },
    Row { name: "steps5", title: "five steps, 256 at once", field: "steps_per_second", unit: "steps/s", more: true },
    Row { name: "chain", title: "one instance, 1,000 steps", field: "per_second", unit: "steps/s", more: true },
    Row { name: "fanout500", title: "500 activities side by side", field: "seconds", unit: "s", more: false },
    Row { name: "fanout10000", title: "10,000 activities side by side", field: "seconds", unit: "s", more: false },
    Row { name: "timers", title: "timers, delay (p99)", field: "p99_ms", unit: "ms", more: false },
    Row { name: "events", title: "events, 256 at once", field: "per_second", unit: "/s", more: true },
    Row { name: "children", title: "children side by side", field: "per_second", unit: "/s", more: true },
    Row { name: "payload", title: "64 KiB through an activity", field: "per_second", unit: "/s", more: true },
    Row { name: "replay", title: "replay of 10,000 events", field: "p50_ms", unit: "ms", more: false },
    Row { name: "recovery", title: "recovery after a kill", field: "seconds", unit: "s", more: false },
    Row { name: "idle", title: "20 s of waiting, processor time", field: "cpu_seconds", unit: "s", more: false },
    Row { name: "idle", title: "wake-up of a waiting instance, median", field: "p50_ms", unit: "ms", more: false },
    Row {
        name: "hello",
        title: "written to disk, one activity",
        field: "written_bytes_per_one",
        unit: "B",
        more: false,
    },
    Row { name: "hello", title: "processor time, one activity", field: "cpu_us_per_one", unit: "us", more: false },
];

const OTHERS: &[&str] = &["published default", "published full", "durare default", "durare full"];

/// Returns the table of all engines. The factor in parentheses is how many times better this engine is.
pub fn workloads(figures: &Figures) -> String {
    let mut text =
        "| workload | Duroxide | duroxide 0.1.32 | with full sync | durare 0.5.0 | with full sync |\n".to_owned();
    text += "| --- | --- | --- | --- | --- | --- |\n";
    for row in ROWS {
        let Some(ours) = figures.get(row.name, row.field) else { continue };
        let _ = write!(text, "| {} | {} {}", row.title, number(ours), row.unit);
        for other in OTHERS {
            let _ = write!(text, " | {}", cell(figures, row, other, ours));
        }
        text += " |\n";
    }
    if let (Some(rate), Some(p50)) = (figures.get("commits", "per_second"), figures.get("commits", "p50_ms")) {
        let _ = writeln!(text, "\nA bare commit of one row: {} /s, median {} ms.", number(rate), number(p50));
    }
    if let Some(rate) = figures.get("disk", "mib_per_second") {
        let _ = writeln!(text, "The disk, flushed after each 1 MiB: {} MiB/s.", number(rate));
    }
    if let Some(p50) = figures.get("threads", "p50_ms") {
        let _ = writeln!(text, "The wake-up of a sleeping thread: median {} us.", number(p50 * 1e3));
    }
    let (runs, disturbed) = figures.disturbed(QUIET);
    let _ = writeln!(text, "In {disturbed} of {runs} runs other programs took more than a tenth of the processors.");
    text
}

fn cell(figures: &Figures, row: &Row, other: &str, ours: f64) -> String {
    let name = format!("{} {other}", row.name);
    match (figures.get(&name, row.field), figures.error(&name)) {
        (Some(theirs), _) => {
            let ratio = if row.more { ours / theirs } else { theirs / ours };
            format!("{} {} ({}x)", number(theirs), row.unit, number(ratio))
        }
        (None, Some(error)) => brief(error),
        (None, None) => String::new(),
    }
}

/// Returns the beginning of an error, short enough for a cell.
fn brief(error: &str) -> String {
    const LONGEST: usize = 60;
    let words = error.replace(['|', '\n'], " ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("failed: {}...", &words[..end]),
        None => format!("failed: {words}"),
    }
}

/// Returns the table of the engines on PostgreSQL.
pub fn postgres(figures: &Figures) -> String {
    let mut text =
        "| on PostgreSQL | Duroxide | durare 0.5.0 | duroxide-pg 0.1.38 |\n| --- | --- | --- | --- |\n".to_owned();
    for row in ROWS {
        let name = format!("{} pg", row.name);
        let Some(ours) = figures.get(&name, row.field) else { continue };
        let other = |engine| cell(figures, row, engine, ours);
        let (durare, published) = (other("pg durare"), other("pg published"));
        let _ = writeln!(text, "| {} | {} {} | {durare} | {published} |", row.title, number(ours), row.unit);
    }
    for (title, field, unit) in [
        ("of the server: processor time", "server_cpu_us_per_one", "us"),
        ("of the server: log", "wal_bytes_per_one", "B"),
    ] {
        for (name, what) in [("hello pg", "one activity"), ("steps5 pg", "five steps")] {
            let Some(ours) = figures.get(name, field) else { continue };
            let _ = writeln!(text, "| {what}, {title} | {} {unit} | | |", number(ours));
        }
    }
    if let (Some(rate), Some(p50)) = (figures.get("commits pg", "per_second"), figures.get("commits pg", "p50_ms")) {
        let _ =
            writeln!(text, "\nA bare commit of one row on PostgreSQL: {} /s, median {} ms.", number(rate), number(p50));
    }
    text
}

/// Returns the table of the workloads on a disk whose flushes take two milliseconds longer.
pub fn slow_disk(figures: &Figures) -> String {
    let mut text = "| workload | this disk | each flush 2 ms longer |\n| --- | --- | --- |\n".to_owned();
    for row in ROWS {
        let slow = figures.get(&format!("{} slow", row.name), row.field);
        let (Some(here), Some(slow), "/s" | "ms" | "steps/s") = (figures.get(row.name, row.field), slow, row.unit)
        else {
            continue;
        };
        let _ = writeln!(text, "| {} | {} {} | {} {} |", row.title, number(here), row.unit, number(slow), row.unit);
    }
    text
}

/// Returns the table of the targets, met or missed.
pub fn targets(figures: &Figures) -> String {
    let mut text = "| target | bound | measured | |\n| --- | --- | --- | --- |\n".to_owned();
    for target in targets::TARGETS {
        let Some(measured) = (target.measure)(figures) else { continue };
        let (bound, met) = match target.bound {
            Bound::AtLeast(bound) => (format!("at least {}", number(bound)), measured >= bound),
            Bound::AtMost(bound) => (format!("at most {}", number(bound)), measured <= bound),
        };
        let (unit, measured) = (target.unit, number(measured));
        let met = if met { "met" } else { "missed" };
        let _ = writeln!(text, "| {} | {bound} {unit} | {measured} {unit} | {met} |", target.title);
    }
    text
}

/// Formats a number with three significant digits and separators.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        value if value < 0.01 => 4,
        value if value < 0.1 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, r)| (w, format!(".{r}")));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

const BEGIN: &str = "<!-- figures: written by benches/compare --write -->";
const END: &str = "<!-- end of figures -->";

/// Writes the tables between the markers of a page.
pub fn write(page: &Path, tables: &str, rounds: usize) -> duroxide::Result<()> {
    let text = std::fs::read_to_string(page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    let machine = machine();
    std::fs::write(
        page,
        format!("{before}{BEGIN}\n\n{machine} Medians of {rounds} rounds.\n\n{tables}\n{END}{after}"),
    )?;
    Ok(())
}

fn missing(marker: &str) -> duroxide::Error {
    duroxide::Error::new(format!("the page has no {marker:?}"))
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split(": ").nth(1));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let model = field("model name").unwrap_or("processor");
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{processors} processors ({model}), Linux {}.", system.split('-').next().unwrap_or_default().trim())
}
