//! Turns that are written without reading first, beside others of which one is refused: then all of them are read first, and
//! the others are written nevertheless.

use std::sync::Arc;

use duroxide::id::{CallId, CommitId, EventId, ExecutionId, Identity};
use duroxide::provider::*;
use duroxide::{InstanceId, Payload};
use duroxide_postgres::PostgresProvider;
use semver::Version;
use support::schema::Schema;

use crate::schema;
use crate::together::{Obstacle, at, id, info, send, start};

/// A node with instances whose first turn is stored: it has read the start, runs an activity, and waits for a timer.
pub(crate) struct World {
    pub(crate) schema: Schema,
    pub(crate) provider: PostgresProvider,
    lease: Lease,
    count: u32,
}

/// The calls of the activity and of the timer.
const ACTIVITY: CallId = CallId(1);
const TIMER: CallId = CallId(2);

impl World {
    pub(crate) async fn open(name: &str) -> Option<Self> {
        let schema = schema(name)?;
        let provider = schema.connect();
        let lease = provider.join(&info()).await.expect("join");
        // The members are known from here on.
        provider.acquire(&lease, Want::new(at(1))).await.expect("acquire");
        Some(Self { schema, provider, lease, count: 0 })
    }

    fn next_name(&mut self) -> String {
        self.count += 1;
        format!("i-{}", self.count)
    }

    /// Makes an instance, and returns its execution.
    pub(crate) async fn instance(&mut self) -> ExecutionId {
        let (new, submission) = start(&self.next_name(), Some(self.lease));
        let timer = MessageRow {
            execution: Some(1),
            call: Some(TIMER),
            visible_at: Some(at(1000)),
            ..MessageRow::new("\"timer\"")
        };
        let to = new.instance.clone();
        let turn = Turn {
            events: vec![event(1), event(2)],
            consumed: vec![new.start.id],
            activities: vec![NewActivity { eager: true, ..NewActivity::new(ACTIVITY, EventId(2), "work") }],
            messages: vec![Outgoing { to, identity: None, message: timer }],
            ..Turn::new(new.first_execution(), EventId(0), at(2))
        };
        self.provider.submit(vec![submission]).await.expect("submit").remove(0).expect("started");
        self.commit(vec![turn]).await.remove(0).expect("committed");
        new.first_execution()
    }

    async fn commit(&self, turns: Vec<Turn>) -> Vec<Result<Committed, CommitError>> {
        self.commit_as(self.lease, turns).await
    }

    async fn commit_as(&self, lease: Lease, turns: Vec<Turn>) -> Vec<Result<Committed, CommitError>> {
        let commit = |turn| Arc::new(Commit { id: CommitId::new(), write: Write::Turn(Box::new(turn)) });
        self.provider.commit(&lease, turns.into_iter().map(commit).collect()).await.expect("commit")
    }

    /// Commits a turn beside a good one, which must be written. Returns the answer to the first.
    async fn beside_another(&mut self, turn: Turn) -> Result<Committed, CommitError> {
        let good = self.instance().await;
        self.beside(turn, &good).await
    }

    async fn beside(&self, turn: Turn, good: &ExecutionId) -> Result<Committed, CommitError> {
        let mut answers = self.commit(vec![turn, second(good)]).await;
        assert_eq!(answers[1], Ok(Committed::default()));
        assert_eq!(self.last_event(&good.instance).await, Some(3));
        answers.remove(0)
    }

    async fn last_event(&self, instance: &InstanceId) -> Option<u64> {
        Some(self.provider.instance(instance).await.expect("read")?.last_event.0)
    }

    /// Returns the number of rows of an instance that are left in a table.
    async fn rows(&self, table: &str, instance: &InstanceId) -> i64 {
        let query =
            format!("SELECT count(*) FROM {table} t JOIN instances i ON i.seq = t.instance WHERE i.id = '{instance}'");
        Obstacle::connect(&self.schema).await.number(&query).await
    }
}

fn event(n: u64) -> EventRow {
    let (data, payload) = (n.to_string(), Payload::NULL);
    EventRow { id: EventId(n), time: at(2), decision: n.is_multiple_of(2), format: 1, data, payload, at: None }
}

/// Returns a turn that an instance may make next.
fn second(execution: &ExecutionId) -> Turn {
    Turn { events: vec![event(3)], ..Turn::new(execution.clone(), EventId(2), at(3)) }
}

fn finish(execution: &ExecutionId) -> Turn {
    let then = Then::Finish { status: InstanceStatus::Completed };
    Turn { outcomes: vec![(ACTIVITY, 1)], then, ..second(execution) }
}

