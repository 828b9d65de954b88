//! Short words for what the cases do over and over.

use std::sync::Arc;
use std::time::Duration;

use semver::Version;

use super::Subject;
use crate::clock::Timestamp;
use crate::id::{ActivityId, CallId, CommitId, EventId, ExecutionId, InstanceId, NodeId};
use crate::payload::Payload;
use crate::provider::*;

/// A store, and a process on it that has joined as a node once it has been asked to.
pub(super) struct World {
    subject: Arc<dyn Subject>,
    pub(super) provider: Arc<dyn Provider>,
}

/// A process that has joined.
pub(super) struct Member {
    subject: Arc<dyn Subject>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) lease: Lease,
}

pub(super) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("the cases use good ids")
}

pub(super) fn execution(name: &str, number: u64) -> ExecutionId {
    ExecutionId { instance: id(name), number }
}

pub(super) fn activity_id(name: &str, number: u64, call: u64) -> ActivityId {
    ActivityId { execution: execution(name, number), call: CallId(call) }
}

/// Second `n` of the cases' time.
pub(super) fn at(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_000)
}

pub(super) fn v1() -> Version {
    Version::new(1, 0, 0)
}

pub(super) fn text(value: &str) -> Payload {
    Payload::encode(value).expect("a text can be encoded")
}

/// A node of build `build` that has the code of orchestration `flow` 1.0.0 and of activity `work`.
pub(super) fn info(build: &str) -> NodeInfo {
    NodeInfo {
        id: NodeId::new(),
        name: "conformance".to_owned(),
        build: build.to_owned(),
        handlers: Handlers {
            orchestrations: vec![("flow".to_owned(), v1())],
            activities: vec!["work".to_owned()],
            tags: None,
        },
        lease_time: Duration::from_secs(3600),
    }
}

pub(super) fn message(data: &str) -> MessageRow {
    MessageRow::new(data)
}

pub(super) fn event(n: u64, data: &str) -> EventRow {
    let data = data.to_owned();
    EventRow { id: EventId(n), time: at(1), decision: n.is_multiple_of(2), format: 1, data, payload: Payload::NULL }
}

pub(super) fn new_instance(name: &str) -> NewInstance {
    NewInstance::new(id(name), "flow", message("start"))
}

pub(super) fn new_activity(call: u64, scheduled: u64) -> NewActivity {
    NewActivity::new(CallId(call), EventId(scheduled), "work")
}

/// A turn without content, behind event `after`.
pub(super) fn turn(name: &str, number: u64, after: u64) -> Turn {
    Turn { version: Some(v1()), ..Turn::new(execution(name, number), EventId(after), at(2)) }
}

/// A turn that writes one event, and `then`.
pub(super) fn ending(name: &str, number: u64, after: u64, then: Then) -> Turn {
    Turn { events: vec![event(after + 1, "end")], then, ..turn(name, number, after) }
}

pub(super) fn completed() -> Then {
    Then::Finish { status: InstanceStatus::Completed }
}

pub(super) fn want(now: Timestamp) -> Want {
    Want {
        orchestrations: Arc::new([("flow".to_owned(), v1())]),
        instances: 100,
        activities: vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: 100 }],
        ..Want::new(now)
    }
}

pub(super) fn outgoing(to: &str, data: &str) -> Outgoing {
    Outgoing { to: id(to), message: message(data) }
}

pub(super) fn data(messages: &[MessageRow]) -> Vec<&str> {
    messages.iter().map(|message| message.data.as_str()).collect()
}

impl World {
    /// The same store through the process of a node.
    pub(super) fn through(&self, member: &Member) -> Self {
        Self { subject: self.subject.clone(), provider: member.provider.clone() }
    }

    pub(super) fn new(subject: Arc<dyn Subject>) -> Self {
        Self { provider: subject.open(), subject }
    }

    /// Another process joins, with build `a`.
    pub(super) async fn join(&self) -> Member {
        self.join_as(&info("a")).await
    }

    pub(super) async fn join_as(&self, info: &NodeInfo) -> Member {
        let provider = self.subject.open();
        let lease = provider.join(info).await.expect("join");
        Member { subject: self.subject.clone(), provider, lease }
    }

