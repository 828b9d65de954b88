//! The steps that many cases share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use semver::Version;
use uuid::Uuid;

use super::Subject;
use crate::clock::Timestamp;
use crate::id::{ActivityId, CallId, CommitId, EventId, ExecutionId, Identity, InstanceId, MessageId, NodeId};
use crate::payload::Payload;
use crate::provider::*;

/// A store, and a process that has opened it without joining.
pub(super) struct World {
    subject: Arc<dyn Subject>,
    pub(super) provider: Arc<dyn Provider>,
}

/// A process that has joined as a node.
pub(super) struct Member {
    subject: Arc<dyn Subject>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) lease: Lease,
    /// The number of the last claim that it has received.
    claim: AtomicU64,
}

pub(super) fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("the cases use good ids")
}

/// Returns the identity of the instance that [`new_instance`] makes.
pub(super) fn identity(name: &str) -> Identity {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    Identity(Uuid::from_u128(hasher.finish().into()))
}

/// Returns an execution of the instance that [`new_instance`] makes.
pub(super) fn execution(name: &str, number: u64) -> ExecutionId {
    ExecutionId { instance: id(name), identity: identity(name), number }
}

pub(super) fn activity_id(name: &str, number: u64, call: u64) -> ActivityId {
    ActivityId { execution: execution(name, number), call: CallId(call) }
}

/// Returns second `n` of the time that the cases use.
pub(super) fn at(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_000)
}

pub(super) fn v1() -> Version {
    Version::new(1, 0, 0)
}

pub(super) fn text(value: &str) -> Payload {
    Payload::encode(value).expect("a text can be encoded")
}

/// Describes a new node that has the code of orchestration `flow` 1.0.0 and of activity `work`.
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
        details: Default::default(),
    }
}

pub(super) fn message(data: &str) -> MessageRow {
    MessageRow::new(data)
}

pub(super) fn event(n: u64, data: &str) -> EventRow {
    let (data, decision) = (data.to_owned(), n.is_multiple_of(2));
    let place = decision.then(|| format!("src/flow.rs:{}:5", n % 3).into());
    EventRow { id: EventId(n), time: at(1), decision, format: 1, data, payload: Payload::NULL, at: place }
}

/// Makes an instance whose identity is derived from its name.
pub(super) fn new_instance(name: &str) -> NewInstance {
    let start = MessageRow { id: MessageId(identity(name).0), ..message("start") };
    NewInstance::new(id(name), "flow", start)
}

/// Makes an instance with the id of [`new_instance`] and another identity.
pub(super) fn another(name: &str) -> NewInstance {
    NewInstance::new(id(name), "flow", message("start"))
}

pub(super) fn eager(new: NewInstance) -> NewInstance {
    NewInstance { eager: true, ..new }
}

pub(super) fn new_activity(call: u64, scheduled: u64) -> NewActivity {
    NewActivity::new(CallId(call), EventId(scheduled), "work")
}

/// Makes a turn without content, after event `after`.
pub(super) fn turn(name: &str, number: u64, after: u64) -> Turn {
    Turn { version: Some(v1()), ..Turn::new(execution(name, number), EventId(after), at(2)) }
}

/// Makes a turn that writes one event and sets the state `then`.
pub(super) fn ending(name: &str, number: u64, after: u64, then: Then) -> Turn {
    Turn { events: vec![event(after + 1, "end")], then, ..turn(name, number, after) }
}

/// Turns a turn of [`new_instance`] into a turn of another instance with its id.
pub(super) fn turn_of(new: &NewInstance, turn: Turn) -> Turn {
    let execution = ExecutionId { number: turn.execution.number, ..new.first_execution() };
    Turn { execution, ..turn }
}

pub(super) fn suspended() -> Then {
    Then::Suspend { reason: "\"why\"".to_owned() }
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
    Outgoing { to: id(to), identity: None, message: message(data) }
}

/// Returns the tenure of activity 1 of the first execution.
pub(super) fn tenure(name: &str, attempt: u32, claim: u64) -> Tenure {
    Tenure { activity: activity_id(name, 1, 1), attempt, claim }
}

/// Returns the tenure by which a node owns an activity that it has claimed.
pub(super) fn tenure_of(activity: &AcquiredActivity) -> Tenure {
    Tenure { activity: activity.id.clone(), attempt: activity.attempt, claim: activity.claim }
}

pub(super) fn outcome(tenure: Tenure) -> Write {
    Write::Outcome { tenure, message: message("outcome") }
}

pub(super) fn retry(tenure: Tenure, second: i64) -> Write {
    let failed = FailedAttempt { began: at(second - 1), ended: at(second), error: format!("no {}", tenure.attempt) };
    Write::Retry { tenure, visible_at: at(second), failed: Box::new(failed), cause: Some("no #".to_owned()) }
}

