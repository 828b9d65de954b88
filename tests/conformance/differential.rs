//! Drives several providers with one random program. After each step, their answers and their stored state must be equal.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use duroxide::history::{AwaitedKind, Parent, Waits, WaitsFilter};
use duroxide::id::{
    ActivityId, AuditId, BatchId, CallId, CommitId, Epoch, EventId, ExecutionId, Identity, MessageId, NodeId,
};
use duroxide::provider::Lane;
use duroxide::provider::*;
use duroxide::sqlite::SqliteProvider;
use duroxide::{ErrorCode, InstanceId, Payload, Timestamp};
use duroxide_postgres::PostgresProvider;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use semver::Version;

use support::schema::Schema;

use super::renumbered::Renumbered;

const INSTANCES: usize = 4;
const NODES: usize = 3;
/// The number of lists that are compared, and of those that are compared after one step.
const LISTS: usize = 39;
const LISTS_AT_ONCE: usize = 5;
/// The identity of the parent of some children, and the batch of some actions.
static PARENT: LazyLock<Identity> = LazyLock::new(Identity::new);
static BATCH: LazyLock<BatchId> = LazyLock::new(BatchId::new);

/// One step of a program. The numbers are small, so that steps concern the same items.
#[derive(Debug, Clone)]
enum Step {
    Start {
        instance: usize,
        node: Option<usize>,
        policy: u8,
        delay: i64,
        pinned: bool,
        resent: bool,
    },
    Send {
        instance: usize,
        node: Option<usize>,
        delay: i64,
        old: bool,
        large: bool,
        resent: bool,
    },
    Create {
        node: usize,
        instance: usize,
        plan: Plan,
    },
    Turn {
        node: usize,
        instance: usize,
        plan: Plan,
    },
    Activity {
        node: usize,
        pick: usize,
        kind: u8,
        wrong: u8,
    },
    ReleaseInstance {
        node: usize,
        instance: usize,
        wrong: u8,
    },
    Acquire {
        node: usize,
        request: Request,
    },
    Resume {
        instance: usize,
    },
    Suspend {
        instance: usize,
        until: i64,
    },
    Wake {
        instance: usize,
        call: Option<u64>,
    },
    /// Removes the last message that was sent.
    Drop,
    /// Steps whose writes are sent together: each call has several entries.
    Together {
        steps: Vec<Step>,
    },
    Terminate {
        instance: usize,
    },
    /// Continues an instance with a part of its history, or copies it under another id.
    Graft {
        instance: usize,
        copy: Option<usize>,
        keep: usize,
        plan: Plan,
    },
    /// Erases an execution of an instance: the last one, or one before it.
    Redact {
        instance: usize,
        back: u64,
        wrong: bool,
    },
    Renew {
        node: usize,
    },
    Leave {
        node: usize,
        build: u8,
    },
    Delete {
        instance: usize,
    },
    Prune {
        limit: usize,
    },
    Repeat,
    Tick {
        seconds: i64,
    },
}

/// A request for work.
#[derive(Debug, Clone)]
struct Request {
    instances: usize,
    activities: usize,
    alone: bool,
    /// An instance to load, and the number of the message after which to load.
    load: Option<(usize, Option<u64>)>,
    /// True if it acknowledges the last answer.
    acknowledges: bool,
    /// True if its claim is older than that of the last answer.
    is_late: bool,
    /// True if the node does not receive the answer.
    is_lost: bool,
}

/// The content of a turn; the rows that it needs are read from the reference.
#[derive(Debug, Clone)]
struct Plan {
    then: u8,
    events: usize,
    consume: usize,
    schedule: usize,
    eager: bool,
    detached: bool,
    tagged: bool,
    cancel: bool,
    timer: Option<i64>,
    cancel_timers: bool,
    send_to: usize,
    /// The identity that the message names: none, that of the instance, or another.
    identity: u8,
    child: usize,
    outcome: bool,
    wrong: u8,
    large: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let first = (0..10_u8, 0..4_usize, 0..3_usize, 0..3_usize, any::<bool>(), any::<bool>(), any::<bool>());
    let second = (any::<bool>(), prop::option::of(0..20_i64), any::<bool>(), 0..8_usize, 0..3_u8, 0..8_usize);
    (first, second, any::<bool>(), 0..12_u8, any::<bool>()).prop_map(|(first, second, outcome, wrong, large)| {
        let (then, events, consume, schedule, eager, detached, tagged) = first;
        let (cancel, timer, cancel_timers, send_to, identity, child) = second;
        Plan {
            then,
            events,
            consume,
            schedule,
            eager,
            detached,
            tagged,
            cancel,
            timer,
            cancel_timers,
            send_to,
            identity,
            child,
            outcome,
            wrong,
            large,
        }
    })
}

fn request() -> impl Strategy<Value = Request> {
    // All instances or none: a turn can make several that are due at one time, whose order the contract leaves open.
    let wanted = (prop_oneof![Just(0_usize), Just(100)], 0..4_usize, any::<bool>());
    let load = prop::option::of((0..INSTANCES, prop::option::of(0..4_u64)));
    let claims = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2));
    (wanted, load, claims).prop_map(|((instances, activities, alone), load, (acknowledges, is_late, is_lost))| {
        Request { instances, activities, alone, load, acknowledges, is_late, is_lost }
    })
}

