//! Both providers are driven with the same random operations; whatever can be seen of them must be the same after each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duroxide::provider::*;
use duroxide::sqlite::SqliteProvider;
use duroxide::{
    ActivityId, CallId, CommitId, Epoch, EventId, ExecutionId, InstanceId, Lane, MessageId, NodeId, Payload, Timestamp,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use semver::Version;

const INSTANCES: usize = 4;
const NODES: usize = 3;

/// One step of a program. Small numbers, so that the steps meet.
#[derive(Debug, Clone)]
enum Step {
    Start { instance: usize, node: Option<usize>, policy: u8, delay: i64, pinned: bool, again: bool },
    Send { instance: usize, node: Option<usize>, delay: i64, old: bool, large: bool, again: bool },
    Create { node: usize, instance: usize, plan: Plan },
    Turn { node: usize, instance: usize, plan: Plan },
    Activity { node: usize, pick: usize, kind: u8, attempt_off: bool },
    ReleaseInstance { node: usize, instance: usize },
    Acquire { node: usize, instances: usize, activities: usize, alone: bool, load: usize },
    Resume { instance: usize },
    Terminate { instance: usize },
    Renew { node: usize },
    Leave { node: usize, build: u8 },
    Delete { instance: usize },
    Prune { limit: usize },
    Repeat,
    Tick { seconds: i64 },
}

/// What a turn does; what it needs is looked up in the reference.
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
    take_back: bool,
    send_to: usize,
    child: usize,
    outcome: bool,
    wrong: u8,
    large: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let first = (0..10_u8, 0..4_usize, 0..3_usize, 0..3_usize, any::<bool>(), any::<bool>(), any::<bool>());
    let second = (any::<bool>(), prop::option::of(0..20_i64), any::<bool>(), 0..8_usize, 0..8_usize);
    (first, second, any::<bool>(), 0..12_u8, any::<bool>()).prop_map(|(first, second, outcome, wrong, large)| {
        let (then, events, consume, schedule, eager, detached, tagged) = first;
        let (cancel, timer, take_back, send_to, child) = second;
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
            take_back,
            send_to,
            child,
            outcome,
            wrong,
            large,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let instance = 0..INSTANCES;
    let node = 0..NODES;
    prop_oneof![
        4 => (instance.clone(), prop::option::of(node.clone()), 0..3_u8, 0..6_i64, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(instance, node, policy, delay, pinned, again)| {
                Step::Start { instance, node, policy, delay, pinned, again }
            }),
        4 => (instance.clone(), prop::option::of(node.clone()), 0..10_i64, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(instance, node, delay, old, large, again)| Step::Send { instance, node, delay, old, large, again }),
        2 => (node.clone(), instance.clone(), plan()).prop_map(
            |(node, instance, plan)| Step::Create { node, instance, plan }),
        12 => (node.clone(), instance.clone(), plan()).prop_map(
            |(node, instance, plan)| Step::Turn { node, instance, plan }),
        6 => (node.clone(), 0..6_usize, 0..4_u8, prop::bool::weighted(0.1)).prop_map(
            |(node, pick, kind, attempt_off)| Step::Activity { node, pick, kind, attempt_off }),
        1 => (node.clone(), instance.clone()).prop_map(|(node, instance)| Step::ReleaseInstance { node, instance }),
        // All instances or none: one turn can make several that are due at the same time, and their order is open.
        8 => (node.clone(), prop_oneof![Just(0_usize), Just(100)], 0..4_usize, any::<bool>(), instance.clone()).prop_map(
            |(node, instances, activities, alone, load)| Step::Acquire { node, instances, activities, alone, load }),
        2 => instance.clone().prop_map(|instance| Step::Resume { instance }),
        1 => instance.clone().prop_map(|instance| Step::Terminate { instance }),
        1 => node.clone().prop_map(|node| Step::Renew { node }),
        1 => (node, 0..3_u8).prop_map(|(node, build)| Step::Leave { node, build }),
        1 => instance.prop_map(|instance| Step::Delete { instance }),
        1 => (0..5_usize).prop_map(|limit| Step::Prune { limit }),
        3 => Just(Step::Repeat),
        3 => (1..8_i64).prop_map(|seconds| Step::Tick { seconds }),
    ]
}

/// Both providers, and what the program remembers.
struct Pair {
    memory: MemoryProvider,
    sqlite: SqliteProvider,
    leases: Vec<Lease>,
    /// What each of them said last; their numbers need not be the same.
    cursors: BTreeMap<Epoch, (Cursor, Cursor)>,
    /// In microseconds. Grows with every step, so that no two things are due at the same time.
    now: i64,
    last_commit: Option<(Lease, Arc<Commit>)>,
    last_start: Option<NewInstance>,
    last_message: Option<(InstanceId, MessageRow)>,
}

/// Answers without the numbers of messages, which need not be the same.
async fn without_numbers(
    answers: impl Future<Output = Result<Vec<Result<Submitted, SubmitError>>, ProviderError>>,
) -> Result<Vec<Result<Submitted, SubmitError>>, ProviderError> {
    let without = |submitted: Submitted| Submitted { last_found: submitted.last_found.map(|_| 0), ..submitted };
    Ok(answers.await?.into_iter().map(|answer| answer.map(without)).collect())
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
    NodeInfo {
        id: NodeId::new(),
        name: "n".to_owned(),
        build: format!("build {build}"),
        handlers: Handlers {
            orchestrations: vec![("flow".to_owned(), Version::new(1, 0, 0))],
            activities: vec!["work".to_owned()],
            tags: (build == 1).then(|| vec!["gpu".to_owned()]),
        },
        lease_time: Duration::from_secs(3600),
    }
}

/// Asks both the same, and compares what they say.
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
        said
    }};
}

