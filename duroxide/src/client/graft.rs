//! Resets an instance to an event of its history, and forks another one from there.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::audit::Act;
use super::cut_point::CutPoint;
use super::erase::check_erased;
use super::handle::Untyped;
use super::measure::counted;
use super::{Client, ClientError, Handle};
use crate::backoff::Backoff;
use crate::clock::Timestamp;
use crate::effect::graft::{Cut, GraftRows, GraftSource, NotACut, OpenNamedChild, graft, open_children};
use crate::error::ErrorCode;
use crate::history::{ChildScheduled, Decision, EventKind, HistoryEvent, Input, Started};
use crate::id::{CallId, CommitId, EventId, ExecutionId, InstanceId, InvalidId};
use crate::payload::Payload;
use crate::policy::ClosePolicy;
use crate::provider::{
    CopiedInstance, EventRow, Graft, GraftTarget, InstanceRecord, InstanceRows, InstanceState, InstanceStatus,
    MessageRow, NewActivity, NewInstance, NextExecution, Ready, StoredActivity, StoredMessage, Submission,
};
use crate::telemetry::RequestOperation;

/// The effects of a reset or a fork.
///
/// [`Display`](fmt::Display) shows it for people, one line per effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutPlan {
    /// The execution whose history is cut.
    pub execution: ExecutionId,
    /// Its last event.
    pub last_event: EventId,
    /// The last event that is kept.
    pub at: EventId,
    /// The activities that run again.
    pub activities: Vec<RepeatedActivity>,
    /// The children that are closed or started again.
    pub children: Vec<AffectedChild>,
    /// The external events after the cut, which the new execution receives.
    pub carried: Vec<CarriedEvent>,
    /// The open calls that are not made again, because their outcomes are kept.
    pub kept_outcomes: Vec<CallId>,
}

/// An activity that a reset or a fork runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepeatedActivity {
    /// The call.
    pub call: CallId,
    /// The name of the activity.
    pub name: String,
    /// The place in the source of the call.
    pub at: Option<Arc<str>>,
    /// The event that scheduled it.
    pub scheduled: EventId,
    /// True if it was scheduled before the cut and still open there: it runs again at once. False if it was scheduled after
    /// the cut: it runs again if the code calls it again.
    pub is_certain: bool,
}

/// A child that a reset or a fork concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffectedChild {
    /// The call.
    pub call: CallId,
    /// The name of its orchestration.
    pub name: String,
    /// The instance.
    pub instance: InstanceId,
    /// The event that scheduled it.
    pub scheduled: EventId,
    /// The policy by which it is closed. `None`: it is not closed, because it has ended, or the instance continues.
    pub closed: Option<ClosePolicy>,
    /// True if the call is made again at once: another instance is started for it.
    pub starts_again: bool,
    /// True if the code that calls it again is refused, because the child has an id of its own, which stays taken until
    /// the child is deleted.
    pub is_taken: bool,
}

/// An external event that the new execution receives again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarriedEvent {
    /// Its name.
    pub name: String,
    /// The event that recorded it.
    pub event: EventId,
}

impl fmt::Display for CutPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.last_event;
        writeln!(f, "{}: events 1 to {} of {last} are kept", self.execution, self.at)?;
        for RepeatedActivity { call, name, at, is_certain, .. } in &self.activities {
            let when = if *is_certain { "runs again" } else { "runs again if the code calls it again" };
            let at = at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            writeln!(f, "activity {name:?}, call {call}{at}: {when}")?;
        }
        for AffectedChild { call, name, instance, closed, starts_again, is_taken, .. } in &self.children {
            let closed = closed.map(|policy| match policy {
                ClosePolicy::Cancel => "is cancelled",
                ClosePolicy::Terminate => "is terminated",
                ClosePolicy::Abandon => "continues, and its outcome is ignored",
            });
            let again = starts_again.then_some("another instance is started for its call");
            let taken = is_taken.then_some("its id is taken, so another start under this id is refused");
            let effects: Vec<_> = [closed, again, taken].into_iter().flatten().collect();
            writeln!(f, "child {instance:?} ({name}), call {call}: {}", effects.join("; "))?;
        }
        for CarriedEvent { name, event } in &self.carried {
            writeln!(f, "event {name:?} (event {event}): is received again")?;
        }
        for call in &self.kept_outcomes {
            writeln!(f, "call {call}: keeps its outcome")?;
        }
        Ok(())
    }
}

