//! What came out of the runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

/// The reports of each run, by its name.
#[derive(Default)]
pub struct Figures(BTreeMap<String, Vec<Map<String, Value>>>);

impl Figures {
    /// Runs a program and keeps the object of its last line.
    pub fn add(&mut self, name: &str, program: &Path, arguments: &str) -> duroxide::Result<()> {
        let mut command = Command::new(program);
        command.args(arguments.split(' ')).arg("--json").stderr(Stdio::null());
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|_| {
            let died = format!("{} ended with {} and no figures", program.display(), output.status);
            Map::from_iter([("error".to_owned(), died.into())])
        });
        if let Some(error) = report.get("error") {
            eprintln!("  {error}");
        }
        self.insert(name, report);
        Ok(())
    }

    /// Keeps a report.
    pub fn insert(&mut self, name: &str, report: Map<String, Value>) {
        self.0.entry(name.to_owned()).or_default().push(report);
    }

    /// The median of a figure over all rounds; `None` where a run has none.
    pub fn get(&self, name: &str, field: &str) -> Option<f64> {
        let reports = self.0.get(name)?.iter().filter(|report| !report.contains_key("error"));
        let mut values: Vec<f64> = reports.filter_map(|report| report.get(field)?.as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Why a run has no figures.
    pub fn error(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.iter().find_map(|report| report.get("error")?.as_str())
    }
}
