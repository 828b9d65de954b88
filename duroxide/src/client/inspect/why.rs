//! The reason why an instance does not advance: a pure function of inspections.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::text::Span;
use super::{Fact, Inspection, OpenWait, Waiting};
use crate::clock::Timestamp;
use crate::error::{ErrorCode, Pause, Suspension, shortened};
use crate::history::{Awaited, Decision, EventKind, Failure};
use crate::id::{Epoch, EventId, InstanceId};
use crate::payload::Payload;
use crate::provider::{
    ActivityRecord, AttemptRecord, DepartedNode, Departure, Handlers, InstanceStatus, NodeRecord, RunningCode,
    StuckCode, Unclaimed, error_value_text,
};

/// The reason why an instance does not advance. [`Display`](fmt::Display) shows its text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Why {
    /// The state of the instance.
    pub state: WhyState,
    /// The reason, in one or two sentences. It may hold error texts of activities.
    pub text: String,
    /// When this state began.
    pub since: Option<Timestamp>,
    /// When this state ends at the latest, if known.
    pub until: Option<Timestamp>,
    /// The place in the source of the call that waits.
    pub at: Option<Arc<str>>,
    /// The instances from this one down the chain of children to the cause. One instance if it waits for no child.
    pub chain: Vec<InstanceId>,
    /// The party that has to act.
    pub blame: Blame,
    /// The facts behind the text. They concern the last instance of the chain.
    pub facts: Vec<Fact>,
    /// The actions that are possible, the most likely one first. They concern the last instance of the chain.
    pub actions: Vec<Action>,
}

/// The state of an instance, as [`Why`] distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyState {
    /// It has not begun.
    NotBegun,
    /// Its code runs, or will run shortly.
    Turn,
    /// Its code has not returned for a long time: it computes, loops or blocks.
    StuckTurn,
    /// It waits for an activity that runs.
    Running,
    /// It waits for the next attempt of an activity that has failed.
    BackingOff,
    /// It waits for an activity that waits for a node.
    Queued,
    /// No live node can run its code, or an activity of it.
    Unclaimed,
    /// It waits for a timer.
    Timer,
    /// It waits for an external event.
    Event,
    /// It waits for a child.
    Child,
    /// It waits for several calls.
    Many,
    /// The node that owns it is gone, or has shown no sign of life for two thirds of its lease time, although its code is to
    /// run; another one takes it over.
    OwnerGone,
    /// It is suspended.
    Suspended,
    /// An activity of it is parked: its code has crashed nodes, or cannot be found or read.
    Parked,
    /// A client has suspended it.
    Paused,
    /// It has finished.
    Ended,
}

/// The party that has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// None: it advances without help.
    None,
    /// A person or program that has to send an event or to resume.
    Human,
    /// The authors of the code.
    Code,
    /// The operators: nodes or their settings are missing.
    Config,
}

/// An action that is possible.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Raise the event of this name: [`Handle::raise_named`](crate::Handle::raise_named).
    Raise(String),
    /// Start a node with the missing code, described for people.
    StartNode(String),
    /// Restart the node of this name: no request ends user code that does not return.
    RestartNode(String),
    /// Resume the instance: [`Handle::resume`](crate::Handle::resume).
    Resume,
    /// Begin the next attempt now: [`Handle::wake`](crate::Handle::wake).
    Wake,
    /// Remove the message that cannot be read: [`Handle::drop_message`](crate::Handle::drop_message).
    DropMessage,
    /// Repeat a part of its history with repaired code: [`Handle::reset`](crate::Handle::reset).
    Reset,
    /// Start another instance with a part of its history: [`Client::fork`](super::Client::fork).
    Fork,
    /// Cancel the instance: [`Handle::cancel`](crate::Handle::cancel).
    Cancel,
    /// Terminate the instance: [`Handle::terminate`](crate::Handle::terminate).
    Terminate,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the child that an instance waits for, if it waits for nothing else.
pub(super) fn awaited_child(inspection: &Inspection) -> Option<InstanceId> {
    match &inspection.waits[..] {
        [OpenWait { operation: Waiting::Child { instance, .. }, .. }] => Some(instance.clone()),
        _ => None,
    }
}