/// The options that a reset and a fork share.
#[derive(Debug, Clone)]
struct Options {
    at: CutPoint,
    keep_outcomes: bool,
}

impl Options {
    /// Describes the place of the cut, which was found at an event.
    fn described(&self, event: EventId) -> String {
        match &self.at {
            CutPoint::Event(_) => format!("event {event}"),
            point => format!("event {event}, {point}"),
        }
    }
}

/// A reset of an instance: set its options, then `.await` it. See [`Handle::reset`].
#[must_use = "the instance is reset when this is awaited"]
pub struct ResetCall {
    client: Client,
    instance: Result<InstanceId, InvalidId>,
    options: Options,
    expected: Option<(ExecutionId, EventId)>,
}

impl ResetCall {
    pub(super) fn new(client: &Client, instance: &Result<InstanceId, InvalidId>, at: CutPoint) -> Self {
        let options = Options { at, keep_outcomes: false };
        Self { client: client.clone(), instance: instance.clone(), options, expected: None }
    }

    /// Keeps the outcomes of calls that were scheduled before the event: they are received again, instead of being made
    /// again. By default, an activity whose outcome was recorded after the event runs again.
    pub fn keep_outcomes(mut self) -> Self {
        self.options.keep_outcomes = true;
        self
    }

    /// Refuses the reset with [`ErrorCode::InstanceChanged`] if the instance has advanced since a dry run.
    pub fn expect(mut self, plan: &CutPlan) -> Self {
        self.expected = Some((plan.execution.clone(), plan.last_event));
        self
    }

    /// Returns the effects that the reset would have now, and changes nothing.
    ///
    /// # Errors
    /// As [`Handle::reset`].
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn dry_run(&self) -> Result<CutPlan, ClientError> {
        let id = self.instance.clone()?;
        let source = self.client.source(&id).await?;
        let new = source.record.execution.next();
        Ok(source.cut(&self.client, &self.options, &new)?.plan)
    }

    async fn apply(self) -> Result<CutPlan, ClientError> {
        let Self { client, instance, options, expected } = self;
        let id = instance?;
        client.check_running(Some(&id))?;
        let mut backoff = Backoff::default();
        for _ in 0..ATTEMPTS {
            let source = client.source(&id).await?;
            let found = (source.record.execution.clone(), source.rows.last_event);
            if expected.as_ref().is_some_and(|expected| *expected != found) {
                break;
            }
            let made = source.cut(&client, &options, &found.0.next())?;
            let next = NextExecution {
                execution: found.0,
                last_event: found.1,
                consumed: made.rows.consumed.clone(),
                cancelled_activities: made.plan.detached(&source.history),
            };
            let graft = made.graft(GraftTarget::Next(next), client.now());
            let (at, detail) = (made.plan.at, options.described(made.plan.at));
            let detail = format!("to {detail}");
            let act = Act { detail: Some(&detail), ..Act::named("reset") };
            match client.submit(&id, client.audited(act, Submission::Graft(Box::new(graft)))).await {
                Ok(_) => {
                    client.forget_live_copy(&id);
                    tracing::info!(instance = %id, event = %at, "instance reset");
                    return Ok(made.plan);
                }
                Err(error) if error.is_conflict() => tokio::time::sleep(backoff.next()).await,
                Err(error) => return Err(error),
            }
        }
        let reason = "it has advanced in the meantime".to_owned();
        Err(ClientError::refused(&id, ErrorCode::InstanceChanged, reason))
    }
}

/// The attempts of a reset whose instance advances at the same time.
const ATTEMPTS: u32 = 10;

impl IntoFuture for ResetCall {
    type Output = Result<CutPlan, ClientError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { counted(RequestOperation::Reset, self.apply().await) })
    }
}

impl fmt::Debug for ResetCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetCall").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A fork of an instance: set its options, then `.await` it. See [`Client::fork`].
#[must_use = "the instance is forked when this is awaited"]
pub struct ForkCall {
    client: Client,
    from: Result<InstanceId, InvalidId>,
    new: Result<InstanceId, InvalidId>,
    options: Options,
}

