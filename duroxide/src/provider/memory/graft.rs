//! Writes executions that begin with a given history, and reads the rows of an instance.

use std::collections::HashMap;

use super::state::{Activity, CrashRecord, Execution, Instance, QueuedMessage, State};
use super::*;
use crate::id::ActivityId;

impl State {
    pub(super) fn graft(&mut self, graft: Graft) -> Result<Submitted, SubmitError> {
        self.saw(graft.time);
        let this = graft.instance().clone();
        if self.is_recorded(graft.id.0) {
            return Ok(self.unnumbered(&this, true));
        }
        let execution = graft.execution();
        match &graft.target {
            GraftTarget::Next(next) => self.begin_next(next, &graft)?,
            GraftTarget::New(copied) => self.add_copy(copied)?,
        }
        if let Some(instance) = self.instances.get_mut(&this) {
            instance.last_commit = Some(graft.id);
            instance.version.clone_from(&graft.version);
            let row = instance.executions.entry(execution.number).or_default();
            row.events.extend(graft.history);
        }
        for activity in graft.activities {
            self.add_activity(&execution, activity);
        }
        for StoredMessage { row, stored_at, by_client } in graft.messages {
            self.deliver(&this, row, stored_at, by_client);
        }
        for child in graft.starts {
            self.start_child(&this, child, None, graft.time);
        }
        for out in graft.outgoing {
            self.send_out(out, None, graft.time);
        }
        self.record_done(graft.id.0);
        self.reindex_instance(&this);
        self.signals.changed(&this);
        self.signals.work = true;
        Ok(self.unnumbered(&this, true))
    }

