//! Two nodes, some instances, and the requests that meet. All ids are made once, so that several providers can be compared.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use duroxide::Filter;
use duroxide::id::{ActivityId, AuditId, CallId, CommitId, EventId, ExecutionId, NodeId};
use duroxide::provider::*;
use duroxide::{InstanceId, Payload, Timestamp};
use futures_util::future::join_all;
use semver::Version;

use super::program::Side;

/// A request. The first node owns the instance `owned` and one of its two activities; the other activity and `idle` have no
/// owner; `done` has finished, `stuck` is suspended, and `fresh` does not exist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Op {
    StartFresh,
    StartFreshOwned,
    AttachFresh,
    ReplaceDone,
    SendFresh,
    SendOwned,
    SendIdle,
    SendDone,
    SendStuck,
    TurnOwned,
    FinishOwned,
    StartChildFresh,
    Outcome,
    Retry,
    ReleaseActivity,
    Park,
    ReleaseOwned,
    ContinueOwned,
    SuspendOwned,
    TerminateOwned,
    TerminateIdle,
    PauseOwned,
    PauseIdle,
    Resume,
    Wake,
    DropMessage,
    GraftOwned,
    GraftDone,
    RedactDone,
    Delete,
    Prune,
    Claim,
    ClaimAll,
    Join,
    Leave,
    Renew,
    TakeOver,
    StartWithin,
    RaiseWithinOwned,
    RaiseWithinIdle,
    OutcomeWithin,
    DeliverOwned,
    DeliverIdle,
    DeliverStuck,
}

impl Op {
    pub(super) const ALL: &[Self] = &[
        Self::StartFresh,
        Self::StartFreshOwned,
        Self::AttachFresh,
        Self::ReplaceDone,
        Self::SendFresh,
        Self::SendOwned,
        Self::SendIdle,
        Self::SendDone,
        Self::SendStuck,
        Self::TurnOwned,
        Self::FinishOwned,
        Self::StartChildFresh,
        Self::Outcome,
        Self::Retry,
        Self::ReleaseActivity,
        Self::Park,
        Self::ReleaseOwned,
        Self::ContinueOwned,
        Self::SuspendOwned,
        Self::TerminateOwned,
        Self::TerminateIdle,
        Self::PauseOwned,
        Self::PauseIdle,
        Self::Resume,
        Self::Wake,
        Self::DropMessage,
        Self::GraftOwned,
        Self::GraftDone,
        Self::RedactDone,
        Self::Delete,
        Self::Prune,
        Self::Claim,
        Self::ClaimAll,
        Self::Join,
        Self::Leave,
        Self::Renew,
        Self::TakeOver,
        Self::StartWithin,
        Self::RaiseWithinOwned,
        Self::RaiseWithinIdle,
        Self::OutcomeWithin,
        Self::DeliverOwned,
        Self::DeliverIdle,
        Self::DeliverStuck,
    ];

    /// Returns true if both requests concern an instance, or one of them concerns a node and so all of its items. Deliveries
    /// from the outbox are made one after another.
    pub(super) fn can_meet(self, other: Self) -> bool {
        if self.is_delivery() && other.is_delivery() {
            return false;
        }
        let (own, others) = (self.instances(), other.instances());
        own.is_empty() || others.is_empty() || own.iter().any(|name| others.contains(name))
    }

    pub(super) fn is_delivery(self) -> bool {
        matches!(self, Self::DeliverOwned | Self::DeliverIdle | Self::DeliverStuck)
    }

    fn instances(self) -> &'static [&'static str] {
        match self {
            Self::StartFresh | Self::StartFreshOwned | Self::AttachFresh | Self::SendFresh | Self::StartWithin => {
                &["fresh"]
            }
            Self::StartChildFresh => &["fresh", "owned"],
            Self::SendOwned
            | Self::TurnOwned
            | Self::FinishOwned
            | Self::Outcome
            | Self::Retry
            | Self::ReleaseActivity
            | Self::Park
            | Self::ReleaseOwned
            | Self::ContinueOwned
            | Self::SuspendOwned
            | Self::TerminateOwned
            | Self::PauseOwned
            | Self::Wake
            | Self::GraftOwned
            | Self::RaiseWithinOwned
            | Self::OutcomeWithin
            | Self::DeliverOwned => &["owned"],
            Self::SendIdle
            | Self::TerminateIdle
            | Self::PauseIdle
            | Self::DropMessage
            | Self::RaiseWithinIdle
            | Self::DeliverIdle => &["idle"],
            Self::ReplaceDone | Self::SendDone | Self::GraftDone | Self::RedactDone => &["done"],
            Self::Delete => &["done", "idle"],
            // A pair with an end of an instance.
            Self::Prune => &["done", "owned", "idle"],
            Self::SendStuck | Self::Resume | Self::DeliverStuck => &["stuck"],
            Self::Claim | Self::ClaimAll | Self::Join | Self::Leave | Self::Renew | Self::TakeOver => &[],
        }
    }
}

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a good id")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn new_instance(name: &str) -> NewInstance {
    NewInstance::new(id(name), "flow", MessageRow::new("start"))
}