impl Why {
    /// Returns the reason for the first of these instances, each of which waits for the next one.
    pub(super) fn of(chain: &[Inspection]) -> Self {
        let Some((first, children)) = chain.split_first() else { return Self::new(WhyState::Turn, String::new()) };
        let mut why = first.why();
        if let (Some(leaf), WhyState::Child) = (children.last(), why.state) {
            let below = leaf.why();
            let id = &leaf.status.execution.instance;
            let between = match children.len() {
                1 => String::new(),
                2 => " through 1 child".to_owned(),
                n => format!(" through {} children", n - 1),
            };
            why.text = format!("It waits{between} for `{id}`: {}", below.text);
            (why.blame, why.actions, why.until, why.facts) = (below.blame, below.actions, below.until, below.facts);
        }
        why.chain = chain.iter().map(|link| link.status.execution.instance.clone()).collect();
        why
    }

    pub(super) fn new(state: WhyState, text: String) -> Self {
        let (actions, chain) = (vec![Action::Cancel, Action::Terminate], Vec::new());
        let (facts, blame) = (Vec::new(), Blame::None);
        Self { state, text, since: None, until: None, at: None, chain, blame, facts, actions }
    }

    pub(super) fn since(mut self, since: Timestamp) -> Self {
        self.since = Some(since);
        self
    }

    pub(super) fn fact(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    pub(super) fn wants(mut self, blame: Blame, action: Action) -> Self {
        self.blame = blame;
        self.actions.insert(0, action);
        self
    }

    /// Adds the place of a call.
    fn at(mut self, wait: &OpenWait) -> Self {
        self.at.clone_from(&wait.at);
        self
    }
}

/// Returns true if all of some failed attempts have one error.
fn are_same(failed: &[&AttemptRecord]) -> bool {
    failed.windows(2).all(|two| matches!(two, [one, other] if one.failed.error == other.failed.error))
}

impl Inspection {
    /// Returns the reason without following children.
    fn why(&self) -> Why {
        if self.status.status.is_finished() {
            return self.ended();
        }
        if let Some((suspension, pause)) = self.pause() {
            return self.paused(&suspension.message, pause);
        }
        if let Some(suspension) = self.status.suspension.as_ref().filter(|suspension| suspension.pause.is_none()) {
            return match self.parked() {
                Some(activity) => self.activity_is_parked(activity, suspension),
                None => self.suspended(suspension),
            };
        }
        if let Some(unclaimed) = &self.status.unclaimed {
            return self.unclaimed(unclaimed);
        }
        if let Some((node, stuck)) = self.stuck_turn() {
            return self.turn_is_stuck(node, stuck);
        }
        if self.last.is_none() {
            return self.not_begun();
        }
        if let Some(owner) = self.owner.filter(|owner| self.member(*owner).is_none()) {
            return self.owner_is_gone(owner);
        }
        let mut why = match &self.waits[..] {
            [] => self.turn(),
            [wait] => self.wait(wait),
            waits => self.waits(waits),
        };
        if let (Some(recorded), WhyState::Timer | WhyState::Event | WhyState::Child | WhyState::Many) =
            (&self.status.waits, why.state)
        {
            (why.since, why.until) = (why.since.or(Some(recorded.since)), recorded.until.or(why.until));
        }
        let awaits_event = self.waits.iter().any(|wait| matches!(wait.operation, Waiting::Event { .. }));
        if awaits_event { self.with_unread(why) } else { why }
    }

    pub(super) fn member(&self, epoch: Epoch) -> Option<&NodeRecord> {
        self.nodes.iter().find(|node| node.epoch == epoch)
    }

    /// Returns the pause of the instance, unless it has ended and a node that can run the instance is missing.
    fn pause(&self) -> Option<(&Suspension, &Pause)> {
        let suspension = self.status.suspension.as_ref()?;
        let pause = suspension.pause.as_ref()?;
        let is_over = pause.until.is_some_and(|until| until <= self.now) && self.status.unclaimed.is_some();
        (!is_over).then_some((suspension, pause))
    }