pub(super) fn park(tenure: Tenure) -> Write {
    Write::Park { tenure, reason: "\"no\"".to_owned(), cause: Some("DUR0007: no".to_owned()) }
}

pub(super) fn send_request(to: &str, message: MessageRow) -> SendRequest {
    SendRequest { to: id(to), message, lease: None, time: at(2), resent: false }
}

/// Returns the answer to a submission about an instance of [`new_instance`] that has no owner.
pub(super) fn unowned(name: &str) -> Submitted {
    Submitted { owner: None, identity: Some(identity(name)), number: None, written: true }
}

/// Returns the instance with this name from an answer.
pub(super) fn find<'a>(acquired: &'a Acquired, name: &str) -> &'a AcquiredInstance {
    let found = acquired.instances.iter().find(|instance| instance.execution.instance == id(name));
    found.expect("the answer has the instance")
}

pub(super) fn names(acquired: &Acquired) -> Vec<&str> {
    acquired.instances.iter().map(|instance| instance.execution.instance.as_str()).collect()
}

pub(super) fn data(messages: &[MessageRow]) -> Vec<&str> {
    messages.iter().map(|message| message.data.as_str()).collect()
}

impl World {
    /// Returns the store as the process of a node has opened it.
    pub(super) fn through(&self, member: &Member) -> Self {
        Self { subject: self.subject.clone(), provider: member.provider.clone() }
    }

    pub(super) fn new(subject: Arc<dyn Subject>) -> Self {
        Self { provider: subject.open(), subject }
    }

    /// Joins from another process, with build `a`.
    pub(super) async fn join(&self) -> Member {
        self.join_as(&info("a")).await
    }

    pub(super) async fn join_as(&self, info: &NodeInfo) -> Member {
        let provider = self.subject.open();
        let lease = provider.join(info).await.expect("join");
        Member { subject: self.subject.clone(), provider, lease, claim: AtomicU64::new(0) }
    }