fn creating(new: &NewInstance) -> Turn {
    let creates = Some(Box::new(new.clone()));
    Turn { creates, events: vec![event(1)], ..Turn::new(new.first_execution(), EventId(0), at(2)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_turn_is_refused_alone() {
    let Some(mut world) = World::open("direct_refused").await else { return };
    type Change = fn(&mut Turn);
    let changes: [(&str, Change, CommitError); 8] = [
        ("another instance", |turn| turn.execution.identity = Identity(CommitId::new().0), CommitError::Conflict),
        ("another execution", |turn| turn.execution.number = 2, CommitError::Conflict),
        ("an earlier event", |turn| turn.after = EventId(1), CommitError::Conflict),
        (
            "an earlier event, and nothing to write",
            |turn| (turn.after, turn.events, turn.outcomes) = (EventId(1), vec![], vec![]),
            CommitError::Conflict,
        ),
        ("a missing message", |turn| turn.consumed = vec![MessageRow::new("").id], CommitError::Conflict),
        ("a missing activity", |turn| turn.outcomes.push((CallId(7), 1)), CommitError::Conflict),
        ("another attempt", |turn| turn.outcomes = vec![(ACTIVITY, 2)], CommitError::Conflict),
        ("a missing instance", |turn| turn.execution.instance = id("missing"), CommitError::Fenced),
    ];
    for (name, change, expected) in changes {
        for turn in [second, finish] {
            let execution = world.instance().await;
            let mut turn = turn(&execution);
            change(&mut turn);
            assert_eq!(world.commit(vec![turn.clone()]).await, [Err(expected.clone())], "{name}");
            assert_eq!(world.beside_another(turn).await, Err(expected.clone()), "{name}");
            assert_eq!(world.last_event(&execution.instance).await, Some(2), "{name}");
            assert_eq!(world.rows("activities", &execution.instance).await, 1, "{name}");
        }
    }
    // Of an activity that another node owns now.
    for turn in [second, finish] {
        let execution = world.instance().await;
        world.schema.execute("UPDATE activities SET owner = NULL");
        let turn = Turn { outcomes: vec![(ACTIVITY, 1)], ..turn(&execution) };
        assert!(world.beside_another(turn).await.is_err());
        assert_eq!(world.last_event(&execution.instance).await, Some(2));
    }
    // Of an instance that another node owns.
    let other = world.schema.connect().join(&info()).await.expect("join");
    for turn in [second, finish] {
        let execution = world.instance().await;
        assert_eq!(world.commit_as(other, vec![turn(&execution)]).await, [Err(CommitError::Fenced)]);
    }
    // Of an instance that is suspended, which may end.
    let execution = world.instance().await;
    world.schema.execute(&format!("UPDATE live SET suspended = true WHERE id = '{}'", execution.instance));
    assert!(world.beside_another(second(&execution)).await.is_err());
    assert_eq!(world.beside_another(finish(&execution)).await, Ok(Committed::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_creation_is_refused_alone() {
    let Some(mut world) = World::open("direct_created").await else { return };
    let new = |name: &str, world: &World| start(name, Some(world.lease)).0;
    let taken = world.instance().await;
    let again = creating(&new(taken.instance.as_str(), &world));
    assert_eq!(world.beside_another(again).await, Err(CommitError::Conflict));
    assert_eq!(world.last_event(&taken.instance).await, Some(2));
    let finished = world.instance().await;
    assert!(world.commit(vec![finish(&finished)]).await[0].is_ok());
    let again = creating(&new(finished.instance.as_str(), &world));
    assert_eq!(world.beside_another(again).await, Err(CommitError::Conflict));
    // The start of an instance that was removed.
    let removed = new("removed", &world);
    world.schema.execute(&format!("INSERT INTO dedup (id) VALUES ('{}')", removed.start.id));
    assert_eq!(world.beside_another(creating(&removed)).await, Err(CommitError::Conflict));
    assert_eq!(world.last_event(&removed.instance).await, None);
    // A node with a later version has joined elsewhere.
    let later = NodeInfo {
        handlers: Handlers { orchestrations: vec![("flow".to_owned(), Version::new(2, 0, 0))], ..Handlers::default() },
        ..info()
    };
    let elsewhere = world.schema.connect();
    let (good, outdated) = (world.instance().await, new("outdated", &world));
    let other = elsewhere.join(&later).await.expect("join");
    assert_eq!(world.beside(creating(&outdated), &good).await, Err(CommitError::Conflict));
    elsewhere.leave(&other).await.expect("leave");
    // The node itself has ended elsewhere.
    let fenced = new("fenced", &world);
    elsewhere.leave(&world.lease).await.expect("leave");
    assert_eq!(world.commit(vec![creating(&fenced)]).await, [Err(CommitError::Fenced)]);
    // It is refused as well once this process has read that the node has ended.
    let next = world.provider.join(&info()).await.expect("join");
    world.provider.acquire(&next, Want::new(at(3))).await.expect("acquire");
    assert_eq!(world.commit(vec![creating(&fenced)]).await, [Err(CommitError::Fenced)]);
    assert_eq!(world.last_event(&fenced.instance).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_beyond_the_instance_itself_are_read_first() {
    let Some(mut world) = World::open("direct_effects").await else { return };
    let out = |to: &InstanceId, message| Outgoing { to: to.clone(), identity: None, message };
    let later = |message: MessageRow| MessageRow { visible_at: Some(at(900)), ..message };
    let other = world.instance().await;
    // To another instance; at once; for another execution; for another identity; and a timer.
    for (kind, expected) in [Some(Some(2)), Some(Some(2)), None, None, Some(None)].into_iter().enumerate() {
        let execution = world.instance().await;
        let own = out(&execution.instance, later(MessageRow::new("\"a message\"")));
        let message = match kind {
            0 => out(&other.instance, MessageRow::new("\"a message\"")),
            1 => out(&execution.instance, MessageRow::new("\"a message\"")),
            2 => Outgoing { message: MessageRow { execution: Some(9), ..own.message }, ..own },
            3 => Outgoing { identity: Some(other.identity), ..own },
            _ => own,
        };
        let turn = Turn { messages: vec![message], ..second(&execution) };
        let committed = world.beside_another(turn).await.expect("committed");
        let number = |placement: &Placement| match placement {
            Placement::Owned { number, .. } => Some(*number),
            _ => None,
        };
        assert_eq!(committed.messages.iter().map(number).collect::<Vec<_>>(), [expected], "{kind}");
    }
    assert_eq!(world.rows("messages", &other.instance).await, 2, "its timer and the message");

    // A child, and an activity whose outcome is no longer wanted.
    let execution = world.instance().await;
    let child = start("child", Some(world.lease)).0;
    let if_taken = MessageRow::new("\"taken\"");
    let starts = vec![NewChild { new: child, accepted: None, if_taken }];
    world.beside_another(Turn { starts, ..second(&execution) }).await.expect("committed");
    assert_eq!(world.last_event(&id("child")).await, Some(0));
    let execution = world.instance().await;
    let turn = Turn { cancelled_activities: vec![ACTIVITY], ..second(&execution) };
    world.beside_another(turn).await.expect("committed");
    assert_eq!(world.rows("activities", &execution.instance).await, 0);

    // An end that leaves an activity, schedules one, or sends a message.
    let left = world.instance().await;
    let turn = Turn { outcomes: Vec::new(), ..finish(&left) };
    world.beside_another(turn).await.expect("committed");
    let scheduled = world.instance().await;
    let activities = vec![NewActivity::new(CallId(3), EventId(3), "work")];
    world.beside_another(Turn { activities, ..finish(&scheduled) }).await.expect("committed");
    let timer = world.instance().await;
    let messages = vec![out(&timer.instance, later(MessageRow::new("\"a timer\"")))];
    let committed = world.beside_another(Turn { messages, ..finish(&timer) }).await.expect("committed");
    assert_eq!(committed.messages, [Placement::Refused], "it has ended");
    for ended in [left, scheduled, timer] {
        assert_eq!(world.rows("activities", &ended.instance).await, 0, "{}", ended.instance);
        assert_eq!(world.rows("messages", &ended.instance).await, 0, "{}", ended.instance);
    }

    // Two turns of one instance, in one call.
    let execution = world.instance().await;
    let third = Turn { events: vec![event(4)], ..Turn::new(execution.clone(), EventId(3), at(4)) };
    assert_eq!(
        world.commit(vec![second(&execution), third]).await,
        [Ok(Committed::default()), Ok(Committed::default())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_during_the_statement_is_not_missed() {
    let Some(mut world) = World::open("direct_delivery").await else { return };
    for turn in [second, finish] {
        let execution = world.instance().await;
        let other = world.schema.connect();
        // The delivery holds the row of the instance until the turn waits for it: the snapshot of the turn is older.
        let held = Obstacle::connect(&world.schema).await;
        let lock = format!(
            "BEGIN; UPDATE live SET stored = stored + 1, arrivals = arrivals + 1 WHERE id = '{}'",
            execution.instance
        );
        held.execute(&lock).await;
        let insert = format!(
            "INSERT INTO messages (instance, id, arrival, number, lane, arrived_at, sent, format, data)
             SELECT seq, md5(random()::text)::uuid, stored, arrivals, 2, 0, false, 1, '1' FROM live WHERE id = '{}'",
            execution.instance
        );
        held.execute(&insert).await;
        let delivers = async {
            held.until(
                "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                WHERE NOT l.granted AND a.application_name = 'duroxide hot')",
            )
            .await;
            held.remove().await;
        };
        let (committed, ()) = tokio::join!(world.commit(vec![turn(&execution)]), delivers);
        assert_eq!(committed, [Ok(Committed::default())]);
        // A later message has the next position.
        let sent = other.submit(vec![send(execution.instance.as_str(), 1)]).await.expect("submit").remove(0);
        match turn(&execution).then {
            Then::Finish { .. } => assert_eq!(world.rows("messages", &execution.instance).await, 0),
            _ => assert_eq!(sent.expect("sent").number, Some(3)),
        }
    }
}