    pub(super) async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        let mut results = self.provider.submit(vec![submission]).await.expect("submit");
        assert_eq!(results.len(), 1, "one result per entry");
        results.remove(0)
    }

    /// Starts an instance that nobody owns, in second 1.
    pub(super) async fn start(&self, name: &str) -> NewInstance {
        self.start_new(new_instance(name)).await
    }

    pub(super) async fn start_new(&self, new: NewInstance) -> NewInstance {
        let started = self.submit(start(new.clone(), IfExists::Error, None)).await.expect("start");
        assert_eq!(started, Submitted { owner: None, execution: 1, written: true, last_found: None });
        new
    }

    /// Starts an instance that nobody owns, by a clock that says so.
    pub(super) async fn start_by(&self, time: Timestamp, new: NewInstance) {
        let start = Submission::Start { new, if_exists: IfExists::Error, lease: None, time, again: false };
        self.submit(start).await.expect("start");
    }

    /// Starts an instance that the node owns from the beginning.
    pub(super) async fn start_owned(&self, member: &Member, name: &str) -> NewInstance {
        let new = NewInstance { eager: true, ..new_instance(name) };
        let started = self.submit(start(new.clone(), IfExists::Error, Some(member.lease))).await.expect("start");
        assert_eq!(
            started,
            Submitted { owner: Some(member.lease.epoch), execution: 1, written: true, last_found: None }
        );
        new
    }

    pub(super) async fn send(&self, to: &str, message: MessageRow) -> Result<Submitted, SubmitError> {
        self.send_at(at(2), to, message).await
    }

    /// Sends with a clock that says so.
    pub(super) async fn send_at(
        &self,
        time: Timestamp,
        to: &str,
        message: MessageRow,
    ) -> Result<Submitted, SubmitError> {
        self.submit(Submission::Send { to: id(to), message, lease: None, time, again: false }).await
    }

    pub(super) async fn resume(&self, name: &str) -> Result<Submitted, SubmitError> {
        self.submit(Submission::Resume { instance: id(name), time: at(5) }).await
    }

    pub(super) async fn record(&self, name: &str) -> InstanceRecord {
        self.find(name).await.expect("the instance is there")
    }

    pub(super) async fn find(&self, name: &str) -> Option<InstanceRecord> {
        self.provider.instance(&id(name)).await.expect("read an instance")
    }

    pub(super) async fn history(&self, name: &str, number: u64) -> Vec<EventRow> {
        let (mut events, mut after) = (Vec::new(), EventId(0));
        loop {
            let page = self.provider.history(&execution(name, number), after).await.expect("read a history");
            assert!(!page.more || !page.events.is_empty(), "a page before the last is not empty");
            after = page.events.last().map_or(after, |event| event.id);
            events.extend(page.events);
            if !page.more {
                return events;
            }
        }
    }
}

pub(super) fn start(new: NewInstance, if_exists: IfExists, lease: Option<Lease>) -> Submission {
    Submission::Start { new, if_exists, lease, time: at(1), again: false }
}

impl Member {
    pub(super) async fn commit(&self, write: Write) -> Result<Committed, CommitError> {
        self.commit_as(CommitId::new(), write).await
    }

    pub(super) async fn commit_as(&self, id: CommitId, write: Write) -> Result<Committed, CommitError> {
        self.commit_with(&self.lease, id, write).await
    }

    pub(super) async fn commit_with(
        &self,
        lease: &Lease,
        id: CommitId,
        write: Write,
    ) -> Result<Committed, CommitError> {
        let mut results = self.provider.commit(lease, vec![Arc::new(Commit { id, write })]).await.expect("commit");
        assert_eq!(results.len(), 1, "one result per entry");
        results.remove(0)
    }

    pub(super) async fn turn(&self, turn: Turn) -> Result<Committed, CommitError> {
        self.commit(Write::Turn(Box::new(turn))).await
    }

    pub(super) async fn acquire(&self, want: Want) -> Acquired {
        self.provider.acquire(&self.lease, want).await.expect("acquire")
    }

    pub(super) async fn renew(&self) -> Renewal {
        self.provider.renew(&self.lease).await.expect("renew")
    }

    pub(super) async fn release(&self, name: &str) {
        self.commit(Write::ReleaseInstance { instance: id(name) }).await.expect("release");
    }

    /// Dies without a word.
    pub(super) fn die(self) -> Lease {
        self.subject.kill(self.provider, self.lease);
        self.lease
    }
}

/// A node, and an instance that it owns, whose first turn scheduled activity 1 with event 2, owned by the node.
pub(super) async fn with_activity(world: &World, name: &str) -> Member {
    let node = world.join().await;
    schedule(world, &node, name, NewActivity { eager: true, ..new_activity(1, 2) }).await;
    node
}

/// Starts an instance whose first turn schedules an activity.
pub(super) async fn schedule(world: &World, node: &Member, name: &str, activity: NewActivity) {
    let new = world.start_owned(node, name).await;
    let scheduled = EventRow { payload: text("input"), ..event(2, "scheduled") };
    let turn = Turn {
        events: vec![event(1, "started"), scheduled],
        consumed: vec![new.start.id],
        activities: vec![activity],
        ..turn(name, 1, 0)
    };
    node.turn(turn).await.expect("the first turn");
}