    fn paused(&self, reason: &str, pause: &Pause) -> Why {
        let by = pause.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let until = pause.until.map(|until| format!(", until {until}")).unwrap_or_default();
        let text = format!("Paused{by} {} ago: {reason:?}{until}.", self.ago(pause.since));
        let mut why = Why::new(WhyState::Paused, text).since(pause.since).wants(Blame::Human, Action::Resume);
        why.until = pause.until;
        why
    }

    fn unclaimed(&self, unclaimed: &Unclaimed) -> Why {
        let mut text =
            format!("No live node has been able to run {} for {}.", unclaimed.what, self.ago(unclaimed.since));
        let last = self.departed.iter().find(|departed| self.had(&departed.node.info.handlers, &unclaimed.what));
        if let Some(DepartedNode { node, left_at, seen_at, cause }) = last {
            let cause = match cause {
                Departure::Left => "it was shut down".to_owned(),
                Departure::Died => "its process ended".to_owned(),
                Departure::Silent => format!("its last sign of life was at {seen_at}"),
                Departure::Fenced => "it joined again".to_owned(),
            };
            text += &format!(" {} (build {}) had it and left at {left_at} ({cause}).", node.info.name, node.info.build);
        }
        let mut why = Why::new(WhyState::Unclaimed, text).since(unclaimed.since);
        why = why.fact(Fact::Missing(unclaimed.what.clone()));
        why.facts.extend(last.map(|last| Fact::LastServer {
            node: last.node.info.name.clone(),
            build: last.node.info.build.clone(),
            left_at: last.left_at,
            seen_at: last.seen_at,
            cause: last.cause,
        }));
        why.wants(Blame::Config, Action::StartNode(unclaimed.what.clone()))
    }

    /// Returns true if a node had the code that is missing, which [`Unclaimed::what`] describes.
    fn had(&self, handlers: &Handlers, missing: &str) -> bool {
        let describes = |activity: &&ActivityRecord| {
            let tag = activity.tag.as_ref().map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            format!("activity {}{tag}", activity.name) == missing
        };
        match self.activities.open.iter().find(describes) {
            Some(activity) => handlers.serves(&activity.name, activity.tag.as_deref()),
            None => {
                let version = self.status.version.as_ref().map(ToString::to_string);
                missing.starts_with("orchestration ") && handlers.has_code(&self.status.name, version.as_deref())
            }
        }
    }

    /// Returns the time that has passed since another.
    pub(super) fn ago(&self, time: Timestamp) -> Span {
        Span(self.now.since(time))
    }

    fn node(&self, epoch: Epoch) -> String {
        self.member(epoch).map_or_else(|| format!("node {epoch}, which is gone"), |node| node.info.name.clone())
    }

    /// Returns the turn of the instance that does not return, with its node. Ignores a report that is older than the last
    /// event, and one of a node that no longer owns the instance.
    fn stuck_turn(&self) -> Option<(&NodeRecord, &StuckCode)> {
        let may_own = |node: &&NodeRecord| self.owner.is_none_or(|owner| owner == node.epoch);
        let execution = &self.status.execution;
        let last = self.last.as_ref().map_or(EventId(0), |last| last.id);
        let is_current = |stuck: &&StuckCode| match &stuck.code {
            RunningCode::Turn { after, .. } => stuck.execution == *execution && after.is_none_or(|after| after == last),
            RunningCode::Attempt { .. } => false,
        };
        let nodes = self.nodes.iter().filter(may_own);
        nodes.into_iter().find_map(|node| Some((node, node.report.stuck.iter().find(is_current)?)))
    }

    fn turn_is_stuck(&self, node: &NodeRecord, stuck: &StuckCode) -> Why {
        let place = match &stuck.code {
            RunningCode::Turn { last_call: Some(call), .. } => format!(", after {call}"),
            RunningCode::Turn { function: Some(function), .. } => format!(", in {function}"),
            _ => String::new(),
        };
        let (since, name, code) = (self.ago(stuck.since), &node.info.name, ErrorCode::TurnStuck);
        let text = format!("Its turn has not returned for {since} on {name}{place} ({code}).");
        let why = Why::new(WhyState::StuckTurn, text).since(stuck.since).fact(Fact::Node(name.clone()));
        let mut why = why.fact(Fact::Stuck(Box::new(stuck.clone())));
        if let RunningCode::Turn { last_call, .. } = &stuck.code {
            why.at = last_call.as_deref().map(Arc::from);
        }
        // The turn would have to return before a request to cancel is delivered.
        (why.blame, why.actions) = (Blame::Code, vec![Action::RestartNode(name.clone()), Action::Terminate]);
        why
    }