fn single_step() -> impl Strategy<Value = Step> {
    let instance = 0..INSTANCES;
    let node = 0..NODES;
    prop_oneof![
        4 => (instance.clone(), prop::option::of(node.clone()), 0..3_u8, 0..6_i64, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(instance, node, policy, delay, pinned, resent)| {
                Step::Start { instance, node, policy, delay, pinned, resent }
            }),
        4 => (instance.clone(), prop::option::of(node.clone()), 0..10_i64, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(instance, node, delay, old, large, resent)| Step::Send { instance, node, delay, old, large, resent }),
        2 => (node.clone(), instance.clone(), plan()).prop_map(
            |(node, instance, plan)| Step::Create { node, instance, plan }),
        12 => (node.clone(), instance.clone(), plan()).prop_map(
            |(node, instance, plan)| Step::Turn { node, instance, plan }),
        6 => (node.clone(), 0..6_usize, 0..4_u8, 0..20_u8).prop_map(
            |(node, pick, kind, wrong)| Step::Activity { node, pick, kind, wrong }),
        2 => (node.clone(), instance.clone(), 0..8_u8).prop_map(
            |(node, instance, wrong)| Step::ReleaseInstance { node, instance, wrong }),
        8 => (node.clone(), request()).prop_map(|(node, request)| Step::Acquire { node, request }),
        2 => instance.clone().prop_map(|instance| Step::Resume { instance }),
        2 => (instance.clone(), 0..12_i64).prop_map(|(instance, until)| Step::Suspend { instance, until }),
        2 => (instance.clone(), prop::option::of(1..4_u64)).prop_map(|(instance, call)| Step::Wake { instance, call }),
        1 => Just(Step::Drop),
        1 => instance.clone().prop_map(|instance| Step::Terminate { instance }),
        2 => (instance.clone(), prop::option::of(instance.clone()), 0..4_usize, plan()).prop_map(
            |(instance, copy, keep, plan)| Step::Graft { instance, copy, keep, plan }),
        3 => (instance.clone(), 0..2_u64, prop::bool::weighted(0.1)).prop_map(
            |(instance, back, wrong)| Step::Redact { instance, back, wrong }),
        1 => node.clone().prop_map(|node| Step::Renew { node }),
        1 => (node, 0..3_u8).prop_map(|(node, build)| Step::Leave { node, build }),
        1 => instance.prop_map(|instance| Step::Delete { instance }),
        1 => (0..5_usize).prop_map(|limit| Step::Prune { limit }),
        3 => Just(Step::Repeat),
        3 => (1..8_i64).prop_map(|seconds| Step::Tick { seconds }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => single_step(),
        1 => prop::collection::vec(single_step(), 2..8).prop_map(|steps| Step::Together { steps }),
    ]
}

/// The state of a node under a lease.
#[derive(Default)]
struct Received {
    claim: u64,
    heard: Vec<Heard>,
    cancelled: Vec<ActivityId>,
}

/// The providers, and the state that a program needs for its next steps.
struct Pair {
    memory: MemoryProvider,
    sqlite: SqliteProvider,
    postgres: Option<Layered<Renumbered<PostgresProvider>>>,
    leases: Vec<Lease>,
    received: BTreeMap<Epoch, Received>,
    /// In microseconds. Grows with every step, so that the items of two steps are due at different times.
    now: i64,
    last_commit: Option<(Lease, Arc<Commit>)>,
    last_start: Option<NewInstance>,
    last_message: Option<(InstanceId, MessageRow)>,
    /// The writes that wait for others, if some are to be sent together.
    held: Option<Held>,
}

/// Writes in the order of their steps.
#[derive(Default)]
struct Held {
    submissions: Vec<Submission>,
    commits: Vec<(Lease, Arc<Commit>)>,
}

fn id(n: usize) -> InstanceId {
    InstanceId::new(format!("instance-{n}")).expect("a good id")
}

fn payload(large: bool) -> Payload {
    Payload::encode(&"v".repeat(if large { 3000 } else { 3 })).expect("encode")
}

fn message(data: &str, large: bool) -> MessageRow {
    MessageRow { payload: payload(large), ..MessageRow::new(data) }
}

fn info(build: u8) -> NodeInfo {
    let later = (build == 2).then(|| ("flow".to_owned(), Version::new(2, 0, 0)));
    let (kind, name, place) = (CodeKind::Activity, "work".to_owned(), Some(format!("src/work.rs:{build}")));
    let entry = CodeEntry { kind, name, version: None, place, package: None, doc: None };
    NodeInfo {
        id: NodeId::new(),
        name: "n".to_owned(),
        build: format!("build {build}"),
        handlers: Handlers {
            orchestrations: [("flow".to_owned(), Version::new(1, 0, 0))].into_iter().chain(later).collect(),
            activities: vec!["work".to_owned()],
            tags: (build == 1).then(|| vec!["gpu".to_owned()]),
        },
        lease_time: Duration::from_secs(3600),
        details: NodeDetails {
            host: (build == 1).then(|| "host".to_owned()),
            process: (build == 1).then_some(7),
            started_at: (build == 1).then(|| Timestamp::from_micros(5)),
            code: Arc::new(BuildCode::new([entry])),
        },
    }
}

/// Makes one request of all, and compares the answers.
macro_rules! both {
    ($pair:ident, $provider:ident => $ask:expr) => {{
        let said = {
            let $provider: &dyn Provider = &$pair.memory;
            $ask.await.expect("memory")
        };
        let sqlite_said = {
            let $provider: &dyn Provider = &$pair.sqlite;
            $ask.await.expect("sqlite")
        };
        assert_eq!(format!("{said:#?}"), format!("{sqlite_said:#?}"), "memory (left) and sqlite answer differently");
        if let Some(postgres) = &$pair.postgres {
            let $provider: &dyn Provider = postgres;
            let other = $ask.await.expect("postgres");
            assert_eq!(format!("{said:#?}"), format!("{other:#?}"), "memory (left) and postgres answer differently");
        }
        said
    }};
}

impl Pair {
    async fn new(folder: &std::path::Path, postgres: Option<PostgresProvider>) -> Self {
        let options = duroxide::sqlite::SqliteOptions::new().durability(duroxide::sqlite::Durability::Relaxed);
        let sqlite = SqliteProvider::open_with(folder.join("pair.db"), options).expect("open");
        let mut pair = Self {
            memory: MemoryProvider::new(),
            sqlite,
            postgres: postgres.map(|postgres| Layered(Renumbered::new(postgres))),
            leases: Vec::new(),
            received: BTreeMap::new(),
            now: 100_000_000,
            last_commit: None,
            last_start: None,
            last_message: None,
            held: None,
        };
        // The first call with a time sets the clocks of the providers.
        let probe = Submission::Resume { instance: id(0), time: pair.time() };
        both!(pair, provider => provider.submit(vec![probe.clone()]));
        for node in 0..NODES {
            let info = info(u8::try_from(node % 2).expect("small"));
            pair.leases.push(both!(pair, provider => provider.join(&info)));
        }
        pair
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn later(&self, seconds: i64) -> Option<Timestamp> {
        (seconds > 0).then(|| Timestamp::from_micros(self.now + seconds * 1_000_000))
    }

    /// Moves a time within its second. No other instance has an activity that is due at the result: the contract leaves
    /// open which of them is claimed first.
    fn within_this_step(&self, ready: Ready) -> Ready {
        let moved = |time: Timestamp| {
            let micros = time.as_micros();
            Timestamp::from_micros(micros - micros % 1_000_000 + self.now % 1_000_000)
        };
        match ready {
            Ready::AtOnce(time) => Ready::AtOnce(moved(time)),
            Ready::At(time) => Ready::At(moved(time)),
        }
    }

    async fn submit(&mut self, submission: Submission) {
        match &mut self.held {
            Some(held) => held.submissions.push(submission),
            // Each third submission is audited.
            None if self.now % 3 == 0 => {
                let (actor, action) = (if self.now % 2 == 0 { "ana" } else { "bo" }, format!("act {}", self.now % 4));
                let batch = (self.now % 5 == 0).then_some(*BATCH);
                let entry =
                    AuditEntry::new(self.time(), actor, action).instance(Some(submission.instance())).batch(batch);
                let submission = Submission::Audited { entry: Box::new(entry), submission: Box::new(submission) };
                drop(both!(self, provider => provider.submit(vec![submission.clone()])));
            }
            None => drop(both!(self, provider => provider.submit(vec![submission.clone()]))),
        }
    }

    /// Makes steps that only write, and sends their writes together: first the submissions, then the commits of each node.
    async fn together(&mut self, steps: &[Step]) {
        self.held = Some(Held::default());
        for step in steps {
            let does_more = matches!(
                step,
                Step::Acquire { .. }
                    | Step::Renew { .. }
                    | Step::Leave { .. }
                    | Step::Delete { .. }
                    | Step::Prune { .. }
                    | Step::Repeat
                    | Step::Together { .. }
            );
            if !does_more {
                Box::pin(self.step(step)).await;
            }
        }
        let Held { submissions, commits } = self.held.take().unwrap_or_default();
        both!(self, provider => provider.submit(submissions.clone()));
        for lease in self.leases.clone() {
            let own = commits.iter().filter(|(by, _)| *by == lease).map(|(_, commit)| commit.clone());
            let own: Vec<_> = own.collect();
            both!(self, provider => provider.commit(&lease, own.clone()));
        }
    }

    async fn commit(&mut self, lease: Lease, write: Write) {
        let commit = Arc::new(Commit { id: CommitId::new(), write });
        match &mut self.held {
            Some(held) => held.commits.push((lease, commit.clone())),
            None => drop(both!(self, provider => provider.commit(&lease, vec![commit.clone()]))),
        }
        self.last_commit = Some((lease, commit));
    }

    async fn step(&mut self, step: &Step) {
        self.now += 1;
        match step {
            Step::Start { instance, node, policy, delay, pinned, resent } => {
                let mut start = MessageRow { lane: Lane::Start, ..message("start", false) };
                start.visible_at = self.later(*delay - 3);
                let version = pinned.then(|| Version::new(1, 0, 0));
                let mut new = NewInstance { version, start, eager: node.is_some(), ..new_instance(*instance, false) };
                if *resent {
                    new = self.last_start.clone().unwrap_or(new);
                }
                self.last_start = Some(new.clone());
                let if_exists = [IfExists::Error, IfExists::Attach, IfExists::Replace][usize::from(*policy)];
                let lease = node.map(|node| self.leases[node]);
                let request = StartRequest { new, if_exists, lease, time: self.time(), resent: *resent };
                self.submit(Submission::Start(request)).await;
            }
            Step::Send { instance, node, delay, old, large, resent } => {
                let mut sent = (id(*instance), message("sent", *large));
                sent.1.visible_at = self.later(*delay - 5);
                if *delay == 0 {
                    sent.1.lane = Lane::End;
                }
                sent.1.execution = old.then_some(1);
                if *resent {
                    sent = self.last_message.clone().unwrap_or(sent);
                }
                self.submit(Submission::Send(SendRequest {
                    to: sent.0.clone(),
                    message: sent.1.clone(),
                    lease: node.map(|node| self.leases[node]),
                    time: self.time(),
                    resent: *resent,
                }))
                .await;
                self.last_message = Some(sent);
            }
            Step::Create { node, instance, plan } => {
                let new = new_instance(*instance, plan.tagged);
                let turn = Turn::new(new.first_execution(), EventId(0), self.time());
                let turn = Turn { creates: Some(Box::new(new)), ..turn };
                self.turn(*node, *instance, turn, plan).await;
            }
            Step::Turn { node, instance, plan } => {
                let Some(turn) = self.ending(*instance, InstanceStatus::Completed).await else { return };
                self.turn(*node, *instance, turn, plan).await;
            }
            Step::Activity { node, pick, kind, wrong } => self.activity(*node, *pick, *kind, *wrong).await,
            Step::ReleaseInstance { node, instance, wrong } => {
                let Some(loaded) = self.load(*node, *instance).await else { return };
                let (mut execution, mut claim) = (loaded.execution, loaded.claim);
                match wrong {
                    0 => claim += 1,
                    1 => execution.identity = Identity::new(),
                    _ => (),
                }
                self.commit(self.leases[*node], Write::ReleaseInstance { execution, claim }).await;
            }
            Step::Acquire { node, request } => self.acquire(*node, request).await,
            Step::Resume { instance } => {
                self.submit(Submission::Resume { instance: id(*instance), time: self.time() }).await;
            }
            Step::Suspend { instance, until } => {
                let (reason, until) = (format!("\"held until {until}\""), self.later(*until - 3));
                let request = SuspendRequest {
                    id: CommitId::new(),
                    instance: id(*instance),
                    cause: format!("DUR0010: {reason}"),
                    reason,
                    until,
                    time: self.time(),
                };
                self.submit(Submission::Suspend(request)).await;
            }
            Step::Wake { instance, call } => {
                let (call, time) = (call.map(CallId), self.time());
                let request = WakeRequest { id: CommitId::new(), instance: id(*instance), call, time };
                self.submit(Submission::Wake(request)).await;
            }
            Step::Together { steps } => self.together(steps).await,
            Step::Drop => {
                let Some((instance, message)) = self.last_message.clone() else { return };
                self.submit(Submission::Drop { instance, message: message.id }).await;
            }
            Step::Terminate { instance } => {
                let Some(turn) = self.ending(*instance, InstanceStatus::Terminated).await else { return };
                self.submit(Submission::Terminate { id: CommitId::new(), turn: Box::new(turn) }).await;
            }
            Step::Graft { instance, copy, keep, plan } => self.graft(*instance, *copy, *keep, plan).await,
            Step::Redact { instance, back, wrong } => {
                let record = self.memory.instance(&id(*instance)).await.expect("memory");
                let Some(mut execution) = record.map(|record| record.execution) else { return };
                execution.number = execution.number.saturating_sub(*back);
                if *wrong {
                    execution.identity = Identity::new();
                }
                self.submit(Submission::Redact(RedactRequest { execution, receipt: AuditId::new() })).await;
            }
            Step::Renew { node } => self.renew(*node).await,
            Step::Leave { node, build } => {
                let lease = self.leases[*node];
                both!(self, provider => provider.leave(&lease));
                let info = info(*build);
                self.leases[*node] = both!(self, provider => provider.join(&info));
            }
            Step::Delete { instance } => {
                both!(self, provider => admin(provider).delete(&[id(*instance)], &[]));
            }
            Step::Prune { limit } => {
                let before = Timestamp::from_micros(self.now - 10_000_000);
                let batch = Page::new(*limit);
                let pruned = async |provider| {
                    let pruned = admin(provider).prune(&Filter::default(), before, &batch).await?;
                    // The numbers in the tokens may differ.
                    Ok::<_, ProviderError>((pruned.executions, pruned.next.is_some()))
                };
                both!(self, provider => pruned(provider));
            }
            Step::Repeat => {
                if let Some((lease, commit)) = self.last_commit.clone() {
                    both!(self, provider => provider.commit(&lease, vec![commit.clone()]));
                }
            }
            Step::Tick { seconds } => self.now += seconds * 1_000_000,
        }
    }

    async fn graft(&mut self, instance: usize, copy: Option<usize>, keep: usize, plan: &Plan) {
        let Some(rows) = both!(self, provider => admin(provider).rows(&id(instance))) else { return };
        let InstanceRows { execution, last_event, state, messages, activities, .. } = rows;
        let status = state.status;
        let mut history = both!(self, provider => provider.history(&execution, EventId(0))).events;
        history.truncate(keep);
        let number = execution.number + 1;
        let again = |activity: &StoredActivity| StoredActivity {
            execution: number,
            ready: self.within_this_step(activity.ready),
            ..activity.clone()
        };
        let kept = |activity: &&StoredActivity| history.iter().any(|event| event.id == activity.activity.scheduled);
        let of_this = activities.iter().filter(|activity| activity.execution == execution.number);
        let mut again: Vec<_> = of_this.filter(kept).map(again).collect();
        if plan.cancel {
            again.clear();
        }
        let mut timer = MessageRow { execution: Some(number), call: Some(CallId(1)), ..message("timer", false) };
        timer.visible_at = plan.timer.and_then(|delay| self.later(delay));
        let carried = MessageRow { lane: Lane::Carried, ..message("carried", plan.large) };
        let stored = |row| StoredMessage { row, stored_at: self.time(), by_client: plan.outcome };
        let mut graft = Graft {
            id: CommitId::new(),
            target: GraftTarget::Next(NextExecution {
                execution: execution.clone(),
                last_event,
                consumed: messages.iter().map(|stored| stored.row.id).take(plan.consume).collect(),
                cancelled_activities: again.iter().map(|activity| activity.activity.call).collect(),
            }),
            version: plan.tagged.then(|| Version::new(1, 0, 0)),
            history,
            activities: again,
            messages: [timer, carried].into_iter().map(stored).collect(),
            starts: (plan.child < INSTANCES).then(|| new_child(plan)).into_iter().collect(),
            outgoing: Vec::new(),
            time: self.time(),
        };
        if plan.send_to < INSTANCES {
            let message = message("from a graft", plan.large);
            graft.outgoing.push(Outgoing { to: id(plan.send_to), identity: None, message });
        }
        if let Some(copy) = copy {
            for activity in &mut graft.activities {
                activity.execution = 2;
            }
            let earlier = EarlierExecution { number: 1, continued_at: self.time(), history: graft.history.clone() };
            let copied = CopiedInstance {
                new: new_instance(copy, false),
                execution: 2,
                state: InstanceState { earlier: vec![earlier], attempts: Vec::new(), ..state },
                created_at: self.time(),
                updated_at: self.time(),
                finished_at: status.is_finished().then(|| self.time()),
            };
            if status.is_finished() {
                graft.activities.clear();
            }
            graft.target = GraftTarget::New(Box::new(copied));
            // Only a live instance has messages of an execution with this number.
            graft.messages.iter_mut().for_each(|stored| stored.row.execution = None);
        }
        match (plan.wrong, &mut graft.target) {
            (0, GraftTarget::Next(next)) => next.consumed.push(MessageId::new()),
            (1, GraftTarget::Next(next)) => next.last_event = last_event.next(),
            (2, GraftTarget::Next(next)) => next.execution.identity = Identity::new(),
            _ => (),
        }
        self.submit(Submission::Graft(Box::new(graft))).await;
    }

    /// Renews, and compares the state of the lease. The time for which the lease holds depends on the provider.
    async fn renew(&self, node: usize) {
        let lease = self.leases[node];
        // It changes with the time of the program, and sometimes not.
        let execution = ExecutionId { instance: id(0), identity: Identity::UNKNOWN, number: 1 };
        let since = Timestamp::from_micros(node as i64);
        let mut report = NodeReport::new([StuckCode::attempt(execution, "act".to_owned(), (CallId(1), 1), since)]);
        report.live = u64::try_from(self.time().as_micros()).expect("later than 1970") / 3;
        let holds = async |provider: &dyn Provider| {
            let renewal = provider.renew(&lease, &report).await?;
            Ok::<_, ProviderError>(matches!(renewal, Renewal::Held { .. }))
        };
        both!(self, provider => holds(provider));
    }

    async fn ending(&self, instance: usize, status: InstanceStatus) -> Option<Turn> {
        let record = self.memory.instance(&id(instance)).await.expect("memory")?;
        let event = self.event(record.last_event.next(), false);
        let turn = Turn::new(record.execution, record.last_event, self.time());
        Some(Turn { events: vec![event], then: Then::Finish { status }, ..turn })
    }

    fn event(&self, id: EventId, large: bool) -> EventRow {
        EventRow {
            id,
            time: self.time(),
            decision: true,
            format: 1,
            data: format!("event {id}"),
            payload: payload(large),
            at: Some(format!("src/flow.rs:{}:1", id.0 % 3).into()),
        }
    }

    async fn turn(&mut self, node: usize, instance: usize, mut turn: Turn, plan: &Plan) {
        let lease = self.leases[node];
        let number = turn.execution.number;
        turn.then = match plan.then {
            0 => Then::Suspend { reason: "\"why\"".to_owned() },
            1 => Then::Finish { status: InstanceStatus::Completed },
            2 => Then::Finish { status: InstanceStatus::Failed },
            3 => Then::ContinueAsNew { version: plan.large.then(|| Version::new(1, 0, 0)) },
            _ => Then::Continue,
        };
        turn.version = Some(Version::new(1, 0, 0));
        let since = Timestamp::from_micros(self.now - 1_000_000 * i64::from(plan.identity));
        let texts = ["e:Approval", "e*2", "a:work", "a*3", "t"];
        turn.waits = texts.get(plan.send_to).map(|text| Waits {
            text: (*text).to_owned(),
            since,
            until: plan.cancel.then(|| self.time()),
        });
        turn.cause = [None, Some("DUR0001: no"), Some("gateway #")][usize::from(plan.identity)].map(str::to_owned);
        let after = turn.after.0;
        turn.events = (1..=plan.events as u64).map(|n| self.event(EventId(after + n), plan.large)).collect();
        let unread = self.load(node, instance).await.into_iter().flat_map(|instance| instance.messages);
        turn.consumed = unread.map(|message| message.id).take(plan.consume).collect();
        // A call has the number of the event that schedules it, so that a number is used once.
        let last = after + plan.events as u64;
        let calls: Vec<_> = (after + 1..=last).take(plan.schedule).collect();
        turn.activities = calls.iter().map(|call| new_activity(*call, plan)).collect();
        if plan.cancel {
            turn.cancelled_activities = (1..=after).filter(|call| call % 2 == 0).map(CallId).collect();
        }
        if plan.cancel_timers {
            turn.cancelled_messages = (1..=after).filter(|call| call % 3 == 0).map(CallId).collect();
        }
        if plan.outcome {
            turn.outcomes = self.owned_call(&lease, &turn.execution).await.into_iter().collect();
        }
        if let Some(delay) = plan.timer {
            let mut timer =
                MessageRow { execution: Some(number), call: Some(CallId(last + 1)), ..message("timer", false) };
            timer.visible_at = self.later(delay);
            turn.messages.push(Outgoing { to: id(instance), identity: Some(turn.execution.identity), message: timer });
        }
        if plan.send_to < INSTANCES {
            let to = id(plan.send_to);
            let record = self.memory.instance(&to).await.expect("memory");
            let identity = match plan.identity {
                0 => None,
                1 => record.map(|record| record.execution.identity),
                _ => Some(Identity::new()),
            };
            turn.messages.push(Outgoing { to, identity, message: message("from a turn", plan.large) });
        }
        if plan.child < INSTANCES {
            turn.starts.push(new_child(plan));
        }
        match plan.wrong {
            0 => turn.consumed.push(MessageId::new()),
            1 => turn.outcomes.push((CallId(1_000), 1)),
            2 => turn.after = EventId(after + 1),
            3 => turn.execution.identity = Identity::new(),
            _ => (),
        }
        self.commit(lease, Write::Turn(Box::new(turn))).await;
    }

    /// Returns an activity of the execution that the lease owns, and its attempt.
    async fn owned_call(&self, lease: &Lease, execution: &ExecutionId) -> Option<(CallId, u32)> {
        let tenures = self.tenures(lease);
        let tenure = tenures.into_iter().find(|tenure| tenure.activity.execution == *execution)?;
        Some((tenure.activity.call, tenure.attempt))
    }

    /// Reads the tenures of a lease from the SQLite file directly.
    fn tenures(&self, lease: &Lease) -> Vec<Tenure> {
        let path = format!("{:?}", self.sqlite);
        let path = path.split('"').nth(1).expect("the path is shown").to_owned();
        let raw = rusqlite::Connection::open(path).expect("open");
        let mut find = raw
            .prepare(
                "SELECT i.id, lower(hex(i.start_id)), a.execution, a.call, a.attempt, a.claim FROM duroxide_activities a
                 JOIN duroxide_instances i ON i.seq = a.instance WHERE a.owner = ?1 ORDER BY 1, 3, 4",
            )
            .expect("prepare");
        let rows = find.query_map([lease.epoch.0.cast_signed()], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let instance = InstanceId::new(row.get::<_, String>(0)?).expect("a good id");
            let identity = serde_json::from_value(row.get::<_, String>(1)?.into()).expect("an identity");
            let execution = ExecutionId { instance, identity, number: number(2)? };
            let activity = ActivityId { execution, call: CallId(number(3)?) };
            Ok(Tenure { activity, attempt: row.get(4)?, claim: number(5)? })
        });
        rows.expect("query").map(|row| row.expect("row")).collect()
    }

    async fn activity(&mut self, node: usize, pick: usize, kind: u8, wrong: u8) {
        let lease = self.leases[node];
        let tenures = self.tenures(&lease);
        let Some(mut tenure) = tenures.get(pick % tenures.len().max(1)).cloned() else { return };
        match wrong {
            0 => tenure.attempt += 1,
            1 => tenure.claim += 1,
            2 => tenure.activity.execution.identity = Identity::new(),
            _ => (),
        }
        let write = match kind {
            0 => {
                let ActivityId { execution, call } = &tenure.activity;
                let (execution, call) = (Some(execution.number), Some(*call));
                let message = MessageRow { execution, call, ..message("outcome", pick == 0) };
                Write::Outcome { tenure, message }
            }
            1 => {
                let failed = FailedAttempt { began: self.time(), ended: self.time(), error: format!("no {pick}") };
                let visible_at = self.later(pick as i64).unwrap_or(self.time());
                let cause = (pick > 0).then(|| format!("cause {}", pick % 2));
                Write::Retry { tenure, visible_at, failed: Box::new(failed), cause }
            }
            2 => {
                let cause = (pick > 0).then(|| "DUR0007: parked".to_owned());
                Write::Park { tenure, reason: "\"parked\"".to_owned(), cause }
            }
            _ => Write::ReleaseActivity { tenure },
        };
        self.commit(lease, write).await;
    }

    fn want(&self, instances: usize, activities: usize, alone: bool) -> Want {
        Want {
            orchestrations: Arc::new([("flow".to_owned(), Version::new(1, 0, 0))]),
            instances,
            activities: vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: activities }],
            alone,
            ..Want::new(self.time())
        }
    }

    async fn acquire(&mut self, node: usize, request: &Request) {
        let epoch = self.leases[node].epoch;
        let received = self.received.entry(epoch).or_default();
        let (mut claim, mut heard, mut cancelled) = (received.claim, Vec::new(), Vec::new());
        if request.acknowledges {
            heard = std::mem::take(&mut received.heard);
            cancelled = std::mem::take(&mut received.cancelled);
        }
        if request.is_late {
            claim = claim.saturating_sub(1);
        }
        let load = request.load.iter().map(|(n, heard)| Load { instance: id(*n), heard: *heard }).collect();
        let tags = (node == 0).then(|| Arc::from(["gpu".to_owned()]));
        let want = self.want(request.instances, request.activities, request.alone);
        let acquired = self.request(node, Want { claim, heard, cancelled, load, tags, ..want }).await;
        if request.is_lost {
            return;
        }
        let heard = acquired.instances.into_iter().map(|AcquiredInstance { execution, arrivals: number, .. }| Heard {
            instance: execution.instance,
            identity: execution.identity,
            number,
        });
        let received = self.received.entry(epoch).or_default();
        received.claim = acquired.claim;
        received.heard.extend(heard);
        received.cancelled = acquired.cancelled;
    }

    /// Loads an instance with all its messages, if the node owns it.
    async fn load(&self, node: usize, instance: usize) -> Option<AcquiredInstance> {
        let claim = self.received.get(&self.leases[node].epoch).map_or(0, |received| received.claim);
        let load = vec![Load { instance: id(instance), heard: None }];
        let acquired = self.request(node, Want { claim, load, ..self.want(0, 0, false) }).await;
        acquired.instances.into_iter().find(|loaded| loaded.execution.instance == id(instance))
    }

    /// Makes a request for work of both, and compares the answers, except for the order of items that are due at one time.
    async fn request(&self, node: usize, want: Want) -> Acquired {
        let lease = self.leases[node];
        let sorted = async |provider: &dyn Provider| {
            let mut acquired = provider.acquire(&lease, want.clone()).await?;
            acquired.instances.sort_by(|a, b| a.execution.cmp(&b.execution));
            acquired.activities.sort_by(|a, b| a.id.cmp(&b.id));
            acquired.cancelled.sort();
            acquired.ending.sort_by(|a, b| a.execution.cmp(&b.execution));
            Ok::<_, ProviderError>(acquired)
        };
        both!(self, provider => sorted(provider))
    }

    /// Compares the stored state, as far as it can be read.
    async fn compare(&self) {
        for n in 0..INSTANCES {
            self.compare_instance(n).await;
        }
        for n in 0..LISTS {
            self.compare_list(n).await;
        }
    }

    /// Compares a part of the stored state, another one after each step: a difference in another part remains until it is
    /// compared, at the latest at the end of the program.
    async fn compare_part(&self, step: usize) {
        for n in 0..INSTANCES {
            both!(self, provider => provider.instance(&id(n)));
        }
        self.compare_instance(step % INSTANCES).await;
        for n in 0..LISTS_AT_ONCE {
            self.compare_list((step * LISTS_AT_ONCE + n) % LISTS).await;
        }
    }

    async fn compare_instance(&self, n: usize) {
        let record = both!(self, provider => provider.instance(&id(n)));
        let Some(record) = record else { return };
        let other = ExecutionId { identity: Identity::new(), ..record.execution.clone() };
        let unknown = ExecutionId { identity: Identity::UNKNOWN, ..record.execution.clone() };
        let all = (1..=record.execution.number).map(|number| ExecutionId { number, ..record.execution.clone() });
        for execution in all.chain([other, unknown]) {
            both!(self, provider => provider.history(&execution, EventId(0)));
            for query in [HistoryQuery::last(2).preview(5), HistoryQuery::after(EventId(1), 2).preview(2000)] {
                both!(self, provider => admin(provider).events(&execution, &query));
            }
        }
        both!(self, provider => admin(provider).activities(&id(n)));
        both!(self, provider => admin(provider).messages(&id(n)));
        both!(self, provider => admin(provider).rows(&id(n)));
    }

    async fn compare_list(&self, n: usize) {
        let mut filters = self.filters();
        let mut groups: Vec<_> = [Filter::default(), odd_ones()]
            .iter()
            .flat_map(|filter| groupings().map(|by| (filter.clone(), by)))
            .collect();
        let mut audits = self.audits();
        assert_eq!(LISTS, filters.len() + groups.len() + audits.len() + 1, "`LISTS` is the number of lists");
        if let Some(n) = n.checked_sub(filters.len() + groups.len() + 1) {
            let query = audits.swap_remove(n);
            both!(self, provider => audit_pages(provider, &query));
            return;
        }
        if n < filters.len() {
            let filter = filters.swap_remove(n);
            both!(self, provider => pages(provider, &filter));
        } else if n - filters.len() < groups.len() {
            let (filter, (of, by)) = groups.swap_remove(n - filters.len());
            both!(self, provider => admin(provider).groups(of, &filter, &by, Page::DEFAULT_TIME_LIMIT));
        } else {
            both!(self, provider => nodes(provider));
            both!(self, provider => departed(provider));
            both!(self, provider => builds(provider));
            for node in &self.leases {
                both!(self, provider => pages(provider, &Filter { node: Some(node.epoch), ..Filter::default() }));
            }
        }
    }

    /// Returns the queries of the audit that are compared.
    fn audits(&self) -> Vec<AuditQuery> {
        let at = |seconds: i64| Some(Timestamp::from_micros(self.now - seconds * 1_000_000));
        vec![
            AuditQuery::default(),
            AuditQuery { instance: Some(id(1)), ..AuditQuery::default() },
            AuditQuery { actor: Some("ana".to_owned()), ..AuditQuery::default() },
            AuditQuery { action: Some("act 1".to_owned()), from: at(9), ..AuditQuery::default() },
            AuditQuery { before: at(4), ..AuditQuery::default() },
            AuditQuery { batch: Some(*BATCH), actor: Some("bo".to_owned()), ..AuditQuery::default() },
        ]
    }

    /// Returns the filters of the lists that are compared.
    fn filters(&self) -> Vec<Filter> {
        let odd = odd_ones();
        let live = vec![InstanceStatus::Running, InstanceStatus::Suspended];
        let live = Filter { statuses: live, ..odd.clone() };
        let early = Filter { created_before: Some(Timestamp::from_micros(self.now - 5_000_000)), ..Filter::default() };
        let in_state = |status| Filter { statuses: vec![status], ..Filter::default() };
        let (running, suspended) = (in_state(InstanceStatus::Running), in_state(InstanceStatus::Suspended));
        let pinned = Filter { version: Some(Version::new(1, 0, 0)), ..Filter::default() };
        let now = Timestamp::from_micros(self.now);
        let ended = Filter { finished_before: Some(now), id_prefix: Some(id(0).to_string()), ..Filter::default() };
        let earlier = |seconds: i64| Some(Timestamp::from_micros(self.now - seconds * 1_000_000));
        let unknown = Filter { name: Some("unknown".to_owned()), ..Filter::default() };
        let contains = Filter { id_contains: Some("ce-2".to_owned()), ..Filter::default() };
        let created = Filter { created_from: earlier(5), ..Filter::default() };
        let finished = Filter { finished_from: earlier(5), ..Filter::default() };
        let parent = Filter { parent: Some(id(0)), ..Filter::default() };
        let known = Filter { parent_identity: Some(*PARENT), ..parent.clone() };
        let updated = Filter {
            updated_from: Some(Timestamp::from_micros(self.now - 9_000_000)),
            updated_before: Some(Timestamp::from_micros(self.now - 2_000_000)),
            ..Filter::default()
        };
        let mut filters = vec![Filter::default(), odd, live, early, running, suspended, pinned, ended, updated];
        filters.extend([unknown, contains, created, finished, parent, known]);
        filters.extend(by_waits_and_causes());
        filters
    }
}