fn event(n: u64) -> EventRow {
    EventRow {
        id: EventId(n),
        time: at(1),
        decision: n.is_multiple_of(2),
        format: 1,
        data: n.to_string(),
        payload: Payload::NULL,
        at: None,
    }
}

fn info() -> NodeInfo {
    NodeInfo {
        id: NodeId::new(),
        name: "test".to_owned(),
        build: "a".to_owned(),
        handlers: Handlers {
            orchestrations: vec![("flow".to_owned(), Version::new(1, 0, 0))],
            activities: vec!["work".to_owned()],
            tags: None,
        },
        lease_time: Duration::from_secs(3600),
        details: Default::default(),
    }
}

fn want(claim: u64) -> Want {
    let orchestrations = Arc::new([("flow".to_owned(), Version::new(1, 0, 0))]);
    let activities = vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 100 }];
    Want { orchestrations, instances: 100, activities, claim, ..Want::new(at(100)) }
}

/// The rows and ids of the requests. The two requests of a pair differ in their ids, also if they do the same.
pub(super) struct Scenario {
    nodes: [NodeInfo; 4],
    owned: NewInstance,
    idle: NewInstance,
    done: NewInstance,
    stuck: NewInstance,
}

impl Scenario {
    pub(super) fn new() -> Self {
        let [owned, idle, done, stuck] = ["owned", "idle", "done", "stuck"].map(new_instance);
        Self { nodes: [info(), info(), info(), info()], owned, idle, done, stuck }
    }

    /// Makes the state before the requests. Returns the leases of the two nodes.
    pub(super) async fn prepare(&self, provider: &dyn Provider) -> [Lease; 2] {
        let leases =
            [provider.join(&self.nodes[0]).await.expect("join"), provider.join(&self.nodes[1]).await.expect("join")];
        let start = |new: &NewInstance, eager: bool| {
            let (new, lease) = (NewInstance { eager, ..new.clone() }, eager.then_some(leases[0]));
            Submission::Start(StartRequest { new, if_exists: IfExists::Error, lease, time: at(1), resent: false })
        };
        let starts = [(&self.owned, true), (&self.idle, false), (&self.done, true), (&self.stuck, true)];
        let starts = starts.map(|(new, eager)| start(new, eager)).to_vec();
        for started in provider.submit(starts).await.expect("submit") {
            started.expect("started");
        }
        let first = |new: &NewInstance, then| Turn {
            events: vec![event(1), event(2), event(3)],
            consumed: vec![new.start.id],
            then,
            ..Turn::new(new.first_execution(), EventId(0), at(2))
        };
        let activity = |call, eager| NewActivity { eager, ..NewActivity::new(CallId(call), EventId(call), "work") };
        let owned =
            Turn { activities: vec![activity(2, true), activity(3, false)], ..first(&self.owned, Then::Continue) };
        let done = first(&self.done, Then::Finish { status: InstanceStatus::Completed });
        let stuck = first(&self.stuck, Then::Suspend { reason: "it is stuck".to_owned() });
        let commits = [owned, done, stuck].map(|turn| commit(Write::Turn(Box::new(turn)))).to_vec();
        let done = provider.commit(&leases[0], commits).await.expect("commit");
        done.into_iter().for_each(|done| drop(done.expect("committed")));
        leases
    }

