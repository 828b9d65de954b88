//! The tables of docs/scaling.md.

use std::fmt::Write;

use super::{Outcome, Setup, costs, run};

const BEGIN: &str = "<!-- model: written by `cargo run -p duroxide-bench --bin scaling -- --write` -->";
const END: &str = "<!-- end of model -->";

/// Instances of the whole run.
const ALL: f64 = 1e8;

/// Nodes of 8 and servers of 16 processors in one zone.
const TYPICAL: Setup = Setup {
    nodes: 100,
    servers: 1,
    node_cores: 8,
    server_cores: 16,
    flush: 1_000_000,
    round_trip: 500_000,
    steps: 5,
    in_flight: 50,
};

fn setups() -> [Setup; 8] {
    let typical = TYPICAL;
    [
        Setup { nodes: 2, in_flight: 500, ..typical },
        Setup { nodes: 10, in_flight: 500, ..typical },
        typical.clone(),
        Setup { in_flight: 200, ..typical },
        Setup { in_flight: 200, flush: 4_000_000, round_trip: 1_500_000, ..typical },
        Setup { in_flight: 200, server_cores: 64, ..typical },
        Setup { in_flight: 200, servers: 4, ..typical },
        Setup { in_flight: 1000, servers: 16, ..typical },
    ]
}

/// Returns the part that is used most; if none is used up, the transactions of the nodes, if they have no pause.
fn limit(outcome: &Outcome) -> &'static str {
    let parts = [
        (outcome.server_cpu, "processors of the server"),
        (outcome.log / costs::LOG_BANDWIDTH as f64, "log of the server"),
        (outcome.node_cpu, "processors of the nodes"),
    ];
    let highest = parts.into_iter().max_by(|(one, _), (other, _)| one.total_cmp(other));
    let others = if outcome.connections > 0.9 { "one transaction at a time" } else { "instances under way" };
    highest.filter(|(share, _)| *share > 0.75).map_or(others, |(_, name)| name)
}

/// Rounds to two significant digits, with separators.
fn round(number: f64) -> String {
    let digits = 10f64.powf(number.abs().max(1.0).log10().floor() - 1.0).max(1.0);
    let text = format!("{:.0}", (number / digits).round() * digits);
    let mut grouped = String::new();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && (text.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.0} ms", nanoseconds as f64 / 1e6)
}

fn time(seconds: f64) -> String {
    if seconds < 5400.0 { format!("{:.0} min", seconds / 60.0) } else { format!("{:.1} h", seconds / 3600.0) }
}

fn row(setup: &Setup) -> String {
    let outcome = run(setup);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    [
        setup.nodes.to_string(),
        format!("{} of {}", setup.servers, setup.server_cores),
        format!("{:.1} / {:.1} ms", setup.round_trip as f64 / 1e6, setup.flush as f64 / 1e6),
        setup.in_flight.to_string(),
        round(outcome.instances),
        round(outcome.instances * f64::from(setup.steps)),
        format!("{} / {}", milliseconds(outcome.latency.0), milliseconds(outcome.latency.1)),
        format!("{:.0}", outcome.batch),
        percent(outcome.server_cpu),
        format!("{} MB/s", round(outcome.log / 1e6)),
        percent(outcome.node_cpu),
        time(ALL / outcome.instances),
        limit(&outcome).to_owned(),
    ]
    .join(" | ")
}

/// Returns the figures that follow from the costs alone: each with its arithmetic.
fn arithmetic() -> [(&'static str, String, String); 6] {
    let instance = 2 * costs::LOG_END + 4 * costs::LOG_STEP;
    let take_over = costs::TAKE_OVER as f64 * 1e6 / 1e9;
    let turn = costs::SERVER_STEP as f64 / 1e9;
    let rate = |seconds: f64| ALL / seconds;
    [
        ("renewals of 100 nodes", "100 x 3 in 15 s".to_owned(), "20 /s".to_owned()),
        (
            "written to the log by 100,000,000 instances of five activities",
            format!("10^8 x {instance} B"),
            format!("{} GB", round(ALL * instance as f64 / 1e9)),
        ),
        (
            "taking over one node of 100, which owns 1,000,000 instances",
            "10^6 x 39 us".to_owned(),
            format!("{take_over:.0} s of one processor of the server"),
        ),
        (
            "100,000,000 timers, evenly over a day",
            "10^8 / 86,400 s".to_owned(),
            format!("{} /s, {:.0} % of one processor", round(rate(86_400.0)), rate(86_400.0) * turn * 100.0),
        ),
        (
            "100,000,000 timers, evenly over an hour",
            "10^8 / 3,600 s".to_owned(),
            format!("{} /s, {:.1} processors", round(rate(3600.0)), rate(3600.0) * turn),
        ),
        (
            "live copies of 100 nodes in memory, by default",
            "100 x 4,096".to_owned(),
            format!("{} of 100,000,000; the others are replayed when a message comes", round(409_600.0)),
        ),
    ]
}

/// Returns the tables.
pub fn tables() -> String {
    let heads = [
        "nodes",
        "servers",
        "round trip / flush",
        "under way per node",
        "instances/s",
        "steps/s",
        "commit p50 / p99",
        "per transaction",
        "server CPU",
        "log per server",
        "node CPU",
        "10^8 instances",
        "limit",
    ];
    let mut text = format!("| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(heads.len()));
    for setup in setups() {
        // A String does not fail.
        let _ = writeln!(text, "| {} |", row(&setup));
    }
    text += "\n| derived | from | result |\n| --- | --- | --- |\n";
    for (subject, from, result) in arithmetic() {
        let _ = writeln!(text, "| {subject} | {from} | {result} |");
    }
    text
}

/// Returns a page with the tables between its markers, or `None` if it has no markers.
pub fn page(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn page_has_the_tables_of_the_model() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.md")).unwrap();
        let expected = super::page(&text, &super::tables()).expect("the page has the markers");
        assert!(text == expected, "run `cargo run -p duroxide-bench --bin scaling -- --write`");
    }
}
