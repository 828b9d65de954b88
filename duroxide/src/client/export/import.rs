//! Imports: from the form, which a stranger may have written, to the rows of an instance.

use serde_json::value::RawValue;

use super::form::{Attempt, Earlier, InstanceExport, OpenActivity, Paused, QueuedMessage, Waiting};
use crate::client::audit::Act;
use crate::client::measure::counted;
use crate::client::snapshot::{Snapshot, executions};
use crate::client::start::{HEADERS, LABELS, check_texts};
use crate::client::{Client, ClientError, Handle, Untyped};
use crate::history::{Decision, EventKind, HistoryEvent, Input, SavedEvent, Waits};
use crate::id::{EventId, ExecutionId, MAX_NAME_LEN, check_text};
use crate::message::{Lane, Message};
use crate::payload::Payload;
use crate::provider::{
    AttemptRecord, EarlierExecution, EventRow, FailedAttempt, InstanceRecord, InstanceRows, InstanceState,
    InstanceStatus, MessageRow, NewActivity, Ready, StoredActivity, StoredMessage, StoredPause, Submission, Turn,
    UnreadableRow,
};
use crate::telemetry::RequestOperation;

/// The most messages that an import may hold.
const MAX_MESSAGES: usize = 100_000;
/// The longest reason of a suspension, and the longest name of a build.
const MAX_REASON: usize = 64 << 10;
/// The longest text of waits: a kind and a name, or a number.
const MAX_WAITS: usize = 2 + MAX_NAME_LEN;

impl Client {
    /// Creates an instance from an export, under its id and its identity: so the idempotency keys of its activities stay the
    /// same. It continues where it was; children and parents are those with the ids in its history.
    ///
    /// The export may come from a stranger: values, names and numbers beyond the limits of this client, and rows that do not
    /// belong together, are refused. The code decides whether its history is one: it is replayed before it continues.
    ///
    /// # Errors
    /// [`ClientError`]: the id is taken, the export is refused ([`ExportRefused`](crate::ErrorCode::ExportRefused)), the storage
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
        counted(RequestOperation::Import, self.submit(&id, submission).await)?;
        tracing::info!(instance = %id, "instance imported");
        Ok(Handle::of(self, id))
    }
}

impl InstanceExport {
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

    pub(super) fn snapshot(&self) -> Result<Snapshot, UnreadableRow> {
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
            state: InstanceState {
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
                attempts: self.attempts.iter().map(attempt_record).collect(),
                earlier: self.earlier.iter().map(earlier).collect(),
            },
            messages: messages?,
            activities: self.activities.iter().map(stored_activity).collect(),
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
        for activity in &self.activities {
            let tag = activity.tag.iter().map(|tag| ("tag", tag));
            for (subject, text) in tag.chain([("activity name", &activity.name)]) {
                check_text(subject, text, MAX_NAME_LEN).map_err(|error| error.to_string())?;
            }
        }
        if self.identity.is_unknown() || self.execution == 0 {
            return Err("it has no identity or no execution".to_owned());
        }
        let reasons =
            self.suspension.iter().chain(&self.rejected_by).chain(self.pause.iter().map(|pause| &pause.reason));
        let reasons = reasons.chain(self.activities.iter().flat_map(|a| a.rejected.iter().chain(&a.rejected_by)));
        check_lengths("a reason", reasons, MAX_REASON)?;
        let causes = self.cause.iter().chain(self.activities.iter().flat_map(|a| a.cause.iter().chain(&a.other_cause)));
        check_lengths("a cause", causes, Turn::MAX_CAUSE)?;
        check_lengths("the text of its waits", self.waits.iter().map(|waits| &waits.text), MAX_WAITS)?;
        let numbers: Vec<u64> =
            rows.state.earlier.iter().map(|earlier| earlier.number).chain([self.execution]).collect();
        if !numbers.is_sorted_by(|a, b| a < b) || numbers.first() == Some(&0) {
            return Err("its executions are not in order".to_owned());
        }
        let mut scheduled = Vec::new();
        for (number, history) in executions(snapshot) {
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
        match rows.state.attempts.iter().find(|attempt| attempt.failed.error.len() > FailedAttempt::MAX_ERROR) {
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

fn payload(raw: &RawValue) -> Payload {
    Payload::from_json_bytes(raw.get().as_bytes().to_vec())
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
        other_cause: open.other_cause.clone(),
        rejected_by: open.rejected_by.clone(),
        parked: open.parked,
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
