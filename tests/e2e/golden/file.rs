//! The file of a recorded history: its rows as a provider stores them, in JSON.

use std::path::{Path, PathBuf};

use duroxide::history::HistoryEvent;
use duroxide::id::EventId;
use duroxide::provider::EventRow;
use duroxide::{Payload, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("histories")
}

/// The recorded history of one execution.
#[derive(Serialize, Deserialize)]
pub(super) struct History {
    #[serde(skip)]
    pub(super) name: String,
    /// The version of the library that recorded it.
    recorded_by: String,
    events: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: u64,
    time: i64,
    decision: bool,
    format: u16,
    data: Box<RawValue>,
    payload: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

impl History {
    pub(super) fn of(name: &str, events: &[HistoryEvent]) -> Self {
        let raw = |text: String| RawValue::from_string(text).unwrap();
        let row = |event: &HistoryEvent| {
            let EventRow { id, time, decision, format, data, payload, at } = EventRow::from(event);
            let payload = String::from_utf8(payload.as_bytes().to_vec()).unwrap();
            let at = at.map(|at| at.to_string());
            Row { id: id.0, time: time.as_micros(), decision, format, data: raw(data), payload: raw(payload), at }
        };
        let events = events.iter().map(row).collect();
        Self { name: name.to_owned(), recorded_by: env!("CARGO_PKG_VERSION").to_owned(), events }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = EventRow> {
        self.events.iter().map(|row| EventRow {
            id: EventId(row.id),
            time: Timestamp::from_micros(row.time),
            decision: row.decision,
            format: row.format,
            data: row.data.get().to_owned(),
            payload: Payload::from_json_bytes(row.payload.get().as_bytes().to_vec()),
            at: row.at.as_deref().map(Into::into),
        })
    }

    pub(super) fn events(&self) -> Vec<HistoryEvent> {
        self.rows().map(|row| row.try_into().unwrap_or_else(|e| panic!("{}: {e}", self.name))).collect()
    }

    /// Writes the file, unless it exists already.
    pub(super) fn save(&self) {
        let path = folder().join(format!("{}.json", self.name));
        if !path.exists() {
            let mut text = format!("{{\"recorded_by\":\"{}\",\"events\":[\n", self.recorded_by);
            let rows: Vec<_> = self.events.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
            text.push_str(&rows.join(",\n"));
            text.push_str("\n]}\n");
            std::fs::write(path, text).unwrap();
        }
    }
}

/// Returns all recorded histories, sorted by name.
pub(super) fn recorded() -> Vec<History> {
    let mut histories: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            History { name, ..serde_json::from_str(&text).unwrap() }
        })
        .collect();
    histories.sort_by(|a, b| a.name.cmp(&b.name));
    histories
}