    pub(super) async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        let mut results = self.provider.submit(vec![submission]).await.expect("submit");
        assert_eq!(results.len(), 1, "one result per entry");
        results.remove(0)
    }

    /// Starts an instance without an owner, in second 1.
    pub(super) async fn start(&self, name: &str) -> NewInstance {
        self.start_new(new_instance(name)).await
    }

    pub(super) async fn start_new(&self, new: NewInstance) -> NewInstance {
        let started = self.submit(start(new.clone(), IfExists::Error, None)).await.expect("start");
        assert_eq!(started, unowned(new.instance.as_str()));
        new
    }

    /// Starts an instance without an owner, from a client whose clock shows `time`.
    pub(super) async fn start_by(&self, time: Timestamp, new: NewInstance) {
        let request = StartRequest { new, if_exists: IfExists::Error, lease: None, time, resent: false };
        self.submit(Submission::Start(request)).await.expect("start");
    }

    /// Starts an instance that the node owns from the beginning.
    pub(super) async fn start_owned(&self, member: &Member, name: &str) -> NewInstance {
        let new = eager(new_instance(name));
        let started = self.submit(start(new.clone(), IfExists::Error, Some(member.lease))).await;
        assert_eq!(started, Ok(Submitted { number: Some(1), ..member.owned(name) }));
        new
    }

    /// Replaces a finished instance by another one with its id, which `owner` owns from the beginning.
    pub(super) async fn replace(&self, name: &str, owner: Option<&Member>) -> NewInstance {
        let new = NewInstance { eager: owner.is_some(), ..another(name) };
        let lease = owner.map(|member| member.lease);
        self.submit(start(new.clone(), IfExists::Replace, lease)).await.expect("replace");
        new
    }

    pub(super) async fn send(&self, to: &str, message: MessageRow) -> Result<Submitted, SubmitError> {
        self.send_at(at(2), to, message).await
    }

    /// Sends a message from a client whose clock shows `time`.
    pub(super) async fn send_at(
        &self,
        time: Timestamp,
        to: &str,
        message: MessageRow,
    ) -> Result<Submitted, SubmitError> {
        self.submit(Submission::Send(SendRequest { time, ..send_request(to, message) })).await
    }

    pub(super) async fn resume(&self, name: &str) -> Result<Submitted, SubmitError> {
        self.submit(Submission::Resume { instance: id(name), time: at(5) }).await
    }

    /// Returns the part of the provider that lists and removes.
    pub(super) fn admin(&self) -> &dyn Admin {
        self.provider.admin().expect("these cases need an Admin")
    }

    /// Lists the nodes that are members, if the provider can list.
    pub(super) async fn nodes(&self) -> Option<Vec<NodeRecord>> {
        match self.provider.admin() {
            Some(admin) => Some(admin.nodes().await.expect("list nodes")),
            None => None,
        }
    }

    pub(super) async fn delete(&self, name: &str) {
        assert_eq!(self.admin().delete(&[id(name)], &[]).await.expect("delete"), [Ok(())]);
    }

    /// Prunes in batches of `limit` until nothing is left. Returns the number of executions that each batch removed.
    pub(super) async fn prune(&self, filter: &Filter, before: Timestamp, limit: usize) -> Vec<u64> {
        let (mut batch, mut removed) = (Page::new(limit), Vec::new());
        loop {
            let pruned = self.admin().prune(filter, before, &batch).await.expect("prune");
            removed.push(pruned.executions);
            batch.after = pruned.next;
            if batch.after.is_none() {
                return removed;
            }
        }
    }

    pub(super) async fn record(&self, name: &str) -> InstanceRecord {
        self.find(name).await.expect("the instance exists")
    }

    pub(super) async fn find(&self, name: &str) -> Option<InstanceRecord> {
        self.provider.instance(&id(name)).await.expect("read an instance")
    }

    pub(super) async fn history(&self, name: &str, number: u64) -> Vec<EventRow> {
        self.history_of(&execution(name, number)).await
    }

    pub(super) async fn history_of(&self, execution: &ExecutionId) -> Vec<EventRow> {
        let (mut events, mut after) = (Vec::new(), EventId(0));
        loop {
            let page = self.provider.history(execution, after).await.expect("read a history");
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
    Submission::Start(StartRequest { new, if_exists, lease, time: at(1), resent: false })
}

impl Member {
    /// Returns the answer to a submission about an instance of [`new_instance`] that the node owns.
    pub(super) fn owned(&self, name: &str) -> Submitted {
        Submitted { owner: Some(self.lease.epoch), ..unowned(name) }
    }

    /// Returns the placement of a message to an instance of [`new_instance`] that the node owns.
    pub(super) fn placed(&self, name: &str, number: u64) -> Placement {
        Placement::Owned { epoch: self.lease.epoch, identity: identity(name), number: Some(number) }
    }

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

    /// Requests work after the last claim that the node has received.
    pub(super) async fn acquire(&self, want: Want) -> Acquired {
        let acquired = self.request(Want { claim: self.claim.load(Ordering::Relaxed), ..want }).await;
        self.claim.store(acquired.claim, Ordering::Relaxed);
        acquired
    }

    /// Requests work with the claim that `want` names. [`Member::acquire`] does not learn of the answer, as if it were lost.
    pub(super) async fn request(&self, want: Want) -> Acquired {
        self.provider.acquire(&self.lease, want).await.expect("acquire")
    }

    /// Requests no work: the answer holds the mail and the cancellations of the node.
    pub(super) async fn mail(&self) -> Acquired {
        self.acquire(Want::new(at(3))).await
    }

    /// Loads an instance that the node owns, with all its messages or those with a number above `heard`.
    pub(super) async fn load_after(&self, name: &str, heard: Option<u64>) -> AcquiredInstance {
        let load = vec![Load { instance: id(name), heard }];
        let mut loaded = self.acquire(Want { load, ..Want::new(at(3)) }).await.instances;
        loaded.retain(|instance| instance.execution.instance == id(name));
        assert_eq!(loaded.len(), 1, "an owned instance is returned once");
        loaded.remove(0)
    }

    pub(super) async fn load(&self, name: &str) -> AcquiredInstance {
        self.load_after(name, None).await
    }

    pub(super) async fn renew(&self) -> Renewal {
        self.renew_with(&NodeReport::default()).await
    }

    pub(super) async fn renew_with(&self, report: &NodeReport) -> Renewal {
        self.provider.renew(&self.lease, report).await.expect("renew")
    }

    pub(super) async fn holds(&self) -> bool {
        matches!(self.renew().await, Renewal::Held { .. })
    }

    pub(super) async fn release(&self, name: &str) {
        let AcquiredInstance { execution, claim, .. } = self.load(name).await;
        self.commit(Write::ReleaseInstance { execution, claim }).await.expect("release");
    }

    /// Dies without leaving.
    pub(super) fn die(self) -> Lease {
        self.subject.kill(self.provider, self.lease);
        self.lease
    }
}

/// Starts an instance whose first turn schedules activity 1 with event 2. Returns the node that owns both.
pub(super) async fn with_activity(world: &World, name: &str) -> Member {
    let node = world.join().await;
    schedule(world, &node, name, NewActivity { eager: true, ..new_activity(1, 2) }).await;
    node
}

/// Starts an instance that the node owns, and whose first turn schedules an activity.
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

/// Kills nodes that have claimed an item, until the item is in quarantine.
pub(super) async fn crash_often(world: &World) {
    for _ in 0..QUARANTINE {
        let node = world.join().await;
        let acquired = node.acquire(want(at(3))).await;
        assert_eq!(acquired.instances.len() + acquired.activities.len(), 1);
        node.die();
    }
}
