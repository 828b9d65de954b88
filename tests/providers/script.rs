//! A script of all kinds of writes, in an order in which each write finds the rows that it needs. The ids are fixed when the
//! script is made, so that any step can be repeated.

use std::sync::Arc;

use duroxide::history::{Parent, TextMap};
use duroxide::id::{ActivityId, CallId, CommitId, Epoch, EventId, ExecutionId, MessageId, NodeId};
use duroxide::provider::Lane;
use duroxide::provider::*;
use duroxide::sqlite::SqliteProvider;
use duroxide::{Payload, Timestamp};
use semver::Version;

use crate::store::{id, message, node, want};

/// One call of the provider.
pub(crate) enum Op {
    Join(Node),
    /// Another process joins, claims the free items, and dies.
    JoinAndDie,
    Renew(Node),
    Leave(Node),
    /// A request for work, with the number of the last received claim.
    Acquire(Node, u64),
    /// Acknowledges mail, and the cancellation of an activity.
    Acknowledge(Node, Vec<Heard>, Option<ActivityId>),
    Commit(Node, Vec<Arc<Commit>>),
    Submit(Vec<Submission>),
    Delete(&'static [&'static str]),
    Prune,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Node {
    First,
    Second,
    Doomed,
}

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) op: Op,
    /// The number of entries that are refused at the first time. If the step is repeated, writes that end a tenure are
    /// refused as well.
    refused: usize,
}

pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    nodes: [NodeInfo; 3],
}

/// The leases of the nodes that have joined so far.
pub(crate) type Leases = [Option<Lease>; 3];

impl Script {
    pub(crate) fn new() -> Self {
        let member = |name: &str| NodeInfo { name: name.to_owned(), handlers: handlers(), ..node() };
        Self { steps: steps(), nodes: [member("first"), member("second"), member("doomed")] }
    }

    /// Returns the id of the node that dies without leaving.
    pub(crate) fn doomed(&self) -> NodeId {
        self.nodes[Node::Doomed as usize].id
    }

    /// Makes a step. Each step has another time.
    pub(crate) async fn run(&self, step: usize, provider: &SqliteProvider, leases: &mut Leases) {
        let now = Timestamp::from_micros((i64::try_from(step).expect("few") + 1) * 1_000_000);
        // Some writes have no time: the provider uses the latest one that it has seen. This request sets it, and writes
        // nothing, because its node is not a member.
        let no_member = Lease { node: NodeId::new(), epoch: Epoch(0) };
        provider.acquire(&no_member, Want { now, ..want() }).await.expect("ask");
        let lease = |node: Node| leases[node as usize].expect("the node has joined");
        let want = || {
            let names = Arc::new(["work".to_owned()]);
            Want { now, activities: vec![ActivityGroup { names, limit: 100 }], ..want() }
        };
        let Step { name, op, refused } = &self.steps[step];
        match op {
            Op::Join(node) => {
                let info = &self.nodes[*node as usize];
                leases[*node as usize] = Some(provider.join(info).await.expect("join"));
            }
            Op::JoinAndDie => {
                let other = SqliteProvider::open(path(provider)).expect("open");
                let lease = other.join(&self.nodes[Node::Doomed as usize]).await.expect("join");
                let acquired = other.acquire(&lease, want()).await.expect("acquire");
                assert_eq!((acquired.instances.len(), acquired.activities.len()), (1, 1));
            }
            Op::Renew(node) => loop {
                let renewal = provider.renew(&lease(*node), &NodeReport::default()).await.expect("renew");
                assert!(matches!(renewal, Renewal::Held { .. }), "{renewal:?}");
                // A process that another test forks at this moment may hold the lock of the dead node a little longer.
                let nodes = provider.nodes().await.expect("nodes");
                if nodes.iter().all(|node| node.info.id != self.doomed()) {
                    break;
                }
            },
            Op::Leave(node) => provider.leave(&lease(*node)).await.expect("leave"),
            Op::Acquire(node, claim) => {
                let acquired =
                    provider.acquire(&lease(*node), Want { claim: *claim, ..want() }).await.expect("acquire");
                assert_eq!(acquired.claim, claim + 1, "{name}");
            }
            Op::Acknowledge(node, heard, cancelled) => {
                let cancelled = cancelled.iter().cloned().collect();
                let acknowledgement = Want { heard: heard.clone(), cancelled, ..Want::new(now) };
                provider.acquire(&lease(*node), acknowledgement).await.expect("acknowledge");
            }
            Op::Commit(node, commits) => {
                let results = provider.commit(&lease(*node), commits.clone()).await.expect("commit");
                let is_fence = |commit: &Commit, result: &Result<_, _>| {
                    !matches!(commit.write, Write::Turn(_)) && *result == Err(CommitError::Fenced)
                };
                let answered = commits.iter().zip(&results).filter(|(commit, result)| !is_fence(commit, result));
                assert_eq!(answered.filter(|(_, result)| result.is_err()).count(), *refused, "{name}: {results:?}");
            }
            Op::Submit(submissions) => {
                let mut submissions = submissions.clone();
                for submission in &mut submissions {
                    if let Submission::Start(request) = submission {
                        request.lease = leases[Node::First as usize].filter(|_| request.new.eager);
                    }
                }
                let results = provider.submit(submissions).await.expect("submit");
                assert_eq!(results.iter().filter(|result| result.is_err()).count(), *refused, "{name}: {results:?}");
            }
            Op::Delete(names) => {
                let instances: Vec<_> = names.iter().copied().map(id).collect();
                provider.delete(&instances, &[]).await.expect("delete");
            }
            Op::Prune => drop(provider.prune(&Filter::default(), now, &Page::new(100)).await.expect("prune")),
        }
    }
}