    /// Runs a request, and returns its answer without the ids and epochs in it.
    pub(super) async fn run(&self, op: Op, side: &Side, leases: &[Lease; 2]) -> String {
        let provider = &*side.provider;
        let write = async |turn: Write| {
            let done = provider.commit(&leases[0], vec![commit(turn)]).await.map(|mut done| done.remove(0));
            text(done.map(|done| done.map(|done| (done.repeated, done.starts.len(), done.messages.len()))))
        };
        let submit = async |submission| {
            let done = provider.submit(vec![submission]).await.map(|mut done| done.remove(0));
            text(done.map(|done| done.map(|done| (done.number, done.written))))
        };
        let start = |name, if_exists, lease: Option<Lease>| {
            let new = NewInstance { eager: lease.is_some(), ..new_instance(name) };
            Submission::Start(StartRequest { new, if_exists, lease, time: at(3), resent: false })
        };
        let send = |name| {
            let message = MessageRow::new("event");
            Submission::Send(SendRequest { to: id(name), message, lease: None, time: at(3), resent: false })
        };
        let turn = || Turn { events: vec![event(4)], ..Turn::new(self.owned.first_execution(), EventId(3), at(3)) };
        let finish = || Then::Finish { status: InstanceStatus::Completed };
        let tenure = || {
            let activity = ActivityId { execution: self.owned.first_execution(), call: CallId(2) };
            Tenure { activity, attempt: 1, claim: 0 }
        };
        let execution = self.owned.first_execution();
        let outcome = MessageRow { execution: Some(1), call: Some(CallId(2)), ..MessageRow::new("outcome") };
        let terminate = |turn: Turn| {
            let turn = Box::new(Turn { then: Then::Finish { status: InstanceStatus::Terminated }, ..turn });
            Submission::Terminate { id: CommitId::new(), turn }
        };
        let claim = async |want| match provider.acquire(&leases[1], want).await {
            Ok(acquired) => acquired_text(&acquired, leases[1]),
            Err(error) => format!("{error:?}"),
        };
        let deliver = async |submission| {
            side.deliver(submission).await;
            String::new()
        };
        match op {
            Op::StartFresh => submit(start("fresh", IfExists::Error, None)).await,
            Op::StartFreshOwned => submit(start("fresh", IfExists::Error, Some(leases[0]))).await,
            Op::AttachFresh => submit(start("fresh", IfExists::Attach, None)).await,
            Op::ReplaceDone => submit(start("done", IfExists::Replace, None)).await,
            Op::SendFresh => submit(send("fresh")).await,
            Op::SendOwned => submit(send("owned")).await,
            Op::SendIdle => submit(send("idle")).await,
            Op::SendDone => submit(send("done")).await,
            Op::SendStuck => submit(send("stuck")).await,
            Op::TurnOwned => write(Write::Turn(Box::new(turn()))).await,
            Op::FinishOwned => write(Write::Turn(Box::new(Turn { then: finish(), ..turn() }))).await,
            Op::StartChildFresh => {
                let [accepted, if_taken] = ["accepted", "taken"].map(MessageRow::new);
                let new = NewInstance { eager: true, ..new_instance("fresh") };
                let child = NewChild { new, accepted: Some(accepted), if_taken };
                write(Write::Turn(Box::new(Turn { starts: vec![child], ..turn() }))).await
            }
            Op::Outcome => write(Write::Outcome { tenure: tenure(), message: outcome }).await,
            Op::Retry => {
                let failed = Box::new(FailedAttempt { began: at(2), ended: at(3), error: "no".to_owned() });
                write(Write::Retry { tenure: tenure(), visible_at: at(4), failed, cause: None }).await
            }
            Op::ReleaseActivity => write(Write::ReleaseActivity { tenure: tenure() }).await,
            Op::Park => {
                let reason = "\"no\"".to_owned();
                write(Write::Park { tenure: tenure(), reason, cause: None }).await
            }
            Op::ReleaseOwned => write(Write::ReleaseInstance { execution, claim: 0 }).await,
            Op::ContinueOwned => {
                let next = MessageRow { lane: Lane::Start, execution: Some(2), ..MessageRow::new("next") };
                let messages = vec![Outgoing { to: id("owned"), identity: None, message: next }];
                write(Write::Turn(Box::new(Turn { messages, then: Then::ContinueAsNew { version: None }, ..turn() })))
                    .await
            }
            Op::SuspendOwned => {
                let then = Then::Suspend { reason: "\"stuck\"".to_owned() };
                write(Write::Turn(Box::new(Turn { events: Vec::new(), then, ..turn() }))).await
            }
            Op::TerminateOwned => submit(terminate(turn())).await,
            Op::TerminateIdle => {
                let turn = Turn::new(self.idle.first_execution(), EventId(0), at(3));
                submit(terminate(Turn { events: vec![event(1)], ..turn })).await
            }
            Op::PauseOwned => submit(pause("owned")).await,
            Op::PauseIdle => submit(pause("idle")).await,
            Op::Resume => submit(Submission::Resume { instance: id("stuck"), time: at(3) }).await,
            Op::Wake => {
                let request = WakeRequest { id: CommitId::new(), instance: id("owned"), call: None, time: at(4) };
                submit(Submission::Wake(request)).await
            }
            Op::DropMessage => submit(Submission::Drop { instance: id("idle"), message: self.idle.start.id }).await,
            Op::GraftOwned => submit(graft(self.owned.first_execution())).await,
            Op::GraftDone => submit(graft(self.done.first_execution())).await,
            Op::RedactDone => {
                let request = RedactRequest { execution: self.done.first_execution(), receipt: AuditId::new() };
                submit(Submission::Redact(request)).await
            }
            Op::Delete => {
                let admin = provider.admin().expect("it has an Admin");
                text(admin.delete(&[id("done"), id("idle")], &[]).await)
            }
            Op::Prune => {
                let admin = provider.admin().expect("it has an Admin");
                text(admin.prune(&Filter::default(), at(50), &Page::new(10)).await)
            }
            Op::Claim => claim(Want { instances: 1, activities: Vec::new(), ..want(0) }).await,
            Op::ClaimAll => claim(want(0)).await,
            Op::Join => text(provider.join(&self.nodes[2]).await.map(drop)),
            Op::Leave => text(provider.leave(&leases[0]).await),
            Op::Renew => renewed(provider.renew(&leases[0], &NodeReport::default()).await),
            Op::TakeOver => renewed(provider.renew(&leases[1], &NodeReport::default()).await),
            Op::StartWithin => side.submit_within(start("fresh", IfExists::Error, None)).await,
            Op::RaiseWithinOwned => side.submit_within(send("owned")).await,
            Op::RaiseWithinIdle => side.submit_within(send("idle")).await,
            Op::OutcomeWithin => side.outcome_within(leases[0], tenure(), outcome).await.to_string(),
            Op::DeliverOwned => deliver(send("owned")).await,
            Op::DeliverIdle => deliver(send("idle")).await,
            Op::DeliverStuck => deliver(send("stuck")).await,
        }
    }

