//! Instances as JSON.

use std::fmt;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::audit::Act;
use super::handle::Untyped;
use super::measure::counted;
use super::snapshot::Snapshot;
use super::start::{HEADERS, LABELS, check_texts};
use super::{Client, ClientError, Handle};
use crate::error::ErrorCode;
use crate::history::{Decision, EventKind, HistoryEvent, Input, Parent, SavedEvent, TextMap, Time, Waits};
use crate::id::{CallId, Epoch, EventId, ExecutionId, Identity, InstanceId, MAX_NAME_LEN, MessageId, check_text};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::{
    AttemptRecord, EarlierExecution, EventRow, FailedAttempt, Filter, InstanceRecord, InstanceRows, InstanceStatus,
    MessageRow, NewActivity, Page, PageToken, Ready, StoredActivity, StoredMessage, StoredPause, Submission, Turn,
    UnreadableRow,
};

/// One instance as JSON: its histories, its messages, its activities and its state.
///
/// The form is described on the page [Operations]; later versions of the library read it. It holds the values of the instance, unless they are
/// [redacted](Self::redacted): [`Debug`] does not show them.
///
/// [Operations]: https://github.com/duroxide/duroxide/blob/main/docs/operations.md#export-and-import
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceExport {
    duroxide_export: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    instance: InstanceId,
    identity: Identity,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    status: InstanceStatus,
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    labels: TextMap,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    created_at: Time,
    updated_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspension: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected_by: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<Paused>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits: Option<Waiting>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<Earlier>,
    execution: u64,
    history: Vec<SavedEvent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<QueuedMessage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    activities: Vec<OpenActivity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempt>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paused {
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    text: String,
    since: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier {
    number: u64,
    continued_at: Time,
    history: Vec<SavedEvent>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueuedMessage {
    id: MessageId,
    lane: Lane,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    execution: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    visible_at: Option<Time>,
    stored_at: Time,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_client: bool,
    format: u16,
    data: Box<RawValue>,
    payload: Box<RawValue>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenActivity {
    execution: u64,
    call: CallId,
    scheduled: EventId,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    detached: bool,
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    headers: TextMap,
    attempt: u32,
    /// Its next attempt begins no earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Time>,
    ready_since: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected_by: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    parked: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attempt {
    execution: u64,
    call: CallId,
    attempt: u32,
    node: Epoch,
    began: Time,
    ended: Time,
    next_at: Time,
    error: String,
}

/// The form that this version writes, and the only one that it reads.
const FORM: u32 = 1;
/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 256 << 20;
/// The most messages that an import may hold.
const MAX_MESSAGES: usize = 100_000;
/// The longest reason of a suspension, and the longest name of a build.
const MAX_REASON: usize = 64 << 10;
/// The longest text of waits: a kind and a name, or a number.
const MAX_WAITS: usize = 2 + MAX_NAME_LEN;

impl InstanceExport {
    /// Returns the id of the instance.
    pub fn id(&self) -> &InstanceId {
        &self.instance
    }

    /// Returns the history of its current, or last, execution: for [`check_history`](crate::testing::check_history).
    ///
    /// # Errors
    /// [`ClientError`]: an event cannot be read, or the values are redacted.
    pub fn history(&self) -> Result<Vec<HistoryEvent>, ClientError> {
        if self.redacted {
            return Err(self.refused(&"its values are redacted"));
        }
        let event = |saved: &SavedEvent| HistoryEvent::try_from(saved).map_err(|error| self.refused(&error));
        self.history.iter().map(event).collect()
    }

    /// Returns it without values: each value is replaced by its size, and each text of an error by `redacted`. Such an
    /// export shows what has happened, for example in a bug report; it can be neither imported nor replayed.
    ///
    /// Names, ids, labels, headers, reasons of cancels and places in the source are kept.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        self.redacted = true;
        let earlier = self.earlier.iter_mut().flat_map(|earlier| &mut earlier.history);
        for event in earlier.chain(&mut self.history) {
            event.payload = size_of(&event.payload);
        }
        for message in &mut self.messages {
            message.payload = size_of(&message.payload);
        }
        for attempt in &mut self.attempts {
            attempt.error = "redacted".to_owned();
        }
        for activity in &mut self.activities {
            redact(&mut activity.rejected);
            redact(&mut activity.cause);
        }
        redact(&mut self.suspension);
        redact(&mut self.cause);
        if let Some(pause) = &mut self.pause {
            pause.reason = "redacted".to_owned();
        }
        self
    }

    /// Returns the source of a test that replays the history against the code of the day. `file`: the path of this export,
    /// from the file of the test.
    ///
    /// The test needs the feature `testing`.
    pub fn test_source(&self, file: &str) -> String {
        let mut name: String =
            self.instance.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
        name.make_ascii_lowercase();
        format!(
            "#[test]\nfn history_of_{name}_is_replayed() {{\n    \
             let export = duroxide::client::InstanceExport::from_json(include_str!({file:?})).expect(\"an export\");\n    \
             let history = export.history().expect(\"a readable history\");\n    \
             duroxide::testing::check_history(&duroxide::Registry::discover(), &history).expect(\"the code fits\");\n}}\n"
        )
    }

    /// Returns it as JSON, in one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("an export holds only text, numbers and JSON: {e}"))
    }

    /// Reads an export. Its content is checked by [`Client::import`].
    ///
    /// # Errors
    /// [`ClientError`] with [`ErrorCode::ExportRefused`]: the text is no export, its form is that of a later version, or it
    /// is longer than 256 MiB.
    pub fn from_json(text: &str) -> Result<Self, ClientError> {
        let refused = |reason: String| ClientError::invalid(ErrorCode::ExportRefused, reason);
        if text.len() > MAX_TEXT {
            return Err(refused(format!("the export has {} bytes; the limit is {MAX_TEXT}", text.len())));
        }
        /// Later forms may have other fields.
        #[derive(Deserialize)]
        struct Form {
            duroxide_export: u32,
        }
        let unreadable = |error: serde_json::Error| refused(format!("the text is no export: {error}"));
        let Form { duroxide_export: form } = serde_json::from_str(text).map_err(unreadable)?;
        if form != FORM {
            return Err(refused(format!("the export has form {form}; this version reads form {FORM}")));
        }
        serde_json::from_str(text).map_err(unreadable)
    }

    fn refused(&self, reason: &dyn fmt::Display) -> ClientError {
        ClientError::refused(&self.instance, ErrorCode::ExportRefused, reason.to_string())
    }

    fn of(snapshot: &Snapshot) -> Result<Self, ClientError> {
        let Snapshot { record, rows, history } = snapshot;
        let id = &rows.execution.instance;
        let unreadable =
            |error: &dyn fmt::Display| ClientError::refused(id, ErrorCode::UnreadableEvent, error.to_string());
        let saved = |rows: &[EventRow]| rows.iter().map(saved_event).collect::<Result<Vec<_>, _>>();
        let earlier = |earlier: &EarlierExecution| {
            let EarlierExecution { number, continued_at, history } = earlier;
            Ok::<_, serde_json::Error>(Earlier {
                number: *number,
                continued_at: Time(*continued_at),
                history: saved(history)?,
            })
        };
        let earlier: Result<Vec<_>, _> = rows.earlier.iter().map(earlier).collect();
        let messages: Result<Vec<_>, _> = rows.messages.iter().map(queued_message).collect();
        Ok(Self {
            duroxide_export: FORM,
            redacted: false,
            instance: id.clone(),
            identity: rows.execution.identity,
            name: record.name.clone(),
            version: record.version.clone(),
            status: rows.status,
            labels: record.labels.clone(),
            parent: record.parent.clone(),
            created_at: Time(record.created_at),
            updated_at: Time(record.updated_at),
            finished_at: record.finished_at.map(Time),
            suspension: rows.suspension.clone(),
            rejected_by: rows.rejected_by.clone(),
            pause: rows.pause.clone().map(|StoredPause { reason, until }| Paused { reason, until: until.map(Time) }),
            waits: rows.waits.clone().map(|Waits { text, since, until }| Waiting {
                text,
                since: Time(since),
                until: until.map(Time),
            }),
            cause: rows.cause.clone(),
            earlier: earlier.map_err(|error| unreadable(&error))?,
            execution: rows.execution.number,
            history: saved(history).map_err(|error| unreadable(&error))?,
            messages: messages.map_err(|error| unreadable(&error))?,
            activities: rows.activities.iter().map(open_activity).collect(),
            attempts: rows.attempts.iter().map(attempt).collect(),
        })
    }

    /// Checks everything that a foreign export could hold, and returns the instance.
    fn checked(&self, client: &Client) -> Result<Snapshot, ClientError> {
        if self.redacted {
            return Err(self.refused(&"its values are redacted"));
        }
        let snapshot = self.snapshot().map_err(|error| self.refused(&error))?;
        self.check(client, &snapshot).map_err(|reason| self.refused(&reason))?;
        check_texts(&LABELS, &self.labels)?;
        self.activities.iter().try_for_each(|activity| check_texts(&HEADERS, &activity.headers))?;
        Ok(snapshot)
    }

    fn snapshot(&self) -> Result<Snapshot, UnreadableRow> {
        let execution =
            ExecutionId { instance: self.instance.clone(), identity: self.identity, number: self.execution };
        let rows_of = |saved: &[SavedEvent]| saved.iter().map(event_row).collect::<Vec<_>>();
        let earlier = |earlier: &Earlier| EarlierExecution {
            number: earlier.number,
            continued_at: earlier.continued_at.0,
            history: rows_of(&earlier.history),
        };
        let history = rows_of(&self.history);
        let last_event = history.last().map_or(EventId(0), |event| event.id);
        let messages: Result<Vec<_>, _> = self.messages.iter().map(stored_message).collect();
        let rows = InstanceRows {
            execution: execution.clone(),
            last_event,
            status: self.status,
            suspension: self.suspension.clone(),
            rejected_by: self.rejected_by.clone(),
            pause: self
                .pause
                .clone()
                .map(|Paused { reason, until }| StoredPause { reason, until: until.map(|time| time.0) }),
            waits: self.waits.clone().map(|Waiting { text, since, until }| Waits {
                text,
                since: since.0,
                until: until.map(|time| time.0),
            }),
            cause: self.cause.clone(),
            messages: messages?,
            activities: self.activities.iter().map(stored_activity).collect(),
            attempts: self.attempts.iter().map(attempt_record).collect(),
            earlier: self.earlier.iter().map(earlier).collect(),
        };
        let record = InstanceRecord {
            execution,
            name: self.name.clone(),
            version: self.version.clone(),
            status: self.status,
            labels: self.labels.clone(),
            parent: self.parent.clone(),
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            finished_at: self.finished_at.map(|time| time.0),
            last_event,
            outcome: None,
            suspension: self.suspension.clone(),
            owner: None,
            unclaimed: None,
            damaged: None,
            waits: None,
            cause: None,
        };
        Ok(Snapshot { record, rows, history })
    }

    fn check(&self, client: &Client, snapshot: &Snapshot) -> Result<(), String> {
        let Snapshot { rows, history, .. } = snapshot;
        check_text("orchestration name", &self.name, MAX_NAME_LEN).map_err(|error| error.to_string())?;
        if self.identity.is_unknown() || self.execution == 0 {
            return Err("it has no identity or no execution".to_owned());
        }
        let reasons =
            self.suspension.iter().chain(&self.rejected_by).chain(self.pause.iter().map(|pause| &pause.reason));
        let reasons = reasons.chain(self.activities.iter().flat_map(|a| a.rejected.iter().chain(&a.rejected_by)));
        check_lengths("a reason", reasons, MAX_REASON)?;
        let causes = self.cause.iter().chain(self.activities.iter().flat_map(|a| &a.cause));
        check_lengths("a cause", causes, Turn::MAX_CAUSE)?;
        check_lengths("the text of its waits", self.waits.iter().map(|waits| &waits.text), MAX_WAITS)?;
        let numbers: Vec<u64> = rows.earlier.iter().map(|earlier| earlier.number).chain([self.execution]).collect();
        if !numbers.is_sorted_by(|a, b| a < b) || numbers.first() == Some(&0) {
            return Err("its executions are not in order".to_owned());
        }
        let mut scheduled = Vec::new();
        for (number, history) in super::snapshot::executions(snapshot) {
            let events = check_history(client, number, history)?;
            let calls = events.into_iter().filter_map(|event| match event.kind {
                EventKind::Decision(Decision::ActivityScheduled(scheduled)) => {
                    Some((number, event.id, scheduled.call, scheduled.name))
                }
                _ => None,
            });
            scheduled.extend(calls);
        }
        self.check_state(history)?;
        if rows.messages.len() > MAX_MESSAGES {
            return Err(format!("it has {} messages; the limit is {MAX_MESSAGES}", rows.messages.len()));
        }
        for StoredMessage { row, .. } in &rows.messages {
            Message::try_from(row.clone()).map_err(|error| error.to_string())?;
            client.limits.check("a message", &row.payload)?;
        }
        for StoredActivity { execution, activity, attempt, .. } in &rows.activities {
            let known = (*execution, activity.scheduled, activity.call, activity.name.clone());
            if *attempt == 0 || !scheduled.contains(&known) {
                return Err(format!("activity {}#{} is not one of its history", execution, activity.call));
            }
        }
        match rows.attempts.iter().find(|attempt| attempt.failed.error.len() > FailedAttempt::MAX_ERROR) {
            Some(_) => Err("an error is too long".to_owned()),
            None => Ok(()),
        }
    }

    /// Checks that the status is that of the history.
    fn check_state(&self, history: &[EventRow]) -> Result<(), String> {
        let last = history.last().cloned().and_then(|row| HistoryEvent::try_from(row).ok()).map(|event| event.kind);
        let end = match last {
            Some(EventKind::Decision(decision)) if decision.is_terminal() => Some(decision),
            _ => None,
        };
        let fits = match (self.status, &end) {
            (InstanceStatus::Completed, Some(Decision::Completed))
            | (InstanceStatus::Failed, Some(Decision::Failed { .. }))
            | (InstanceStatus::Cancelled, Some(Decision::Cancelled { .. }))
            | (InstanceStatus::Terminated, Some(Decision::Terminated { .. })) => {
                self.finished_at.is_some() && self.messages.is_empty()
            }
            (InstanceStatus::Running | InstanceStatus::Suspended, None) => self.finished_at.is_none(),
            _ => false,
        };
        let starts = |message: &QueuedMessage| message.lane == Lane::Start;
        let begins = !history.is_empty() || self.messages.iter().any(starts);
        if !(fits && begins) {
            return Err(format!("its history is not that of an instance that is {}", self.status));
        }
        if self.pause.is_some() && self.status != InstanceStatus::Suspended {
            return Err(format!("only a suspended instance has a pause, and it is {}", self.status));
        }
        if self.waits.is_some() && end.is_some() {
            return Err("it has ended and waits".to_owned());
        }
        Ok(())
    }
}

/// Checks texts that every storage must be able to hold.
fn check_lengths<'a>(subject: &str, mut texts: impl Iterator<Item = &'a String>, limit: usize) -> Result<(), String> {
    match texts.find(|text| text.len() > limit || text.contains('\0')) {
        Some(text) if text.len() > limit => Err(format!("{subject} has {} bytes; the limit is {limit}", text.len())),
        Some(_) => Err(format!("{subject} holds the character zero")),
        None => Ok(()),
    }
}

/// Checks the history of one execution. Returns its events.
fn check_history(client: &Client, number: u64, history: &[EventRow]) -> Result<Vec<HistoryEvent>, String> {
    if history.len() as u64 > client.limits.history {
        return Err(format!("execution {number} has {} events; the limit is {}", history.len(), client.limits.history));
    }
    if !history.iter().map(|event| event.id.0).eq(1..=history.len() as u64) {
        return Err(format!("the events of execution {number} are not numbered from 1 without gaps"));
    }
    let mut events = Vec::with_capacity(history.len());
    for row in history {
        client.limits.check("an event", &row.payload)?;
        events.push(HistoryEvent::try_from(row.clone()).map_err(|error| error.to_string())?);
    }
    // One that was terminated before its first turn has no start.
    let first = events.first().map(|event| &event.kind);
    let begins = matches!(
        first,
        None | Some(EventKind::Input(Input::Started(_)) | EventKind::Decision(Decision::Terminated { .. }))
    );
    if begins { Ok(events) } else { Err(format!("execution {number} does not begin with its start")) }
}

impl fmt::Debug for InstanceExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceExport")
            .field("instance", &self.instance)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Replaces a text that may hold values, if there is one.
fn redact(text: &mut Option<String>) {
    *text = text.take().map(|_| "redacted".to_owned());
}

/// Returns the size of a value, as JSON.
fn size_of(payload: &RawValue) -> Box<RawValue> {
    let text = format!("\"redacted, {} bytes\"", payload.get().len());
    RawValue::from_string(text).unwrap_or_else(|e| unreachable!("a text is JSON: {e}"))
}

fn raw(payload: &Payload) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(payload.to_string())
}

fn payload(raw: &RawValue) -> Payload {
    Payload::from_json_bytes(raw.get().as_bytes().to_vec())
}

fn saved_event(row: &EventRow) -> Result<SavedEvent, serde_json::Error> {
    Ok(SavedEvent {
        id: row.id,
        time: Time(row.time),
        decision: row.decision,
        format: row.format,
        data: RawValue::from_string(row.data.clone())?,
        payload: raw(&row.payload)?,
        at: row.at.as_deref().map(Box::from),
    })
}

fn event_row(saved: &SavedEvent) -> EventRow {
    EventRow {
        id: saved.id,
        time: saved.time.0,
        decision: saved.decision,
        format: saved.format,
        data: saved.data.get().to_owned(),
        payload: payload(&saved.payload),
        at: saved.at.as_deref().map(std::sync::Arc::from),
    }
}

fn queued_message(stored: &StoredMessage) -> Result<QueuedMessage, serde_json::Error> {
    let StoredMessage { row, stored_at, by_client } = stored;
    Ok(QueuedMessage {
        id: row.id,
        lane: row.lane,
        execution: row.execution,
        visible_at: row.visible_at.map(Time),
        stored_at: Time(*stored_at),
        by_client: *by_client,
        format: row.format,
        data: RawValue::from_string(row.data.clone())?,
        payload: raw(&row.payload)?,
    })
}

fn stored_message(message: &QueuedMessage) -> Result<StoredMessage, UnreadableRow> {
    let mut row = MessageRow {
        id: message.id,
        lane: message.lane,
        execution: message.execution,
        call: None,
        visible_at: message.visible_at.map(|time| time.0),
        number: None,
        format: message.format,
        data: message.data.get().to_owned(),
        payload: payload(&message.payload),
    };
    row.call = Message::try_from(row.clone())?.input.call();
    Ok(StoredMessage { row, stored_at: message.stored_at.0, by_client: message.by_client })
}

fn open_activity(stored: &StoredActivity) -> OpenActivity {
    let StoredActivity { execution, activity, attempt, ready, rejected, cause, rejected_by, parked } = stored;
    let (not_before, ready_since) = match *ready {
        Ready::At(time) => (Some(Time(time)), Time(time)),
        Ready::AtOnce(since) => (None, Time(since)),
    };
    OpenActivity {
        execution: *execution,
        call: activity.call,
        scheduled: activity.scheduled,
        name: activity.name.clone(),
        tag: activity.tag.clone(),
        detached: activity.detached,
        headers: activity.headers.clone(),
        attempt: *attempt,
        not_before,
        ready_since,
        rejected: rejected.clone(),
        cause: cause.clone(),
        rejected_by: rejected_by.clone(),
        parked: *parked,
    }
}

fn stored_activity(open: &OpenActivity) -> StoredActivity {
    StoredActivity {
        execution: open.execution,
        activity: NewActivity {
            call: open.call,
            scheduled: open.scheduled,
            name: open.name.clone(),
            tag: open.tag.clone(),
            detached: open.detached,
            eager: false,
            headers: open.headers.clone(),
        },
        attempt: open.attempt,
        ready: open.not_before.map_or(Ready::AtOnce(open.ready_since.0), |time| Ready::At(time.0)),
        rejected: open.rejected.clone(),
        cause: open.cause.clone(),
        rejected_by: open.rejected_by.clone(),
        parked: open.parked,
    }
}

fn attempt(record: &AttemptRecord) -> Attempt {
    let AttemptRecord { execution, call, attempt, node, next_at, failed } = record;
    Attempt {
        execution: *execution,
        call: *call,
        attempt: *attempt,
        node: *node,
        began: Time(failed.began),
        ended: Time(failed.ended),
        next_at: Time(*next_at),
        error: failed.error.clone(),
    }
}

fn attempt_record(attempt: &Attempt) -> AttemptRecord {
    AttemptRecord {
        execution: attempt.execution,
        call: attempt.call,
        attempt: attempt.attempt,
        node: attempt.node,
        next_at: attempt.next_at.0,
        failed: FailedAttempt { began: attempt.began.0, ended: attempt.ended.0, error: attempt.error.clone() },
    }
}

/// The exports of the instances that match a filter, newest first. See [`Client::exports`].
#[derive(Debug)]
pub struct Exports {
    client: Client,
    filter: Filter,
    /// The ids of the page that are left, last first.
    page: Vec<InstanceId>,
    after: Option<PageToken>,
    is_last: bool,
}

impl Exports {
    /// Returns the next export; `None` after the last one. An instance that was deleted in the meantime is left out.
    ///
    /// # Errors
    /// As [`Client::export`]. The next call continues behind that instance.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call returns the same export or the one after it.
    pub async fn next(&mut self) -> Option<Result<InstanceExport, ClientError>> {
        loop {
            if let Some(id) = self.page.pop() {
                match self.client.snapshot(&id).await {
                    Ok(Some(snapshot)) => return Some(InstanceExport::of(&snapshot)),
                    Ok(None) => continue,
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.is_last {
                return None;
            }
            match self.client.list(&self.filter, Page::new(100).after(self.after.clone())).await {
                Ok(list) => {
                    self.page = list.instances.into_iter().rev().map(|status| status.execution.instance).collect();
                    self.is_last = list.next.is_none();
                    self.after = list.next;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Client {
    /// Reads an instance with all its histories and its state, to be kept, sent or [imported](Self::import) elsewhere.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// async fn save(client: &Client) -> duroxide::Result<()> {
    ///     let export = client.export("order-17").await?;
    ///     std::fs::write("order-17.json", export.to_json())?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: there is no such instance, an event cannot be read, or the storage fails or has no
    /// [`Admin`](crate::provider::Admin).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn export(&self, id: impl AsRef<str>) -> Result<InstanceExport, ClientError> {
        let id = InstanceId::try_from(id.as_ref().to_owned())?;
        let snapshot = self.snapshot(&id).await?.ok_or_else(|| ClientError::not_found(&id))?;
        InstanceExport::of(&snapshot)
    }

    /// Exports all instances that match a filter, one after another.
    ///
    /// ```
    /// # use duroxide::prelude::*;
    /// # use duroxide::Filter;
    /// async fn print_all(client: &Client) -> duroxide::Result<()> {
    ///     let mut exports = client.exports(Filter::default());
    ///     while let Some(export) = exports.next().await {
    ///         println!("{}", export?.to_json());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn exports(&self, filter: Filter) -> Exports {
        Exports { client: self.clone(), filter, page: Vec::new(), after: None, is_last: false }
    }

    /// Creates an instance from an export, under its id and its identity: so the idempotency keys of its activities stay the
    /// same. It continues where it was; children and parents are those with the ids in its history.
    ///
    /// The export may come from a stranger: values, names and numbers beyond the limits of this client, and rows that do not
    /// belong together, are refused. The code decides whether its history is one: it is replayed before it continues.
    ///
    /// # Errors
    /// [`ClientError`]: the id is taken, the export is refused ([`ExportRefused`](ErrorCode::ExportRefused)), the storage
    /// fails or has no [`Admin`](crate::provider::Admin), or the runtime has stopped.
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the instance may or may not have been created.
    pub async fn import(&self, export: &InstanceExport) -> Result<Handle<Untyped>, ClientError> {
        let id = export.id().clone();
        self.check_running(Some(&id))?;
        self.admin()?;
        let snapshot = export.checked(self)?;
        let submission = self.audited(Act::named("import"), Submission::Graft(Box::new(snapshot.graft())));
        counted("import", self.submit(&id, submission).await)?;
        tracing::info!(instance = %id, "instance imported");
        Ok(Handle::of(self, id))
    }
}