/// Returns the path of the database of a provider, which its `Debug` shows.
fn path(provider: &SqliteProvider) -> String {
    let shown = format!("{provider:?}");
    shown.split('"').nth(1).expect("the path").to_owned()
}

fn handlers() -> Handlers {
    Handlers { activities: vec!["work".to_owned()], ..node().handlers }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn text(length: usize) -> Payload {
    Payload::encode(&"v".repeat(length)).expect("encode")
}

fn event(n: u64) -> EventRow {
    let payload = if n == 2 { text(3000) } else { text(3) };
    EventRow {
        id: EventId(n),
        time: at(1),
        decision: n.is_multiple_of(2),
        format: 1,
        data: "{}".to_owned(),
        payload,
        at: None,
    }
}

fn new_instance(name: &str) -> NewInstance {
    let labels = TextMap::from([("kind".to_owned(), name.to_owned())]);
    NewInstance { labels, ..NewInstance::new(id(name), "flow", message(text(5))) }
}

fn turn(new: &NewInstance, number: u64, after: u64, events: u64) -> Turn {
    let execution = ExecutionId { number, ..new.first_execution() };
    Turn {
        version: Some(Version::new(1, 0, 0)),
        events: (after + 1..=after + events).map(event).collect(),
        ..Turn::new(execution, EventId(after), at(1))
    }
}

fn activity(call: u64, eager: bool, detached: bool) -> NewActivity {
    let headers = TextMap::from([("trace".to_owned(), "1".to_owned())]);
    NewActivity { detached, eager, headers, ..NewActivity::new(CallId(call), EventId(2), "work") }
}

/// Returns an activity of the first execution.
fn activity_id(of: &NewInstance, call: u64) -> ActivityId {
    ActivityId { execution: of.first_execution(), call: CallId(call) }
}

fn tenure(of: &NewInstance, call: u64, attempt: u32, claim: u64) -> Tenure {
    Tenure { activity: activity_id(of, call), attempt, claim }
}

fn commit(write: Write) -> Arc<Commit> {
    Arc::new(Commit { id: CommitId::new(), write })
}

fn turn_commit(turn: Turn) -> Arc<Commit> {
    commit(Write::Turn(Box::new(turn)))
}

fn start(new: &NewInstance, if_exists: IfExists) -> Submission {
    Submission::Start(StartRequest { new: new.clone(), if_exists, lease: None, time: at(1), resent: false })
}

fn send(to: &str, message: &MessageRow) -> Submission {
    let (to, message) = (id(to), message.clone());
    Submission::Send(SendRequest { to, message, lease: None, time: at(1), resent: false })
}

fn steps() -> Vec<Step> {
    let order = NewInstance { eager: true, ..new_instance("order") };
    let waiting = new_instance("waiting");
    let eternal = NewInstance { eager: true, ..new_instance("eternal") };
    let child = NewInstance {
        eager: true,
        parent: Some(Parent { execution: order.first_execution(), call: CallId(4) }),
        ..new_instance("child")
    };
    let raised = message(text(2000));
    let cancel = message(text(4));
    let timer = MessageRow { call: Some(CallId(3)), visible_at: Some(at(3600)), ..message(Payload::NULL) };
    let next = MessageRow { lane: Lane::Start, ..message(text(6)) };
    let accepted = message(Payload::NULL);
    let rejected = message(Payload::NULL);
    let unknown = message(Payload::NULL);
    let to_waiting = message(text(7));
    let outgoing = |to: &str, message: &MessageRow| Outgoing { to: id(to), identity: None, message: message.clone() };

    let first_turn = Turn {
        consumed: vec![order.start.id],
        activities: vec![activity(1, true, false), activity(2, false, false), activity(5, false, true)],
        messages: vec![outgoing("order", &timer), outgoing("waiting", &to_waiting), outgoing("none", &unknown)],
        starts: vec![
            NewChild { new: child.clone(), accepted: Some(accepted), if_taken: message(Payload::NULL) },
            NewChild { new: new_instance("waiting"), accepted: None, if_taken: rejected.clone() },
        ],
        ..turn(&order, 1, 0, 4)
    };
    let continued = Turn {
        consumed: vec![raised.id],
        outcomes: vec![(CallId(1), 1)],
        cancelled_messages: vec![CallId(3)],
        cancelled_activities: vec![CallId(2)],
        messages: vec![outgoing("order", &next)],
        then: Then::ContinueAsNew { version: None },
        ..turn(&order, 1, 4, 2)
    };
    let undone = Turn { consumed: vec![MessageId::new()], ..turn(&eternal, 1, 0, 3) };
    let stale = turn(&eternal, 1, 7, 1);
    let eternal_turn = Turn {
        consumed: vec![eternal.start.id],
        activities: vec![activity(1, false, false), activity(2, false, false)],
        ..turn(&eternal, 1, 0, 2)
    };
    let heard_of = |new: &NewInstance, number| {
        let ExecutionId { instance, identity, .. } = new.first_execution();
        Heard { instance, identity, number }
    };
    let cancelling = Turn { cancelled_activities: vec![CallId(2)], ..turn(&eternal, 1, 2, 1) };
    let creates = |name: &str| {
        let new = NewInstance { eager: true, ..new_instance(name) };
        Turn { creates: Some(Box::new(new.clone())), ..turn(&new, 1, 0, 2) }
    };
    let creating = Turn {
        activities: vec![activity(1, true, false)],
        messages: vec![outgoing("waiting", &message(text(5)))],
        ..creates("quick")
    };
    let created = creates("order");
    let suspended = Then::Suspend { reason: r#"{"code":"DUR0001","message":"m"}"#.to_owned() };
    let finished = |status| Then::Finish { status };
    let failed = Box::new(FailedAttempt { began: at(7), ended: at(8), error: "no".to_owned() });
    let retry = Write::Retry { tenure: tenure(&eternal, 1, 1, 1), visible_at: at(8), failed, cause: None };
    let outcome = Write::Outcome { tenure: tenure(&eternal, 1, 2, 2), message: message(text(1500)) };
    let park = Write::Park { tenure: tenure(&order, 5, 1, 1), reason: "{}".to_owned(), cause: None };
    let replacement = new_instance("waiting");
    let (first, second) = (Node::First, Node::Second);

    let step = |name, op| Step { name, op, refused: 0 };
    let refusing = |name, op, refused| Step { name, op, refused };
    vec![
        step("join", Op::Join(first)),
        step("join another", Op::Join(second)),
        refusing(
            "start, one of them twice",
            Op::Submit(vec![
                start(&order, IfExists::Error),
                start(&waiting, IfExists::Error),
                start(&new_instance("order"), IfExists::Error),
                start(&eternal, IfExists::Error),
            ]),
            1,
        ),
        refusing(
            "send an event, and one to no instance",
            Op::Submit(vec![send("order", &raised), send("none", &unknown)]),
            1,
        ),
        step("a turn that schedules, waits, starts and sends", Op::Commit(first, vec![turn_commit(first_turn)])),
        refusing(
            "turns, some of them refused",
            Op::Commit(first, vec![turn_commit(undone), turn_commit(stale), turn_commit(eternal_turn)]),
            2,
        ),
        refusing(
            "first turns that create, one of them with a taken id",
            Op::Commit(first, vec![turn_commit(creating), turn_commit(created)]),
            1,
        ),
        step("claim", Op::Acquire(second, 0)),
        step("an attempt failed", Op::Commit(second, vec![commit(retry)])),
        step("claim the next attempt", Op::Acquire(second, 1)),
        step("an outcome", Op::Commit(second, vec![commit(outcome)])),
        step("acknowledge mail", Op::Acknowledge(first, vec![heard_of(&order, 9), heard_of(&eternal, 9)], None)),
        step("cancel an activity of another node", Op::Commit(first, vec![turn_commit(cancelling)])),
        step("acknowledge the cancellation", Op::Acknowledge(second, Vec::new(), Some(activity_id(&eternal, 2)))),
        step("an activity is parked", Op::Commit(second, vec![commit(park)])),
        step("resume its instance", Op::Submit(vec![Submission::Resume { instance: id("order"), time: at(1) }])),
        step(
            "release",
            Op::Commit(
                second,
                vec![
                    commit(Write::ReleaseActivity { tenure: tenure(&order, 2, 1, 1) }),
                    commit(Write::ReleaseInstance { execution: waiting.first_execution(), claim: 1 }),
                ],
            ),
        ),
        step("leave", Op::Leave(second)),
        step("continue as new", Op::Commit(first, vec![turn_commit(continued)])),
        step("another process claims the free items, and dies", Op::JoinAndDie),
        step("renew, and take over", Op::Renew(first)),
        step("cancel", Op::Submit(vec![send("waiting", &cancel)])),
        step("claim the items of the dead node", Op::Acquire(first, 0)),
        step(
            "a cancelled instance ends",
            Op::Commit(
                first,
                vec![turn_commit(Turn {
                    consumed: vec![cancel.id, waiting.start.id, to_waiting.id],
                    then: finished(InstanceStatus::Cancelled),
                    ..turn(&waiting, 1, 0, 2)
                })],
            ),
        ),
        step("suspend", Op::Commit(first, vec![turn_commit(Turn { then: suspended, ..turn(&order, 2, 0, 1) })])),
        step("resume", Op::Submit(vec![Submission::Resume { instance: id("order"), time: at(1) }])),
        step("claim it again", Op::Acquire(first, 1)),
        step(
            "terminate",
            Op::Submit(vec![Submission::Terminate {
                id: CommitId::new(),
                turn: Box::new(Turn {
                    messages: vec![outgoing("order", &message(text(9)))],
                    then: finished(InstanceStatus::Terminated),
                    ..turn(&child, 1, 0, 1)
                }),
            }]),
        ),
        step(
            "complete",
            Op::Commit(
                first,
                vec![turn_commit(Turn {
                    consumed: vec![next.id],
                    then: finished(InstanceStatus::Completed),
                    ..turn(&order, 2, 1, 2)
                })],
            ),
        ),
        step(
            "replace, and attach",
            Op::Submit(vec![start(&replacement, IfExists::Replace), start(&new_instance("eternal"), IfExists::Attach)]),
        ),
        step("delete", Op::Delete(&["child", "eternal", "none"])),
        step("prune", Op::Prune),
        step("leave as well", Op::Leave(first)),
    ]
}

/// Returns the content of the database as text, without the numbers that differ after a repeated step: they only grow.
pub(crate) fn contents(database: &rusqlite::Connection) -> String {
    let node = |column: &str| format!("(SELECT name FROM duroxide_nodes n WHERE n.epoch = {column}) AS {column}");
    let mut contents = String::new();
    let tables = [
        ("instances", "seq", &["owner"][..]),
        ("executions", "instance, number", &[]),
        ("events", "instance, execution, id", &[]),
        ("messages", "arrival", &["arrival"]),
        ("activities", "instance, execution, call", &["owner"]),
        ("payloads", "id", &[]),
        ("labels", "name, value, instance", &[]),
        ("dedup", "id", &[]),
        ("rejections", "instance, execution, call, build", &[]),
        ("nodes", "epoch", &["epoch"]),
        ("mail", "owner, instance", &["owner"]),
        ("cancellations", "epoch, identity, execution, call", &["epoch"]),
    ];
    for (table, order, apart) in tables {
        let names = format!("SELECT name FROM pragma_table_info('duroxide_{table}')");
        let mut names = database.prepare(&names).expect("prepare");
        let columns: Vec<String> =
            names.query_map([], |row| row.get(0)).expect("columns").map(|c| c.expect("column")).collect();
        let shown = columns.iter().filter_map(|column| match (apart.contains(&column.as_str()), column.as_str()) {
            (true, "owner") | (true, "epoch") if table != "nodes" => Some(node(column)),
            (true, _) => None,
            (false, _) => Some(format!("\"{column}\"")),
        });
        let select = shown.collect::<Vec<_>>().join(", ");
        let rows = format!("SELECT {select} FROM duroxide_{table} ORDER BY {order}");
        let mut rows = database.prepare(&rows).expect("prepare");
        let width = rows.column_count();
        let mut rows = rows.query([]).expect("query");
        while let Some(row) = rows.next().expect("row") {
            let values = (0..width).map(|n| format!("{:?}", row.get::<_, rusqlite::types::Value>(n).expect("value")));
            contents.push_str(&format!("{table}: {}\n", values.collect::<Vec<_>>().join(" ")));
        }
    }
    contents
}
