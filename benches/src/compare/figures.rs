//! The figures of the runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::run::OTHERS;

/// The figures of one run.
pub type Report = Map<String, Value>;

/// The reports of each run, by its name.
#[derive(Default)]
pub struct Figures(BTreeMap<String, Vec<Report>>);

impl Figures {
    /// Adds a report.
    pub fn insert(&mut self, name: &str, report: Report) {
        self.0.entry(name.to_owned()).or_default().push(report);
    }

    /// Returns the median of a figure over all rounds; `None` if a run has none.
    pub fn get(&self, name: &str, field: &str) -> Option<f64> {
        let reports = self.0.get(name)?.iter().filter(|report| !report.contains_key("error"));
        let mut values: Vec<f64> = reports.filter_map(|report| report.get(field)?.as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Returns the reason why a run has no figures.
    pub fn error(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.iter().find_map(|report| report.get("error")?.as_str())
    }

    /// Returns the number of runs, and of those in which other programs took more than this share of the processors.
    pub fn disturbed(&self, share: f64) -> (usize, usize) {
        let others = |report: &&Report| report.get(OTHERS).and_then(Value::as_f64).is_some_and(|others| others > share);
        let all = || self.0.values().flatten();
        (all().count(), all().filter(others).count())
    }
}
