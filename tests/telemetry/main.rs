//! The pages, the dashboard and the alert rules about metrics agree with the table in the library, and the metrics have
//! the right values.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod spans;
mod values;

use std::collections::BTreeSet;
use std::path::Path;

use duroxide::telemetry::{METRICS, Metric, MetricKind, REQUEST_OPERATIONS, fields, names};
use yaml_rust2::{Yaml, YamlLoader};

fn doc(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    std::fs::read_to_string(root.join("docs").join(name)).expect("a page")
}

/// Returns the row of a metric in the specification.
fn row(metric: &Metric) -> String {
    let Metric { name, kind, unit, labels, help, .. } = metric;
    let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{name}` | {} | {} | {} | {help} |", kind.as_str(), unit.as_str(), labels.join(", "))
}

#[test]
fn specification_lists_the_metrics_of_the_library() {
    let page = doc("metrics-specification.md");
    let listed: Vec<_> = page.lines().filter(|line| line.starts_with("| `duroxide_")).collect();
    let expected: Vec<_> = METRICS.iter().map(row).collect();
    assert_eq!(listed, expected);
}

#[test]
fn specification_lists_the_requests_of_the_library() {
    let requests = METRICS.iter().find(|metric| metric.name == names::REQUESTS).expect("a metric");
    let listed = requests.help.split_once(": ").and_then(|(_, rest)| rest.split_once('.')).expect("a list").0;
    assert_eq!(listed.split(", ").collect::<Vec<_>>(), REQUEST_OPERATIONS);
}

#[test]
fn fields_of_spans_are_specified() {
    let page = doc("duroxide-telemetry-spec.md");
    let specified: BTreeSet<_> = page
        .lines()
        .filter(|line| line.starts_with("| `duroxide."))
        .flat_map(|line| line.rsplit(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2))
        .collect();
    let fields = [
        fields::INSTANCE,
        fields::EXECUTION,
        fields::ORCHESTRATION,
        fields::VERSION,
        fields::ACTIVITY,
        fields::CALL,
        fields::ATTEMPT,
        fields::NODE,
        fields::COMMITS,
    ];
    assert_eq!(specified, BTreeSet::from(fields));
}

#[test]
fn metrics_follow_the_naming_rules() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "each name once");
    for Metric { name, kind, unit, labels, buckets, .. } in METRICS {
        assert!(name.starts_with("duroxide_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        assert_eq!(name.ends_with("_seconds"), unit.as_str() == "seconds", "{name}");
        assert_eq!(buckets.is_empty(), *kind != MetricKind::Histogram, "{name}");
        assert!(buckets.is_sorted(), "{name}");
        for label in *labels {
            let bounded =
                ["name", "version", "outcome", "category", "code", "operation", "retryable", "state", "tag", "node"];
            assert!(bounded.contains(label), "{name} has the label {label}: is it bounded?");
        }
    }
}

/// Returns the problems of a PromQL expression: metrics that do not exist, and labels that a metric does not have.
fn problems(expression: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known_labels = BTreeSet::from(["le"]);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_word(c)).filter(|word| word.starts_with("duroxide_"));
    for word in words {
        let is_named = |metric: &&Metric| {
            let series = ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name));
            match metric.kind {
                MetricKind::Histogram => series.iter().any(|series| series == word),
                _ => metric.name == word,
            }
        };
        match METRICS.iter().find(is_named) {
            Some(metric) => known_labels.extend(metric.labels),
            None => problems.push(format!("there is no metric {word}")),
        }
    }
    for by in expression.split("by (").skip(1) {
        let labels = by.split(')').next().unwrap_or_default().split(',').map(str::trim);
        problems.extend(labels.filter(|label| !known_labels.contains(label)).map(|label| format!("no label {label}")));
    }
    let depth = expression.chars().fold(0, |depth, c| depth + i32::from(c == '(') - i32::from(c == ')'));
    if depth != 0 {
        problems.push("the parentheses do not match".to_owned());
    }
    problems
}

#[test]
fn dashboard_shows_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&doc("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions: Vec<_> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("an expression"))
        .collect();
    for expression in &expressions {
        assert!(problems(expression).is_empty(), "{expression}: {:?}", problems(expression));
    }
    // Most metrics are on the dashboard; the rest are details for the run book.
    let shown = METRICS.iter().filter(|metric| expressions.iter().any(|expression| expression.contains(metric.name)));
    assert!(shown.count() * 10 >= METRICS.len() * 8);
}

#[test]
fn each_alert_has_its_paragraph_in_the_run_book() {
    let rules = YamlLoader::load_from_str(&doc("alerts.yml")).expect("YAML");
    let rules = rules[0]["groups"][0]["rules"].as_vec().expect("rules");
    let run_book = doc("operations.md");
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let text = |yaml: &Yaml| yaml.as_str().expect("a text").to_owned();
        let (alert, expression) = (text(&rule["alert"]), text(&rule["expr"]));
        assert!(problems(&expression).is_empty(), "{alert}: {:?}", problems(&expression));
        let time = text(&rule["for"]);
        assert!(time.strip_suffix('m').is_some_and(|minutes| minutes.parse::<u32>().is_ok()), "{alert}: {time}");
        assert!(["page", "ticket"].contains(&&*text(&rule["labels"]["severity"])), "{alert}");
        assert!(!text(&rule["annotations"]["summary"]).is_empty(), "{alert}");
        let anchor = format!("docs/operations.md#{}", alert.to_lowercase());
        assert_eq!(text(&rule["annotations"]["runbook"]), anchor);
        assert!(run_book.contains(&format!("\n### {alert}\n")), "{alert} has no paragraph");
        alerts.insert(alert);
    }
    let paragraphs = run_book.lines().filter_map(|line| line.strip_prefix("### Duroxide"));
    assert_eq!(paragraphs.count(), alerts.len(), "a paragraph without an alert");
}

#[test]
fn wrong_expressions_are_found() {
    assert_eq!(problems("rate(duroxide_starts[5m])"), ["there is no metric duroxide_starts"]);
    assert_eq!(problems("duroxide_turn_duration_seconds"), ["there is no metric duroxide_turn_duration_seconds"]);
    assert_eq!(problems("sum by (instance) (duroxide_nodes)"), ["no label instance"]);
    assert_eq!(problems("sum(duroxide_nodes"), ["the parentheses do not match"]);
}