    /// The instance has no open call: its code runs, or messages are under way.
    fn turn(&self) -> Why {
        if let Some(silent) = self.owner_is_silent() {
            return silent;
        }
        let node = self.owner.map(|owner| format!(" on {}", self.node(owner))).unwrap_or_default();
        let text =
            format!("Its code runs{node}, or is about to; it last changed {} ago.", self.ago(self.status.updated_at));
        let mut why = Why::new(WhyState::Turn, text).since(self.status.updated_at);
        why.facts.extend(self.owner.map(|owner| Fact::Node(self.node(owner))));
        why
    }

    /// Returns when the instance began to wait for this call alone, as its last turn recorded it.
    fn since(&self, wait: &OpenWait) -> Timestamp {
        let recorded = self.status.waits.as_ref().filter(|waits| match (waits.awaited(), &wait.operation) {
            (Some(Awaited::Activity(of)), Waiting::Activity { name, .. }) => of == *name,
            (Some(Awaited::Event(of)), Waiting::Event { name }) => of == *name,
            (Some(Awaited::Child(of)), Waiting::Child { name, .. }) => of == *name,
            _ => false,
        });
        recorded.map_or(wait.since, |waits| waits.since)
    }

    fn wait(&self, wait: &OpenWait) -> Why {
        let since_time = self.since(wait);
        let waited = self.ago(since_time);
        let place = wait.at.as_ref().map(|at| format!(", at {at}")).unwrap_or_default();
        let why = match &wait.operation {
            Waiting::Activity { name, max_attempts, limit } => {
                let open = self.activities.open.iter().find(|activity| self.is_of(wait, activity));
                match open {
                    Some(activity) => self.activity(activity, *max_attempts, *limit, wait),
                    None => Why::new(
                        WhyState::Running,
                        format!("It has been waiting for the outcome of `{name}` for {waited}{place}."),
                    ),
                }
            }
            Waiting::Timer { due } => {
                let left = Span(due.since(self.now));
                let mut why = Why::new(WhyState::Timer, format!("It sleeps until {due} (in {left}){place}."));
                why.until = Some(*due);
                why
            }
            Waiting::Event { name } => {
                let text = format!("It has been waiting for event `{name}` for {waited}{place}.");
                Why::new(WhyState::Event, text).wants(Blame::Human, Action::Raise(name.clone()))
            }
            Waiting::Child { instance, .. } => {
                Why::new(WhyState::Child, format!("It has been waiting for `{instance}` for {waited}{place}."))
            }
        };
        why.since(since_time).at(wait)
    }

    pub(super) fn is_of(&self, wait: &OpenWait, activity: &ActivityRecord) -> bool {
        activity.call == wait.call && activity.execution == self.status.execution.number
    }