/// Lists the members, without their last signs of life.
async fn nodes(provider: &dyn Provider) -> Result<Vec<NodeRecord>, ProviderError> {
    let nodes = admin(provider).nodes().await?;
    Ok(nodes.into_iter().map(|node| NodeRecord { seen_at: None, ..node }).collect())
}

/// Lists departed nodes, without their times: each store takes them from its own clock.
async fn departed(provider: &dyn Provider) -> Result<Vec<(NodeRecord, Departure)>, ProviderError> {
    let departed = admin(provider).departed_nodes(1000).await?;
    let node = |node| NodeRecord { seen_at: None, ..node };
    Ok(departed.into_iter().map(|departed| (node(departed.node), departed.cause)).collect())
}

/// Lists builds, without their times.
async fn builds(provider: &dyn Provider) -> Result<Vec<BuildRecord>, ProviderError> {
    let builds = admin(provider).builds().await?.into_iter();
    let timeless = |build| BuildRecord { first_seen: Timestamp::default(), last_seen: Timestamp::default(), ..build };
    Ok(builds.map(timeless).collect())
}

fn by_waits_and_causes() -> Vec<Filter> {
    let waits = [WaitsFilter::event("Approval"), AwaitedKind::Event.into(), AwaitedKind::Activity.into()];
    let waits = waits.into_iter().map(|waits| Filter { waits: Some(waits), ..Filter::default() });
    let causes = ["gateway #", "cause 1", "DUR0007: parked"];
    let causes = causes.into_iter().map(|cause| Filter { cause: Some(cause.to_owned()), ..Filter::default() });
    let codes = [ErrorCode::Nondeterminism, ErrorCode::CrashLoop];
    let codes = codes.into_iter().map(|code| Filter { suspension: Some(code), ..Filter::default() });
    let finished = Filter {
        waits: Some(AwaitedKind::Timer.into()),
        statuses: vec![InstanceStatus::Completed, InstanceStatus::Running],
        ..Filter::default()
    };
    waits.chain(causes).chain(codes).chain([finished]).collect()
}