impl Pair {
    async fn new(folder: &std::path::Path) -> Self {
        let options = duroxide::sqlite::SqliteOptions::new().durability(duroxide::sqlite::Durability::Relaxed);
        let sqlite = SqliteProvider::open_with(folder.join("pair.db"), options).expect("open");
        let mut pair = Self {
            memory: MemoryProvider::new(),
            sqlite,
            leases: Vec::new(),
            cursors: BTreeMap::new(),
            now: 100_000_000,
            last_commit: None,
            last_start: None,
            last_message: None,
        };
        // The first call that names a time sets the clock of both.
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

    async fn submit(&self, submission: Submission) {
        both!(self, provider => without_numbers(provider.submit(vec![submission.clone()])));
    }

    async fn commit(&mut self, lease: Lease, write: Write) {
        let commit = Arc::new(Commit { id: CommitId::new(), write });
        both!(self, provider => provider.commit(&lease, vec![commit.clone()]));
        self.last_commit = Some((lease, commit));
    }

    async fn step(&mut self, step: &Step) {
        self.now += 1;
        match step {
            Step::Start { instance, node, policy, delay, pinned, again } => {
                let mut start = MessageRow { lane: Lane::Start, ..message("start", false) };
                start.visible_at = self.later(*delay - 3);
                let version = pinned.then(|| Version::new(1, 0, 0));
                let mut new = NewInstance { version, start, eager: node.is_some(), ..new_instance(*instance, false) };
                if *again {
                    new = self.last_start.clone().unwrap_or(new);
                }
                self.last_start = Some(new.clone());
                let if_exists = [IfExists::Error, IfExists::Attach, IfExists::Replace][usize::from(*policy)];
                let lease = node.map(|node| self.leases[node]);
                self.submit(Submission::Start { new, if_exists, lease, time: self.time(), again: *again }).await;
            }
            Step::Send { instance, node, delay, old, large, again } => {
                let mut sent = (id(*instance), message("sent", *large));
                sent.1.visible_at = self.later(*delay - 5);
                sent.1.execution = old.then_some(1);
                if *again {
                    sent = self.last_message.clone().unwrap_or(sent);
                }
                self.submit(Submission::Send {
                    to: sent.0.clone(),
                    message: sent.1.clone(),
                    lease: node.map(|node| self.leases[node]),
                    time: self.time(),
                    again: *again,
                })
                .await;
                self.last_message = Some(sent);
            }
            Step::Create { node, instance, plan } => {
                let turn = Turn {
                    creates: Some(Box::new(new_instance(*instance, plan.tagged))),
                    ..self.empty_turn(*instance)
                };
                self.turn(*node, *instance, turn, plan).await;
            }
            Step::Turn { node, instance, plan } => {
                let Some(turn) = self.ending(*instance, InstanceStatus::Completed).await else { return };
                self.turn(*node, *instance, turn, plan).await;
            }
            Step::Activity { node, pick, kind, attempt_off } => self.activity(*node, *pick, *kind, *attempt_off).await,
            Step::ReleaseInstance { node, instance } => {
                self.commit(self.leases[*node], Write::ReleaseInstance { instance: id(*instance) }).await;
            }
            Step::Acquire { node, instances, activities, alone, load } => {
                self.acquire(*node, *instances, *activities, *alone, *load).await;
            }
            Step::Resume { instance } => {
                self.submit(Submission::Resume { instance: id(*instance), time: self.time() }).await;
            }
            Step::Terminate { instance } => {
                let Some(turn) = self.ending(*instance, InstanceStatus::Terminated).await else { return };
                self.submit(Submission::Terminate { id: CommitId::new(), turn: Box::new(turn) }).await;
            }
            Step::Renew { node } => self.renew(*node).await,
            Step::Leave { node, build } => {
                let lease = self.leases[*node];
                both!(self, provider => provider.leave(&lease));
                let info = info(*build);
                self.leases[*node] = both!(self, provider => provider.join(&info));
            }
            Step::Delete { instance } => {
                both!(self, provider => provider.delete(&[id(*instance)]));
            }
            Step::Prune { limit } => {
                let before = Timestamp::from_micros(self.now - 10_000_000);
                both!(self, provider => provider.prune(&Filter::default(), before, *limit));
            }
            Step::Repeat => {
                if let Some((lease, commit)) = self.last_commit.clone() {
                    both!(self, provider => provider.commit(&lease, vec![commit.clone()]));
                }
            }
            Step::Tick { seconds } => self.now += seconds * 1_000_000,
        }
    }

    async fn renew(&self, node: usize) {
        let lease = self.leases[node];
        let sorted = |renewal| match renewal {
            Renewal::Held { mut cancelled } => {
                cancelled.sort();
                Renewal::Held { cancelled }
            }
            lost => lost,
        };
        let memory = sorted(self.memory.renew(&lease).await.expect("memory"));
        assert_eq!(memory, sorted(self.sqlite.renew(&lease).await.expect("sqlite")));
    }

    async fn ending(&self, instance: usize, status: InstanceStatus) -> Option<Turn> {
        let record = self.memory.instance(&id(instance)).await.expect("memory")?;
        let event = self.event(record.last_event.next(), false);
        Some(Turn {
            execution: record.execution,
            after: record.last_event,
            events: vec![event],
            then: Then::Finish { status },
            ..self.empty_turn(instance)
        })
    }

    fn empty_turn(&self, instance: usize) -> Turn {
        let execution = ExecutionId { instance: id(instance), number: 1 };
        Turn::new(execution, EventId(0), self.time())
    }

    fn event(&self, id: EventId, large: bool) -> EventRow {
        EventRow {
            id,
            time: self.time(),
            decision: true,
            format: 1,
            data: format!("event {id}"),
            payload: payload(large),
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
            _ => Then::Go,
        };
        turn.version = Some(Version::new(1, 0, 0));
        let after = turn.after.0;
        turn.events = (1..=plan.events as u64).map(|n| self.event(EventId(after + n), plan.large)).collect();
        let load = Want { load: vec![id(instance)], ..self.want(0, 0, false) };
        let loaded = self.memory.acquire(&lease, load).await.expect("memory");
        let unread = loaded.instances.into_iter().flat_map(|instance| instance.messages);
        turn.consumed = unread.map(|message| message.id).take(plan.consume).collect();
        // Calls are numbered by the event that schedules them, so that a number is used once.
        let last = after + plan.events as u64;
        let calls: Vec<_> = (after + 1..=last).take(plan.schedule).collect();
        turn.activities = calls.iter().map(|call| new_activity(*call, plan)).collect();
        if plan.cancel {
            turn.cancelled_activities = (1..=after).filter(|call| call % 2 == 0).map(CallId).collect();
        }
        if plan.take_back {
            turn.cancelled_messages = (1..=after).filter(|call| call % 3 == 0).map(CallId).collect();
        }
        if plan.outcome {
            turn.outcomes = self.owned_call(&lease, &turn.execution).await.into_iter().collect();
        }
        if let Some(delay) = plan.timer {
            let mut timer =
                MessageRow { execution: Some(number), call: Some(CallId(last + 1)), ..message("timer", false) };
            timer.visible_at = self.later(delay);
            turn.messages.push(Outgoing { to: id(instance), message: timer });
        }
        if plan.send_to < INSTANCES {
            turn.messages.push(Outgoing { to: id(plan.send_to), message: message("from a turn", plan.large) });
        }
        if plan.child < INSTANCES {
            turn.starts.push(new_child(plan));
        }
        match plan.wrong {
            0 => turn.consumed.push(MessageId::new()),
            1 => turn.outcomes.push((CallId(1_000), 1)),
            2 => turn.after = EventId(after + 1),
            _ => (),
        }
        self.commit(lease, Write::Turn(Box::new(turn))).await;
    }

    /// An activity of the execution that the lease could end; found by trying, on a clone of nothing: the list of the memory.
    async fn owned_call(&self, lease: &Lease, execution: &ExecutionId) -> Option<(CallId, u32)> {
        let known = self.sqlite_activities(lease).await;
        known.into_iter().find(|(id, _)| id.execution == *execution).map(|(id, attempt)| (id.call, attempt))
    }

    /// The activities that a lease owns, with their attempts, read past the provider.
    async fn sqlite_activities(&self, lease: &Lease) -> Vec<(ActivityId, u32)> {
        let path = format!("{:?}", self.sqlite);
        let path = path.split('"').nth(1).expect("the path is shown").to_owned();
        let raw = rusqlite::Connection::open(path).expect("open");
        let mut find = raw
            .prepare(
                "SELECT i.id, a.execution, a.call, a.attempt FROM duroxide_activities a
                 JOIN duroxide_instances i ON i.seq = a.instance WHERE a.owner = ?1 ORDER BY 1, 2, 3",
            )
            .expect("prepare");
        let rows = find.query_map([lease.epoch.0.cast_signed()], |row| {
            let number = row.get::<_, i64>(1)?.cast_unsigned();
            let instance = InstanceId::new(row.get::<_, String>(0)?).expect("a good id");
            let call = CallId(row.get::<_, i64>(2)?.cast_unsigned());
            Ok((ActivityId { execution: ExecutionId { instance, number }, call }, row.get(3)?))
        });
        rows.expect("query").map(|row| row.expect("row")).collect()
    }

    async fn activity(&mut self, node: usize, pick: usize, kind: u8, attempt_off: bool) {
        let lease = self.leases[node];
        let known = self.sqlite_activities(&lease).await;
        let Some((activity, attempt)) = known.get(pick % known.len().max(1)).cloned() else { return };
        let attempt = attempt + u32::from(attempt_off);
        let write = match kind {
            0 => {
                let execution = Some(activity.execution.number);
                let message = MessageRow { execution, call: Some(activity.call), ..message("outcome", pick == 0) };
                Write::Outcome { activity, attempt, message }
            }
            1 => Write::Retry { activity, attempt, visible_at: self.later(pick as i64).unwrap_or(self.time()) },
            2 => Write::Park { activity, reason: "\"parked\"".to_owned() },
            _ => Write::ReleaseActivity { activity },
        };
        self.commit(lease, write).await;
    }

    fn want(&self, instances: usize, activities: usize, alone: bool) -> Want {
        Want {
            orchestrations: Arc::new([("flow".to_owned(), Version::new(1, 0, 0))]),
            instances,
            activities: vec![ActivityGroup { names: Arc::new(["work".to_owned()]), limit: activities }],
            alone,
            cursor: Cursor { arrival: i64::MAX - 1, time: Timestamp::MAX },
            ..Want::new(self.time())
        }
    }

    async fn acquire(&mut self, node: usize, instances: usize, activities: usize, alone: bool, load: usize) {
        let lease = self.leases[node];
        let cursor = self.cursors.get(&lease.epoch).copied().unwrap_or_default();
        let tags = (node == 0).then(|| Arc::from(["gpu".to_owned()]));
        let want = Want { cursor: cursor.0, tags, load: vec![id(load)], ..self.want(instances, activities, alone) };
        let mut memory = self.memory.acquire(&lease, want.clone()).await.expect("memory");
        let want = Want { cursor: cursor.1, ..want };
        let mut sqlite = self.sqlite.acquire(&lease, want).await.expect("sqlite");
        assert_eq!(memory.instances.len(), sqlite.instances.len());
        self.cursors.insert(lease.epoch, (memory.cursor, sqlite.cursor));
        sqlite.cursor.arrival = memory.cursor.arrival;
        for acquired in [&mut memory, &mut sqlite] {
            acquired.instances.sort_by(|a, b| a.execution.cmp(&b.execution));
            acquired.activities.sort_by(|a, b| a.id.cmp(&b.id));
        }
        assert_eq!(format!("{memory:#?}"), format!("{sqlite:#?}"), "memory (left) and sqlite hand out different work");
    }

    /// Compares everything that can be read.
    async fn compare(&self) {
        for n in 0..INSTANCES {
            let record = both!(self, provider => provider.instance(&id(n)));
            let Some(record) = record else { continue };
            for number in 1..=record.execution.number {
                let execution = ExecutionId { instance: id(n), number };
                both!(self, provider => provider.history(&execution, EventId(0)));
            }
        }
        let page = Page { limit: 3, after: None };
        both!(self, provider => provider.list(&Filter::default(), &page));
        let odd = Filter { labels: [("parity".to_owned(), "1".to_owned())].into(), ..Filter::default() };
        both!(self, provider => provider.list(&odd, &page));
        both!(self, provider => provider.nodes());
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
    let new = NewInstance {
        name: if plan.cancel { "unknown" } else { "flow" }.to_owned(),
        start: MessageRow { lane: Lane::Start, ..message("child", false) },
        eager: plan.eager,
        ..new_instance(plan.child, false)
    };
    NewChild { new, accepted: Some(message("accepted", false)), otherwise: message("taken", false) }
}

#[test]
fn both_providers_do_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    // `PROPTEST_CASES=5000` looks longer.
    let cases = std::env::var("PROPTEST_CASES").map_or(60, |_| Config::default().cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let program = prop::collection::vec(step(), 1..80);
    let outcome = TestRunner::new(config).run(&program, |program| {
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("folder");
            let mut pair = Pair::new(folder.path()).await;
            for step in &program {
                pair.step(step).await;
                pair.compare().await;
            }
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