    fn activity(
        &self,
        activity: &ActivityRecord,
        max_attempts: Option<u32>,
        limit: Option<std::time::Duration>,
        wait: &OpenWait,
    ) -> Why {
        let (name, attempt) = (&activity.name, activity.attempt);
        let of = max_attempts.map(|max| format!(" of {max}")).unwrap_or_default();
        let failed: Vec<_> = self.activities.failed.iter().filter(|failed| failed.call == wait.call).collect();
        let failed: Vec<_> = failed.into_iter().filter(|failed| failed.execution == activity.execution).collect();
        let failures = self.failures(&failed, attempt - 1);
        let facts = self.activity_facts(activity, &failed, max_attempts);
        let since = self.ago(wait.since);
        let Some(owner) = activity.owner else {
            let due = activity.ready.map(|ready| ready.since(Timestamp::from_micros(0)));
            let Some((due, failures)) = due.filter(|due| *due > self.now).zip(failures) else {
                let servers = self.servers(activity);
                let nodes = match servers {
                    1 => "one node serves it".to_owned(),
                    n => format!("{n} nodes serve it"),
                };
                let text = format!("`{name}` has waited {since} for a node with a free slot; {nodes}.");
                let why = Why { facts, ..Why::new(WhyState::Queued, text) };
                return why.fact(Fact::Servers(servers));
            };
            let text =
                format!("`{name}` {failures}. Attempt {attempt}{of} at {due}, in {}.", Span(due.since(self.now)));
            let mut why = Why { facts, ..Why::new(WhyState::BackingOff, text) }.wants(Blame::Code, Action::Wake);
            why.until = Some(due);
            return why.fact(Fact::NextAttempt(due));
        };
        let limit_text = limit.map(|limit| format!(" Its limit is {}.", Span(limit))).unwrap_or_default();
        let failures = failures.map(|failures| format!(" It {failures}.")).unwrap_or_default();
        let node = self.node(owner);
        let text = format!(
            "`{name}` runs on {node} (attempt {attempt}{of}); it was scheduled {since} ago.{limit_text}{failures}"
        );
        let mut why = Why { facts, ..Why::new(WhyState::Running, text) };
        why.facts.push(Fact::Node(node));
        why.facts.extend(limit.map(Fact::Limit));
        if let Some(stuck) = self.member(owner).and_then(|node| self.blocking(node, activity)) {
            why.text +=
                &format!(" It has blocked its thread for {}: other work of the node may wait.", self.ago(stuck.since));
            why.blame = Blame::Code;
            why.facts.push(Fact::Stuck(Box::new(stuck.clone())));
        }
        why
    }