fn odd_ones() -> Filter {
    Filter { labels: [("parity".to_owned(), "1".to_owned())].into(), ..Filter::default() }
}

/// Returns a grouping of each subject by all of its dimensions, and one by a few.
fn groupings() -> [(Subject, Vec<Dimension>); 4] {
    let all = vec![
        Dimension::Name,
        Dimension::Version,
        Dimension::Status,
        Dimension::Node,
        Dimension::Tag,
        Dimension::State,
        Dimension::Minute,
        Dimension::Waits,
        Dimension::Cause,
        Dimension::Code,
        Dimension::Label("parity".to_owned()),
    ];
    [
        (Subject::Instances, all.clone()),
        (Subject::Activities, all.clone()),
        (Subject::Timers, all),
        (Subject::Instances, vec![Dimension::Status]),
    ]
}

fn admin(provider: &dyn Provider) -> &dyn Admin {
    provider.admin().expect("both have an Admin")
}

/// Reads all pages of the audit. The tokens are left out, since their numbers may differ.
async fn audit_pages(
    provider: &dyn Provider,
    query: &AuditQuery,
) -> Result<Vec<(Vec<AuditEntry>, bool)>, ProviderError> {
    let (mut page, mut pages) = (Page::new(3), Vec::new());
    loop {
        let part = admin(provider).audit(query, &page).await?;
        page.after = part.next;
        pages.push((part.entries, part.complete));
        if page.after.is_none() {
            return Ok(pages);
        }
    }
}