impl ForkCall {
    /// As [`ResetCall::keep_outcomes`].
    pub fn keep_outcomes(mut self) -> Self {
        self.options.keep_outcomes = true;
        self
    }

    /// Returns the effects that the fork would have now, and changes nothing.
    ///
    /// # Errors
    /// As [`Client::fork`], except that the new id may be taken.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn dry_run(&self) -> Result<CutPlan, ClientError> {
        let (from, new) = (self.from.clone()?, self.new.clone()?);
        Ok(self.client.source(&from).await?.fork(&self.client, &self.options, &new)?.0.plan)
    }

    async fn apply(self) -> Result<Handle<Untyped>, ClientError> {
        let Self { client, from, new, options } = self;
        let (from, new) = (from?, new?);
        client.check_running(Some(&new))?;
        let source = client.source(&from).await?;
        let (made, target) = source.fork(&client, &options, &new)?;
        let (at, graft) = (made.plan.at, made.graft(target, client.now()));
        let detail = format!("of {from} at {}", options.described(at));
        let act = Act { detail: Some(&detail), ..Act::named("fork") };
        client.submit(&new, client.audited(act, Submission::Graft(Box::new(graft)))).await?;
        tracing::info!(instance = %new, %from, event = %at, "instance forked");
        Ok(Handle::of(&client, new))
    }
}

impl IntoFuture for ForkCall {
    type Output = Result<Handle<Untyped>, ClientError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { counted(RequestOperation::Fork, self.apply().await) })
    }
}

impl fmt::Debug for ForkCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkCall").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates an instance that begins with the history of another one up to an event, and continues from there.
    ///
    /// The work of the kept part is not done again: its results are those of the other instance. An activity that runs after
    /// the event has another idempotency key than that of the other instance, since the key contains the identity. The new
    /// instance has the labels of the other one and no parent.
    ///
    /// `ctx.uuid()` and `ctx.random()` continue with the numbers of the other instance. Code that puts its own instance id
    /// into the values of calls does not fit the copied history, and is suspended with
    /// [`Nondeterminism`](ErrorCode::Nondeterminism).
    ///
    /// Which events may be chosen, and what happens to the calls that are open there: as with [`Handle::reset`].
    ///
    /// ```
    /// use duroxide::id::EventId;
    /// use duroxide::prelude::*;
    ///
    /// async fn try_again(client: &Client) -> duroxide::Result<()> {
    ///     let fork = client.fork("order-17", EventId(12), "order-17-b");
    ///     println!("{}", fork.dry_run().await?);
    ///     let handle = fork.await?;
    ///     handle.wait().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`]: as with [`Handle::reset`]; or the new id is taken.
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the new instance may or may not have been created.
    pub fn fork(&self, from: impl AsRef<str>, at: impl Into<CutPoint>, new_id: impl AsRef<str>) -> ForkCall {
        ForkCall {
            client: self.clone(),
            from: InstanceId::try_from(from.as_ref().to_owned()),
            new: InstanceId::new(new_id),
            options: Options { at: at.into(), keep_outcomes: false },
        }
    }

    /// Lets the local node drop its live copy of an instance that another execution has replaced.
    fn forget_live_copy(&self, instance: &InstanceId) {
        if let Some(local) = &self.local {
            local.instance_ended(instance.clone());
        }
    }

    /// Reads an instance with the history of its current execution, at one moment.
    async fn source(&self, id: &InstanceId) -> Result<Source, ClientError> {
        let admin = self.admin()?;
        loop {
            let rows = self.ask(|| admin.rows(id)).await?.ok_or_else(|| ClientError::not_found(id))?;
            let record = self.record(id).await?;
            let mut events = self.events(&rows.execution).await?;
            if record.execution != rows.execution {
                // It has continued as new, or was replaced, between the reads.
                continue;
            }
            events.truncate(events.partition_point(|event| event.id <= rows.last_event));
            let unreadable = |error: &dyn fmt::Display| {
                ClientError::refused(id, ErrorCode::UnreadableEvent, format!("its history: {error}"))
            };
            let parsed = events.iter().cloned().map(HistoryEvent::try_from).collect::<Result<Vec<_>, _>>();
            let history = parsed.map_err(|error| unreadable(&error))?;
            events.first().map_or(Ok(()), |first| check_erased(id, &first.payload))?;
            // One that was terminated before its first turn has an end and no beginning.
            if !history.iter().any(|event| matches!(event.kind, EventKind::Input(Input::Started(_)))) {
                let reason = "the execution has never begun, so there is nothing to cut".to_owned();
                return Err(ClientError::refused(id, ErrorCode::NoCutPoint, reason));
            }
            return Ok(Source { record, rows, events, history });
        }
    }
}