    /// Returns the entry of an activity in the report of its node, if its attempt blocks its thread.
    fn blocking<'a>(&self, node: &'a NodeRecord, activity: &ActivityRecord) -> Option<&'a StuckCode> {
        let (execution, of) = (&self.status.execution, (activity.call, activity.attempt));
        let is_it = |stuck: &&StuckCode| match &stuck.code {
            RunningCode::Attempt { call, attempt } => stuck.execution == *execution && (*call, *attempt) == of,
            RunningCode::Turn { .. } => false,
        };
        node.report.stuck.iter().find(is_it)
    }

    fn activity_facts(
        &self,
        activity: &ActivityRecord,
        failed: &[&AttemptRecord],
        max_attempts: Option<u32>,
    ) -> Vec<Fact> {
        let (name, attempt) = (activity.name.clone(), activity.attempt);
        let mut facts = vec![Fact::Attempt { activity: name, attempt, max_attempts }];
        facts.extend(failed.last().map(|last| Fact::Failures {
            times: attempt - 1,
            last: last.failed.ended,
            error: last.failed.error.clone(),
            same: are_same(failed),
        }));
        facts.extend(activity.cause.clone().map(Fact::Cause));
        facts
    }

    /// Describes the failed attempts of an activity; `None` if there are none.
    fn failures(&self, failed: &[&AttemptRecord], number: u32) -> Option<String> {
        let last = failed.last()?;
        let times = if number == 1 { "once".to_owned() } else { format!("{number} times, last") };
        let same = if failed.len() > 1 && are_same(failed) { " (the same each time)" } else { "" };
        Some(format!("failed {times} {} ago: `{}`{same}", self.ago(last.failed.ended), last.failed.error))
    }

    /// Returns the number of nodes that serve an activity.
    fn servers(&self, activity: &ActivityRecord) -> usize {
        let handlers = self.nodes.iter().map(|node| &node.info.handlers);
        handlers.filter(|handlers| handlers.serves(&activity.name, activity.tag.as_deref())).count()
    }

    fn waits(&self, waits: &[OpenWait]) -> Why {
        // An event beside timers is the usual wait with a limit.
        let others = || waits.iter().filter(|wait| !matches!(wait.operation, Waiting::Timer { .. }));
        let due = |wait: &OpenWait| match wait.operation {
            Waiting::Timer { due } => Some(due),
            _ => None,
        };
        let first_due = waits.iter().filter_map(due).min();
        if let (Some(wait), None, Some(due)) = (others().next(), others().nth(1), first_due) {
            let mut why = self.wait(wait);
            why.text = format!("{} At most until {due}.", why.text);
            why.until = Some(why.until.map_or(due, |until| until.min(due)));
            return why;
        }
        let calls: HashSet<_> = waits.iter().map(|wait| wait.call).collect();
        let execution = self.status.execution.number;
        let open = self.activities.open.iter().filter(|a| a.execution == execution && calls.contains(&a.call));
        let open: Vec<_> = open.collect();
        let running = open.iter().filter(|activity| activity.owner.is_some()).count();
        let failing = open.iter().filter(|activity| activity.attempt > 1).count();
        let queued = open.len() - running;
        let count = |is: fn(&Waiting) -> bool| waits.iter().filter(|wait| is(&wait.operation)).count();
        let parts = [
            (count(|w| matches!(w, Waiting::Activity { .. })), "activity", "activities"),
            (count(|w| matches!(w, Waiting::Child { .. })), "child", "children"),
            (count(|w| matches!(w, Waiting::Event { .. })), "event", "events"),
            (count(|w| matches!(w, Waiting::Timer { .. })), "timer", "timers"),
        ];
        let parts = parts
            .iter()
            .filter(|(n, ..)| *n > 0)
            .map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many }));
        let parts: Vec<_> = parts.collect();
        let of = if self.made > waits.len() { format!(" of {}", self.made) } else { String::new() };
        let mut text = match &parts[..] {
            [_] => format!("It waits for {}{of} {}", waits.len(), self.kind_and_name(waits)),
            _ => format!("It waits for {}{of} calls: {}", waits.len(), parts.join(", ")),
        };
        if running + queued > 0 {
            text += &format!(" ({running} running, {queued} queued");
            text += &if failing > 0 { format!(", {failing} failed before)") } else { ")".to_owned() };
        }
        if let Some(last) = self.activities.failed.iter().max_by_key(|failed| failed.failed.ended) {
            text += &format!("; last failure {} ago: `{}`", self.ago(last.failed.ended), last.failed.error);
        }
        let (open, made) = (waits.len(), self.made.max(waits.len()));
        let mut why = Why::new(WhyState::Many, text + ".").fact(Fact::Open { open, made, running, queued, failing });
        (why.since, why.until) = (waits.iter().map(|wait| wait.since).min(), first_due);
        why
    }

    /// Names the operation of several waits of one kind.
    fn kind_and_name(&self, waits: &[OpenWait]) -> String {
        let of = |wait: &OpenWait| match &wait.operation {
            Waiting::Activity { name, .. } => ("activities", Some(name.clone())),
            Waiting::Child { name, .. } => ("children", Some(name.clone())),
            Waiting::Event { name } => ("events", Some(name.clone())),
            Waiting::Timer { .. } => ("timers", None),
        };
        let Some((kind, name)) = waits.first().map(of) else { return String::new() };
        match name.filter(|name| waits.iter().all(|wait| of(wait).1.as_ref() == Some(name))) {
            Some(name) => format!("{kind} `{name}`"),
            None => kind.to_owned(),
        }
    }

    fn ended(&self) -> Why {
        let at = self.status.finished_at.unwrap_or(self.status.updated_at);
        let after = Span(at.since(self.status.created_at));
        let end = match self.last.as_ref().map(|last| (&last.kind, &last.payload)) {
            Some((EventKind::Decision(decision), payload)) => self.end(decision, payload),
            _ => self.status.status.to_string(),
        };
        let mut why = Why::new(WhyState::Ended, format!("It ended at {at} after {after}: {end}.")).since(at);
        let reset = (self.status.status == InstanceStatus::Failed).then_some(Action::Reset);
        why.actions = reset.into_iter().chain([Action::Fork]).collect();
        why.facts.extend(self.status.cause.clone().map(Fact::Cause));
        if self.status.status == InstanceStatus::Failed {
            why.blame = Blame::Code;
        }
        why
    }

    fn end(&self, decision: &Decision, payload: &Payload) -> String {
        let by = |by: Option<&str>| by.map(|by| format!(" by {by}")).unwrap_or_default();
        match decision {
            Decision::Failed { failure: Failure::Application } => {
                format!("failed with `{}`", shortened(&error_value_text(payload)))
            }
            Decision::Cancelled { reason } => format!("cancelled{}: {reason}", by(self.ended_by.as_deref())),
            Decision::Terminated { reason, by: author } => {
                format!("terminated{}: {reason}", by(author.as_deref().or(self.ended_by.as_deref())))
            }
            other => other.to_string(),
        }
    }
}