    /// Returns the state of all items, as the next owner finds it, and the lease of that owner.
    pub(super) async fn observe(&self, side: &Side, leases: &[Lease; 2]) -> (Vec<String>, Lease) {
        side.delivered().await;
        let provider = &*side.provider;
        let read = async |name| {
            let record = provider.instance(&id(name)).await.expect("read");
            let own = |record: InstanceRecord| (record.status, record.execution.number, record.last_event);
            format!("{name}: {:?}", record.map(own))
        };
        let mut state = join_all(["owned", "idle", "done", "stuck", "fresh"].map(read)).await;
        for lease in leases {
            provider.leave(lease).await.expect("leave");
        }
        let lease = provider.join(&self.nodes[3]).await.expect("join");
        let acquired = provider.acquire(&lease, want(0)).await.expect("acquire");
        state.push(acquired_text(&acquired, lease));
        let rest = provider.acquire(&lease, want(acquired.claim)).await.expect("acquire");
        assert!(rest.activities.is_empty(), "one claim takes all");
        (state, lease)
    }
}

fn pause(name: &str) -> Submission {
    let (reason, cause) = ("\"held\"".to_owned(), "DUR0010: held".to_owned());
    let (id, instance) = (CommitId::new(), id(name));
    Submission::Suspend(SuspendRequest { id, instance, reason, cause, until: None, time: at(3) })
}

/// Replaces an execution, as it is before the pair, by the next one.
fn graft(execution: ExecutionId) -> Submission {
    let message = MessageRow { lane: Lane::Start, execution: Some(execution.number + 1), ..MessageRow::new("grafted") };
    let (consumed, cancelled_activities) = (Vec::new(), Vec::new());
    let next = NextExecution { execution, last_event: EventId(3), consumed, cancelled_activities };
    Submission::Graft(Box::new(Graft {
        id: CommitId::new(),
        target: GraftTarget::Next(next),
        version: None,
        history: Vec::new(),
        activities: Vec::new(),
        messages: vec![StoredMessage { row: message, stored_at: at(3), by_client: false }],
        starts: Vec::new(),
        outgoing: Vec::new(),
        time: at(4),
    }))
}

fn commit(write: Write) -> Arc<Commit> {
    Arc::new(Commit { id: CommitId::new(), write })
}

fn renewed(answer: Result<Renewal, ProviderError>) -> String {
    match answer {
        Ok(Renewal::Held { .. }) => "held".to_owned(),
        other => format!("{other:?}"),
    }
}

fn text(answer: Result<impl Debug, ProviderError>) -> String {
    format!("{answer:?}")
}

/// Describes an answer: its items in the order of their names, and the messages of each in their order.
fn acquired_text(acquired: &Acquired, _: Lease) -> String {
    let instance = |instance: &AcquiredInstance| {
        let messages: Vec<_> = instance.messages.iter().map(|message| (&message.data, message.number)).collect();
        let events = instance.history.events.len();
        let AcquiredInstance { arrivals, crashes, last_event, .. } = instance;
        format!(
            "{}: {arrivals} {messages:?}, {events}/{last_event} events, {crashes} crashes",
            instance.execution.instance
        )
    };
    let activity = |activity: &AcquiredActivity| {
        format!("activity {}, attempt {}, {} crashes", activity.id.call, activity.attempt, activity.crashes)
    };
    let mut items: Vec<String> = acquired.instances.iter().map(instance).collect();
    items.extend(acquired.activities.iter().map(activity));
    items.sort_unstable();
    items.join("; ")
}