/// Reads all pages of a list. The tokens are left out, since their numbers may differ.
async fn pages(provider: &dyn Provider, filter: &Filter) -> Result<Vec<(Vec<InstanceRecord>, bool)>, ProviderError> {
    let (mut page, mut pages) = (Page::new(3), Vec::new());
    loop {
        let part = admin(provider).list(filter, &page).await?;
        page.after = part.next;
        pages.push((part.instances, part.complete));
        if page.after.is_none() {
            return Ok(pages);
        }
    }
}

fn new_activity(call: u64, plan: &Plan) -> NewActivity {
    let name = if plan.large { "unknown" } else { "work" };
    NewActivity {
        tag: plan.tagged.then(|| if plan.eager { "gpu" } else { "tape" }.to_owned()),
        detached: plan.detached,
        eager: plan.eager,
        ..NewActivity::new(CallId(call), EventId(call), name)
    }
}

fn new_instance(instance: usize, pinned: bool) -> NewInstance {
    NewInstance {
        version: pinned.then(|| Version::new(1, 0, 0)),
        labels: [("parity".to_owned(), (instance % 2).to_string())].into(),
        eager: true,
        ..NewInstance::new(id(instance), "flow", message("start", false))
    }
}

fn new_child(plan: &Plan) -> NewChild {
    let of = |identity| Parent { execution: ExecutionId { instance: id(0), identity, number: 1 }, call: CallId(1) };
    let new = NewInstance {
        parent: plan.tagged.then(|| of(if plan.eager { *PARENT } else { Identity::UNKNOWN })),
        name: if plan.cancel { "unknown" } else { "flow" }.to_owned(),
        start: MessageRow { lane: Lane::Start, ..message("child", false) },
        eager: plan.eager,
        ..new_instance(plan.child, false)
    };
    NewChild { new, accepted: Some(message("accepted", false)), if_taken: message("taken", false) }
}

#[test]
fn both_providers_answer_alike() {
    run(60, || None);
}

#[test]
fn postgres_answers_like_the_others() {
    let Some(url) = support::postgres::server() else { return };
    let count = std::cell::Cell::new(0);
    run(8, || {
        count.set(count.get() + 1);
        Some(Schema::new(url, &format!("program_{}", count.get())))
    });
}

/// Runs random programs, by default this many. `PROPTEST_CASES=5000` runs more.
fn run(cases: u32, postgres: impl Fn() -> Option<Schema>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |_| Config::default().cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let program = prop::collection::vec(step(), 1..80);
    let outcome = TestRunner::new(config).run(&program, |program| {
        let postgres = postgres();
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("folder");
            let mut pair = Pair::new(folder.path(), postgres.as_ref().map(Schema::connect)).await;
            for (n, step) in program.iter().enumerate() {
                pair.step(step).await;
                pair.compare_part(n).await;
            }
            pair.compare().await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
