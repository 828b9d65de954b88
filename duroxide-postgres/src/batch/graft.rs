//! Executions that begin with a given history.

use std::collections::HashSet;

use duroxide::id::{ActivityId, CallId, ExecutionId};
use duroxide::provider::{
    CopiedInstance, Graft, GraftTarget, InstanceStatus, NextExecution, StoredActivity, StoredMessage, Submission,
    SubmitError, Submitted,
};

use super::effects::AttemptRow;
use super::model::{Activity, CrashRecord, DedupEntry, Model, Origin};
use super::{Entry, Request, redact};
use crate::connect::{Connection, step};
use crate::events;
use crate::fault::Fault;
use crate::rows::{identity, natural, status};

/// Makes a finished instance live again, as a suspended one that [`Model::graft`] continues in the same transaction. Returns
/// true if it was finished and is the one that the graft expects.
pub(super) async fn revive(connection: &Connection, entries: &[Entry]) -> Result<bool, Fault> {
    let [Entry { request: Request::Submit(submission), .. }] = entries else { return Ok(false) };
    let Submission::Graft(graft) = submission.unaudited() else { return Ok(false) };
    let GraftTarget::Next(NextExecution { execution, last_event, consumed, .. }) = &graft.target else {
        return Ok(false);
    };
    let lock = "SELECT seq, identity, status, execution, last_event FROM instances WHERE id = $1 FOR UPDATE";
    let recorded = "SELECT 1 FROM dedup WHERE id = $1";
    let steps = [step!(lock, execution.instance.as_str()), step!(recorded, graft.id.0)];
    let mut answers = connection.run(&steps).await?.into_iter();
    let (found, recorded) = (answers.next().unwrap_or_default(), answers.next().unwrap_or_default());
    let Some(row) = found.first().filter(|_| recorded.is_empty() && consumed.is_empty()) else { return Ok(false) };
    let is_expected = identity(row, "identity")? == execution.identity
        && natural(row, "execution")? == execution.number
        && natural(row, "last_event")? == last_event.0;
    if !is_expected || !status(row, "status")?.is_finished() {
        return Ok(false);
    }
    let seq: i64 = row.try_get("seq")?;
    // Its values were read before they were erased.
    if redact::is_erased(connection, seq, execution.number).await? {
        return Ok(false);
    }
    let revive = "INSERT INTO live (seq, id, identity, name, version, execution, last_event, owner, claim, arrivals, stored,
            crashes, alone, suspect, lost_by, suspended, rejected, updated_at, last_commit)
        SELECT seq, id, identity, name, version, execution, last_event, NULL, 0, 0, 0, 0, false, false, NULL, true, NULL,
            updated_at, last_commit
        FROM instances WHERE seq = $1";
    // Its messages are numbered from 1 again.
    let forget_mail = "DELETE FROM mail WHERE instance = $1";
    connection.run(&[step!(revive, seq), step!(forget_mail, seq)]).await?;
    Ok(true)
}

impl Model {
    pub(super) fn graft(&mut self, graft: &Graft) -> Result<Submitted, SubmitError> {
        self.saw(graft.time);
        let this = graft.instance();
        if self.dedup.contains_key(&graft.id.0) {
            return Ok(self.unnumbered(this, true));
        }
        match &graft.target {
            GraftTarget::Next(next) => self.begin_next(next, graft)?,
            GraftTarget::New(copied) => self.add_copy(copied)?,
        }
        let execution = graft.execution();
        let Some(instance) = self.instances.get_mut(this) else { return Err(SubmitError::NotFound) };
        let seq = instance.seq;
        instance.last_commit = Some(graft.id);
        instance.version = graft.version.as_ref().map(ToString::to_string);
        instance.execution = execution.number;
        instance.last_event = graft.last_event();
        let rows = events::pack(&graft.history).into_iter().map(|row| (seq, execution.number, row));
        self.effects.events.extend(rows);
        for activity in &graft.activities {
            self.add_activity(seq, graft, activity);
        }
        for StoredMessage { row, stored_at, by_client } in &graft.messages {
            self.deliver(this, row.clone(), *stored_at, *by_client);
        }
        for child in &graft.starts {
            self.start_child(this, child, None, graft.time);
        }
        for out in &graft.outgoing {
            self.send_out(out, None, graft.time);
        }
        self.record_as(graft.id.0, DedupEntry::Done);
        self.requeue(this);
        self.signals.changed(this);
        self.signals.work = true;
        Ok(self.unnumbered(this, true))
    }