/// An instance, as it was read.
struct Source {
    record: InstanceRecord,
    rows: InstanceRows,
    events: Vec<EventRow>,
    history: Vec<HistoryEvent>,
}

/// The rows of the new execution, and their description.
struct BuiltGraft {
    plan: CutPlan,
    rows: GraftRows,
    version: Option<semver::Version>,
    number: u64,
}

impl Source {
    fn cut(&self, client: &Client, options: &Options, new: &ExecutionId) -> Result<BuiltGraft, ClientError> {
        let id = &self.record.execution.instance;
        let at = options.at.find(&self.history).ok_or_else(|| no_cut_point(id, &options.at))?;
        let cut = Cut::at(&self.history, at).map_err(|not| not_a_cut(id, at, &not))?;
        let last = self.history.last().map_or(Timestamp::from_micros(0), |event| event.time);
        let source = GraftSource {
            old: &self.rows.execution,
            history: &self.history,
            new,
            queue: &self.rows.messages,
            keep_outcomes: options.keep_outcomes,
            closes: new.instance == *id && !self.rows.state.status.is_finished(),
            now: client.now().max(last),
        };
        let kept = self.events[..cut.kept.len()].to_vec();
        let rows = graft(&source, &cut, kept).map_err(|child| open_child(id, at, &child))?;
        let version = self.record.version.clone().filter(|_| !cut.kept.is_empty());
        let plan = self.plan(&cut, &rows, at, source.closes);
        Ok(BuiltGraft { plan, rows, version, number: new.number })
    }