    fn begin_next(&mut self, next: &NextExecution, graft: &Graft) -> Result<(), SubmitError> {
        let this = &next.execution.instance;
        let instance = self.instances.get(this).ok_or(SubmitError::NotFound)?;
        let current = instance.current(this) == next.execution && instance.last_event() == next.last_event;
        let begun = instance.executions.get(&next.execution.number).and_then(|execution| execution.events.first());
        let is_erased = instance.status.is_finished() && begun.is_some_and(|event| event.payload.receipt().is_some());
        if !current || is_erased || !next.consumed.iter().all(|message| instance.messages.contains_key(message)) {
            return Err(SubmitError::Conflict);
        }
        for message in &next.consumed {
            self.remove_message(this, message);
        }
        for call in &next.cancelled_activities {
            self.remove_activity(&ActivityId { execution: next.execution.clone(), call: *call }, None);
        }
        self.sweep(&next.execution, None);
        self.remove_messages_for(&next.execution, |_| true);
        let has_finished = self.instances.get(this).is_some_and(|instance| instance.status.is_finished());
        if has_finished {
            self.nodes.values_mut().for_each(|node| {
                node.mail.remove(this);
            });
        }
        if let Some(instance) = self.instances.get_mut(this) {
            if has_finished {
                instance.arrivals = 0;
            }
            instance.executions.entry(next.execution.number).or_default().continued_at = Some(graft.time);
            instance.execution = next.execution.number + 1;
            instance.executions.insert(instance.execution, Execution::default());
            instance.status = InstanceStatus::Running;
            (instance.paused, instance.suspension, instance.cause, instance.waits) = (None, None, None, None);
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
        if let Some(instance) = self.instances.get(this) {
            return Err(SubmitError::Exists(instance.status));
        }
        self.add_instance(&copied.new, None, copied.created_at);
        let Some(instance) = self.instances.get_mut(this) else { return Ok(()) };
        instance.execution = copied.execution;
        let earlier = |earlier: &EarlierExecution| {
            let continued_at = Some(earlier.continued_at);
            (earlier.number, Execution { events: earlier.history.clone(), continued_at, ..Execution::default() })
        };
        instance.executions = copied.state.earlier.iter().map(earlier).collect();
        instance.executions.insert(copied.execution, Execution::default());
        for attempt in &copied.state.attempts {
            let attempts = &mut instance.executions.entry(attempt.execution).or_default().attempts;
            attempts.insert((attempt.call, attempt.attempt), attempt.clone());
        }
        instance.status = copied.state.status;
        instance.suspension.clone_from(&copied.state.suspension);
        instance.rejected_by = copied.state.rejected_by.iter().cloned().collect();
        instance.paused.clone_from(&copied.state.pause);
        instance.waits.clone_from(&copied.state.waits);
        instance.cause.clone_from(&copied.state.cause);
        instance.updated_at = copied.updated_at;
        instance.finished_at = copied.finished_at;
        Ok(())
    }

    fn add_activity(&mut self, of: &ExecutionId, stored: StoredActivity) {
        let StoredActivity { execution: number, activity: new, attempt, ready, rejected, .. } = stored;
        let StoredActivity { cause, other_cause, rejected_by, parked, .. } = stored;
        let id = ActivityId { execution: ExecutionId { number, ..of.clone() }, call: new.call };
        let rejected_by = rejected_by.into_iter().collect();
        let activity =
            Activity { attempt, rejected, cause, other_cause, rejected_by, parked, ..Activity::new(new, ready) };
        self.activities.insert(id.clone(), activity);
        self.change_activity(&id, |_| ());
    }

    pub(super) fn rows(&self, id: &InstanceId) -> Option<InstanceRows> {
        let instance = self.instances.get(id)?;
        let mut rejected_by: Vec<_> = instance.rejected_by.iter().cloned().collect();
        rejected_by.sort_unstable();
        Some(InstanceRows {
            execution: instance.current(id),
            last_event: instance.last_event(),
            state: InstanceState {
                status: instance.status,
                rejected_by: if instance.suspension.is_some() { rejected_by } else { Vec::new() },
                pause: instance.paused.clone(),
                waits: instance.waits.clone(),
                cause: instance.cause.clone(),
                suspension: instance.suspension.clone(),
                attempts: attempts(&instance.executions),
                earlier: earlier(instance),
            },
            messages: self.stored_messages(instance),
            activities: self.activities_of(id, None).iter().filter_map(|id| self.stored_activity(id)).collect(),
        })
    }

    fn stored_messages(&self, instance: &Instance) -> Vec<StoredMessage> {
        let row = |message: &QueuedMessage| StoredMessage {
            row: message.row.clone(),
            stored_at: message.stored_at,
            by_client: message.sent,
        };
        self.queued(instance).map(row).collect()
    }

    /// Returns the messages of an instance, in the order of their arrival.
    pub(super) fn queued(&self, instance: &Instance) -> impl Iterator<Item = &QueuedMessage> {
        let mut arrivals: Vec<_> = instance.messages.values().copied().collect();
        arrivals.sort_unstable();
        arrivals.into_iter().filter_map(|arrival| self.messages.get(&arrival))
    }

    fn stored_activity(&self, id: &ActivityId) -> Option<StoredActivity> {
        let activity = self.activities.get(id)?;
        let mut rejected_by: Vec<_> = activity.rejected_by.iter().cloned().collect();
        rejected_by.sort_unstable();
        Some(StoredActivity {
            execution: id.execution.number,
            activity: NewActivity {
                call: id.call,
                scheduled: activity.scheduled,
                name: activity.name.clone(),
                tag: activity.tag.clone(),
                detached: activity.detached,
                eager: false,
                headers: activity.headers.clone(),
            },
            attempt: activity.attempt,
            ready: activity.ready,
            rejected_by: if activity.rejected.is_some() { rejected_by } else { Vec::new() },
            rejected: activity.rejected.clone(),
            cause: activity.cause.clone(),
            other_cause: activity.other_cause.clone(),
            parked: activity.parked,
        })
    }
}

fn attempts(executions: &HashMap<u64, Execution>) -> Vec<AttemptRecord> {
    let mut attempts: Vec<_> = executions.values().flat_map(|execution| execution.attempts.values()).cloned().collect();
    attempts.sort_unstable_by_key(|attempt| (attempt.execution, attempt.call, attempt.attempt));
    attempts
}

fn earlier(instance: &Instance) -> Vec<EarlierExecution> {
    let earlier = instance.executions.iter().filter_map(|(number, execution)| {
        let continued_at = execution.continued_at.filter(|_| *number < instance.execution)?;
        Some(EarlierExecution { number: *number, continued_at, history: Vec::new() })
    });
    let mut earlier: Vec<_> = earlier.collect();
    earlier.sort_unstable_by_key(|earlier| earlier.number);
    earlier
}