    fn begin_next(&mut self, next: &NextExecution, graft: &Graft) -> Result<(), SubmitError> {
        let execution = &next.execution;
        let this = &execution.instance;
        let instance = self.instances.get(this).ok_or(SubmitError::NotFound)?;
        let current = instance.current(this) == *execution && instance.last_event == next.last_event;
        let consumed = next.consumed.iter().all(|message| instance.messages.contains_key(message));
        // A finished instance that is the expected one was revived.
        if !current || !consumed || instance.origin == Origin::Finished {
            return Err(SubmitError::Conflict);
        }
        let seq = instance.seq;
        for message in &next.consumed {
            self.remove_message(this, *message);
        }
        for call in &next.cancelled_activities {
            self.remove_activity(&ActivityId { execution: execution.clone(), call: *call }, None);
        }
        self.sweep(execution, None);
        self.remove_messages(this, |known| known.execution == Some(execution.number));
        self.effects.ended.push((seq, execution.number));
        self.effects.continued.push((seq, execution.number, graft.time));
        self.forget_rejections(seq, 0, CallId(0));
        self.effects.pauses.insert(seq, None);
        if let Some(instance) = self.instances.get_mut(this) {
            instance.status = InstanceStatus::Running;
            (instance.suspension, instance.cause, instance.waits) = (None, None, None);
            instance.rejected_by.clear();
            instance.crashes = CrashRecord::default();
            instance.owner = None;
            instance.updated_at = graft.time;
            instance.finished_at = None;
        }
        Ok(())
    }

    fn add_copy(&mut self, copied: &CopiedInstance) -> Result<(), SubmitError> {
        let this = &copied.new.instance;
        if self.exists(this) {
            let status = self.instances.get(this).map_or(InstanceStatus::Running, |instance| instance.status);
            return Err(SubmitError::Exists(status));
        }
        self.add_instance(&copied.new, None, copied.created_at);
        let Some(instance) = self.instances.get_mut(this) else { return Ok(()) };
        let seq = instance.seq;
        instance.status = copied.state.status;
        instance.suspension.clone_from(&copied.state.suspension);
        instance.rejected_by = copied.state.rejected_by.iter().cloned().collect::<HashSet<_>>();
        instance.waits.clone_from(&copied.state.waits);
        instance.cause.clone_from(&copied.state.cause);
        instance.updated_at = copied.updated_at;
        instance.finished_at = copied.finished_at;
        if let Some(pause) = &copied.state.pause {
            self.effects.pauses.insert(seq, Some(pause.clone()));
        }
        let rejections = copied.state.rejected_by.iter().map(|build| (seq, 0, CallId(0), build.clone()));
        self.effects.rejections.extend(rejections);
        for earlier in &copied.state.earlier {
            self.effects.continued.push((seq, earlier.number, earlier.continued_at));
            let rows = events::pack(&earlier.history).into_iter().map(|row| (seq, earlier.number, row));
            self.effects.events.extend(rows);
        }
        let attempts = copied.state.attempts.iter().map(|record| AttemptRow { seq, record: record.clone() });
        self.effects.attempts.extend(attempts);
        Ok(())
    }

    fn add_activity(&mut self, seq: i64, graft: &Graft, stored: &StoredActivity) {
        let StoredActivity { execution, activity: new, attempt, ready, rejected, .. } = stored;
        let StoredActivity { cause, other_cause, rejected_by, parked, .. } = stored;
        let execution = ExecutionId { number: *execution, ..graft.execution() };
        let id = ActivityId { execution, call: new.call };
        let activity = Activity {
            attempt: *attempt,
            rejected: rejected.clone(),
            cause: cause.clone(),
            other_cause: other_cause.clone(),
            rejected_by: rejected_by.iter().cloned().collect(),
            parked: *parked,
            ..Activity::new(seq, new, *ready)
        };
        let rejections = rejected_by.iter().map(|build| (seq, id.execution.number, id.call, build.clone()));
        self.effects.rejections.extend(rejections);
        self.activities.insert(id.clone(), activity);
        self.change_activity(&id, |_| ());
    }
}