    fn fork(
        &self,
        client: &Client,
        options: &Options,
        new: &InstanceId,
    ) -> Result<(BuiltGraft, GraftTarget), ClientError> {
        let Some(Input::Started(started)) = self.history.iter().find_map(|event| match &event.kind {
            EventKind::Input(input @ Input::Started(_)) => Some(input),
            _ => None,
        }) else {
            return Err(ClientError::not_found(new));
        };
        let started = Started { parent: None, ..Started::clone(started) };
        let instance = NewInstance::started(new.clone(), started, Payload::NULL, false);
        let instance = NewInstance { labels: self.record.labels.clone(), ..instance };
        let made = self.cut(client, options, &instance.first_execution())?;
        let now = client.now();
        let copied = CopiedInstance {
            new: instance,
            execution: 1,
            state: InstanceState::new(InstanceStatus::Running),
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        Ok((made, GraftTarget::New(Box::new(copied))))
    }

    fn plan(&self, cut: &Cut<'_>, rows: &GraftRows, at: EventId, closes: bool) -> CutPlan {
        let resolved = |call: &CallId| rows.resolved.contains(call);
        let open = open_children(&self.rows.execution, &self.history);
        let is_open = |call: &CallId| closes && open.iter().any(|(other, _)| other == call);
        let mut plan = CutPlan {
            execution: self.rows.execution.clone(),
            last_event: self.rows.last_event,
            at,
            activities: Vec::new(),
            children: Vec::new(),
            carried: Vec::new(),
            kept_outcomes: rows.resolved.clone(),
        };
        let certain = cut.open.iter().filter(|(call, _)| !resolved(call)).map(|(_, event)| (*event, true));
        let dropped = cut.dropped.iter().map(|event| (event, false));
        let removed: Vec<EventId> = cut.removals().collect();
        for (event, is_certain) in certain.chain(dropped) {
            match &event.kind {
                EventKind::Decision(Decision::ActivityScheduled(activity)) => plan.activities.push(RepeatedActivity {
                    call: activity.call,
                    name: activity.name.clone(),
                    at: event.at.clone(),
                    scheduled: event.id,
                    is_certain,
                }),
                EventKind::Decision(Decision::ChildScheduled(child)) => {
                    plan.children.extend(self.affected(child, event.id, is_certain, is_open(&child.call)));
                }
                EventKind::Input(Input::EventRaised { name, .. }) if !removed.contains(&event.id) => {
                    plan.carried.push(CarriedEvent { name: name.clone(), event: event.id });
                }
                EventKind::Input(_) => {}
                // A repeated timer or wait has no effect that a plan shows.
                EventKind::Decision(
                    Decision::TimerCreated { .. }
                    | Decision::EventAwaited { .. }
                    | Decision::CallRejected { .. }
                    | Decision::CallDropped { .. }
                    | Decision::Completed
                    | Decision::Failed { .. }
                    | Decision::Cancelled { .. }
                    | Decision::Terminated { .. }
                    | Decision::ContinuedAsNew { .. },
                ) => {}
            }
        }
        plan
    }

    fn affected(
        &self,
        child: &ChildScheduled,
        scheduled: EventId,
        is_certain: bool,
        is_open: bool,
    ) -> Option<AffectedChild> {
        let has_own_id = child.instance.as_ref().is_some_and(|id| !id.is_derived_for(child.call));
        let affected = AffectedChild {
            call: child.call,
            name: child.name.clone(),
            instance: child.instance_in(&self.rows.execution),
            scheduled,
            closed: Some(child.close).filter(|_| is_open && !child.detached),
            starts_again: is_certain,
            is_taken: !is_certain && has_own_id,
        };
        (affected.closed.is_some() || affected.starts_again || affected.is_taken).then_some(affected)
    }
}

impl CutPlan {
    /// Returns the calls of detached activities that run again, so that the old ones must not continue.
    fn detached(&self, history: &[HistoryEvent]) -> Vec<CallId> {
        let is_detached = |repeated: &&RepeatedActivity| {
            let event = history.iter().find(|event| event.id == repeated.scheduled);
            let kind = event.map(|event| &event.kind);
            matches!(kind, Some(EventKind::Decision(Decision::ActivityScheduled(activity))) if activity.detached)
        };
        let again = self.activities.iter().filter(|repeated| repeated.is_certain);
        again.filter(is_detached).map(|repeated| repeated.call).collect()
    }
}

impl BuiltGraft {
    fn graft(&self, target: GraftTarget, time: Timestamp) -> Graft {
        let rows = &self.rows;
        let activity = |activity: &NewActivity| StoredActivity {
            execution: self.number,
            activity: activity.clone(),
            attempt: 1,
            ready: Ready::AtOnce(time),
            rejected: None,
            cause: None,
            other_cause: None,
            rejected_by: Vec::new(),
            parked: false,
        };
        let message = |row: &MessageRow| StoredMessage { row: row.clone(), stored_at: time, by_client: false };
        Graft {
            id: CommitId::new(),
            target,
            version: self.version.clone(),
            history: rows.history.clone(),
            activities: rows.activities.iter().map(activity).collect(),
            messages: rows.messages.iter().map(message).collect(),
            starts: rows.starts.clone(),
            outgoing: rows.outgoing.clone(),
            time,
        }
    }
}

fn no_cut_point(id: &InstanceId, point: &CutPoint) -> ClientError {
    let reason = format!("its history has no place for the cut: {point}");
    ClientError::refused(id, ErrorCode::NoCutPoint, reason)
}

fn not_a_cut(id: &InstanceId, at: EventId, not: &NotACut) -> ClientError {
    let after = not.after.map(|after| format!(", and the next one is event {after}")).unwrap_or_default();
    let reason = format!(
        "event {at} is not the end of a step that the execution survived; the one before is event {}{after}",
        not.before
    );
    ClientError::refused(id, ErrorCode::NotAStep, reason)
}

fn open_child(id: &InstanceId, at: EventId, child: &OpenNamedChild) -> ClientError {
    let OpenNamedChild { instance, scheduled } = child;
    let reason = format!(
        "at event {at}, child {instance:?} is open, whose id was chosen by the code (event {scheduled}): it cannot be started \
         a second time; choose an event before {scheduled}, or one after its outcome"
    );
    ClientError::refused(id, ErrorCode::NotAStep, reason)
}
