//! The sentences of [`Why`], one case for each state.

use std::time::Duration;

use super::*;
use crate::error::{ErrorCode, Pause, Suspension};
use crate::history::{ActivityScheduled, ChildScheduled, Decision, Failure, Started, Waits};
use crate::id::{CallId, EventId, ExecutionId, Identity, NodeId};
use crate::payload::Payload;
use crate::policy::{ActivityOptions, ClosePolicy, RetryPolicy};
use crate::provider::{
    ActivityRecord, AttemptRecord, DepartedNode, Departure, FailedAttempt, Handlers, InstanceRecord, InstanceStatus,
    NodeInfo, NodeReport, Ready, StuckCode,
};

const DAY: i64 = 86_400;
/// The blame of an instance that advances without help.
const NONE: Blame = Blame::None;

fn second(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_000)
}

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("is an id")
}

/// Returns an instance `name` that began at second 0 and made these decisions then, seen at a time.
fn seen(name: &str, now: Timestamp, decisions: Vec<Decision>) -> Inspection {
    let execution = ExecutionId { instance: id(name), identity: Identity::UNKNOWN, number: 1 };
    let started = Started {
        name: "checkout".to_owned(),
        version: None,
        seed: 7,
        parent: None,
        headers: Default::default(),
        labels: Default::default(),
        request: None,
    };
    let kinds = decisions.into_iter().map(EventKind::Decision);
    let kinds = std::iter::once(EventKind::Input(Input::Started(Box::new(started)))).chain(kinds);
    let event = |(id, kind)| HistoryEvent {
        id: EventId(id),
        time: second(0),
        kind,
        payload: Payload::NULL,
        at: (id > 1).then(|| format!("src/checkout.rs:4{id}:9").into()),
    };
    let events: Vec<_> = (1..).zip(kinds).map(event).collect();
    let record = InstanceRecord {
        execution: execution.clone(),
        name: "checkout".to_owned(),
        version: None,
        status: InstanceStatus::Running,
        labels: Default::default(),
        parent: None,
        created_at: second(0),
        updated_at: second(0),
        finished_at: None,
        last_event: EventId(events.len() as u64),
        outcome: None,
        suspension: None,
        cause: None,
        waits: None,
        owner: Some(Epoch(2)),
        unclaimed: None,
        damaged: None,
    };
    let info = NodeInfo {
        id: NodeId::new(),
        name: "shop-2".to_owned(),
        build: "b2".to_owned(),
        handlers: Handlers { activities: vec!["charge".to_owned()], ..Handlers::default() },
        lease_time: Duration::from_secs(5),
        details: Default::default(),
    };
    let waits = open_waits(&execution, &events);
    Inspection {
        status: Status::from(record),
        owner: Some(Epoch(2)),
        made: made_together(&execution, &waits, &events),
        waits,
        activities: InstanceActivities::default(),
        unread: Vec::new(),
        more_messages: false,
        begins_at: None,
        last: events.last().cloned(),
        ended_by: None,
        nodes: vec![NodeRecord { instances: 1, ..NodeRecord::departed(info, Epoch(2), now) }],
        departed: Vec::new(),
        now,
    }
}

fn charge(call: u64) -> Decision {
    let retry = RetryPolicy::new().max_attempts(5);
    Decision::ActivityScheduled(Box::new(ActivityScheduled {
        call: CallId(call),
        name: "charge".to_owned(),
        tag: None,
        detached: false,
        options: ActivityOptions::new().retry(retry).start_to_close(Duration::from_secs(30)),
    }))
}

fn approval(call: u64) -> Decision {
    Decision::EventAwaited { call: CallId(call), name: "Approval".to_owned() }
}

fn timer(call: u64, due: i64) -> Decision {
    Decision::TimerCreated { call: CallId(call), due: second(due) }
}

fn child(call: u64, instance: &str) -> Decision {
    Decision::ChildScheduled(Box::new(ChildScheduled {
        call: CallId(call),
        name: "ship".to_owned(),
        version: None,
        instance: Some(id(instance)),
        detached: false,
        close: ClosePolicy::Cancel,
    }))
}

/// Returns an instance that waits for an activity, in its n-th attempt: on node 2, or due at a second.
fn charging(now: i64, attempt: u32, due: Option<i64>, errors: &[&str]) -> Inspection {
    let open = ActivityRecord {
        execution: 1,
        call: CallId(1),
        name: "charge".to_owned(),
        tag: None,
        attempt,
        ready: due.map(|due| Ready::At(second(due))),
        owner: due.is_none().then_some(Epoch(2)),
        parked: false,
        cause: None,
    };
    let failed = (1..).zip(errors).map(|(attempt, error)| AttemptRecord {
        execution: 1,
        call: CallId(1),
        attempt,
        node: Epoch(2),
        next_at: second(0),
        failed: FailedAttempt { began: second(0), ended: second(i64::from(attempt)), error: (*error).to_owned() },
    });
    let activities = InstanceActivities { open: vec![open], failed: failed.collect() };
    Inspection { activities, ..seen("order-17", second(now), vec![charge(1)]) }
}

fn with_status(mut inspection: Inspection, change: impl FnOnce(&mut Status)) -> Inspection {
    change(&mut inspection.status);
    inspection
}

fn suspension() -> Suspension {
    let mut suspension = Suspension::new(ErrorCode::Nondeterminism, "call 3 has changed");
    suspension.place = Some("src/checkout.rs:44:9".to_owned());
    suspension
}

fn crash_loop() -> Suspension {
    Suspension::new(ErrorCode::CrashLoop, "3 crashes")
}

/// Adds unread events of these names and numbers.
fn with_unread(mut inspection: Inspection, events: &[(&str, u64)]) -> Inspection {
    let events = events.iter().map(|(name, count)| {
        let (name, count) = ((*name).to_owned(), *count);
        UnreadEvents { name, count, since: second(1) }
    });
    inspection.unread = events.collect();
    inspection
}

fn ended(status: InstanceStatus, decision: Decision, error: Payload) -> Inspection {
    let mut inspection = with_status(seen("order-17", second(9), vec![decision]), |s| {
        (s.status, s.finished_at) = (status, Some(second(4)));
    });
    inspection.waits.clear();
    inspection.last.as_mut().expect("has events").payload = error;
    inspection
}

#[test]
fn each_state_has_its_sentence() {
    let now = |decisions| seen("order-17", second(3 * 3600 + 60), decisions);
    let mut unbegun = now(Vec::new());
    unbegun.last = None;
    let unclaimed =
        crate::provider::Unclaimed { what: "activity ship with tag warehouse".to_owned(), since: second(60) };
    let cancelled = Decision::Cancelled { reason: "duplicate".to_owned() };
    let mut cancelled = ended(InstanceStatus::Cancelled, cancelled, Payload::NULL);
    cancelled.ended_by = Some("ana".to_owned());
    let failed = Decision::Failed { failure: Failure::Application };
    let failed = ended(InstanceStatus::Failed, failed, Payload::encode("NotApproved").expect("a text"));
    let three = vec![charge(1), approval(2), child(3, "ship-17")];
    let mut orphaned = now(vec![charge(1)]);
    orphaned.owner = Some(Epoch(1));
    let mut known = orphaned.clone();
    let node = NodeRecord { epoch: Epoch(1), ..known.nodes[0].clone() };
    known.departed = vec![DepartedNode { node, left_at: second(65), seen_at: second(60), cause: Departure::Silent }];
    let mut silent = now(Vec::new());
    silent.nodes[0].seen_at = Some(second(3 * 3600 + 56));
    let delayed = Inspection { begins_at: Some(second(4 * 3600)), ..unbegun.clone() };
    let mut parked = with_status(charging(44, 3, None, &["busy"]), |s| s.suspension = Some(crash_loop()));
    (parked.activities.open[0].parked, parked.activities.open[0].owner) = (true, None);
    let mut tried = with_status(now(vec![approval(1)]), |s| {
        s.suspension = Some(Suspension { build: Some("b1".to_owned()), ..suspension() });
    });
    tried.nodes[0].info.handlers.orchestrations = vec![("checkout".to_owned(), semver::Version::new(1, 0, 0))];
    let misnamed = with_unread(now(vec![approval(1), timer(2, DAY)]), &[("Note", 2)]);
    let names = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 2)];
    let several = with_unread(now(vec![approval(1), approval(2)]), &names);
    let recorded = Waits { text: "e:Approval".to_owned(), since: second(3 * 3600), until: None };
    let recorded = with_status(now(vec![approval(1)]), |s| s.waits = Some(recorded));
    use WhyState::*;
    let raise = [Action::Raise("Approval".to_owned())];
    let start = [Action::StartNode("activity ship with tag warehouse".to_owned())];
    let cases = [
        (unbegun, NotBegun, "It has not begun; it was created 3 h 1 min ago.", (NONE, &[][..], None)),
        (
            delayed,
            NotBegun,
            "It begins at 1970-01-01T04:00:00.000Z (in 59 min); it was created 3 h 1 min ago.",
            (NONE, &[Action::Wake][..], Some(4 * 3600)),
        ),
        (
            now(Vec::new()),
            Turn,
            "Its code runs on shop-2, or is about to; it last changed 3 h 1 min ago.",
            (NONE, &[][..], None),
        ),
        (
            charging(4, 2, None, &["busy"]),
            Running,
            "`charge` runs on shop-2 (attempt 2 of 5); it was scheduled 4 s ago. Its limit is 30 s. \
             It failed once 3 s ago: `busy`.",
            (NONE, &[][..], None),
        ),
        (
            charging(44, 5, Some(64), &["gateway 503"; 4]),
            BackingOff,
            "`charge` failed 4 times, last 40 s ago: `gateway 503` (the same each time). \
             Attempt 5 of 5 at 1970-01-01T00:01:04.000Z, in 20 s.",
            (Blame::Code, &[Action::Wake][..], Some(64)),
        ),
        (
            charging(180, 1, Some(0), &[]),
            Queued,
            "`charge` has waited 3 min for a node with a free slot; one node serves it.",
            (NONE, &[][..], None),
        ),
        (
            with_status(now(vec![charge(1)]), |s| s.unclaimed = Some(unclaimed)),
            Unclaimed,
            "No live node has been able to run activity ship with tag warehouse for 3 h.",
            (Blame::Config, &start[..], None),
        ),
        (
            seen("order-17", second(0), vec![timer(1, 2 * DAY + 5 * 3600)]),
            Timer,
            "It sleeps until 1970-01-03T05:00:00.000Z (in 2 d 5 h), at src/checkout.rs:42:9.",
            (NONE, &[][..], Some(2 * DAY + 5 * 3600)),
        ),
        (
            now(vec![approval(1)]),
            Event,
            "It has been waiting for event `Approval` for 3 h 1 min, at src/checkout.rs:42:9.",
            (Blame::Human, &raise[..], None),
        ),
        (
            now(vec![approval(1), timer(2, DAY)]),
            Event,
            "It has been waiting for event `Approval` for 3 h 1 min, at src/checkout.rs:42:9. \
             At most until 1970-01-02T00:00:00.000Z.",
            (Blame::Human, &raise[..], Some(DAY)),
        ),
        (
            misnamed,
            Event,
            "It has been waiting for event `Approval` for 3 h 1 min, at src/checkout.rs:42:9. \
             At most until 1970-01-02T00:00:00.000Z. Unread: 2 `Note`.",
            (Blame::Human, &raise[..], Some(DAY)),
        ),
        (
            now(vec![child(1, "ship-17")]),
            Child,
            "It has been waiting for `ship-17` for 3 h 1 min, at src/checkout.rs:42:9.",
            (NONE, &[][..], None),
        ),
        (now(three), Many, "It waits for 3 calls: 1 activity, 1 child, 1 event.", (NONE, &[][..], None)),
        (now(vec![approval(1), approval(2)]), Many, "It waits for 2 events `Approval`.", (NONE, &[][..], None)),
        (
            several,
            Many,
            "It waits for 2 events `Approval`. Unread: 1 `a`, 1 `b`, 1 `c`, 3 of other names.",
            (NONE, &[][..], None),
        ),
        (orphaned, OwnerGone, "Its owner, node 1, is gone; another node takes it over.", (NONE, &[][..], None)),
        (
            known,
            OwnerGone,
            "Its owner, shop-2, is gone since 1970-01-01T00:01:05.000Z (its last sign of life was at \
             1970-01-01T00:01:00.000Z); another node takes it over.",
            (NONE, &[][..], None),
        ),
        (
            silent,
            OwnerGone,
            "It is owned by shop-2, which is silent since 1970-01-01T03:00:56.000Z; it is taken over from \
             1970-01-01T03:01:01.000Z on.",
            (NONE, &[][..], Some(3 * 3600 + 61)),
        ),
        (
            recorded,
            Event,
            "It has been waiting for event `Approval` for 1 min, at src/checkout.rs:42:9.",
            (Blame::Human, &raise[..], None),
        ),
        (
            with_status(now(vec![approval(1)]), |s| s.suspension = Some(suspension())),
            Suspended,
            "It is suspended: DUR0001 call 3 has changed, at src/checkout.rs:44:9.",
            (Blame::Code, &[Action::Resume, Action::Reset][..], None),
        ),
        (
            tried,
            Suspended,
            "It is suspended: DUR0001 call 3 has changed, at src/checkout.rs:44:9. Build b2 has tried it, too, in vain.",
            (Blame::Code, &[Action::Resume, Action::Reset][..], None),
        ),
        (
            parked,
            Parked,
            "Its activity `charge` is parked: DUR0007 3 crashes.",
            (Blame::Code, &[Action::Resume][..], None),
        ),
        (
            with_status(now(vec![approval(1)]), |s| {
                let pause = Pause { by: Some("ana".to_owned()), since: second(9660), until: Some(second(4 * 3600)) };
                let suspension = Suspension::new(ErrorCode::Paused, "gateway migration");
                s.suspension = Some(Suspension { pause: Some(pause), ..suspension });
            }),
            Paused,
            "Paused by ana 20 min ago: \"gateway migration\", until 1970-01-01T04:00:00.000Z.",
            (Blame::Human, &[Action::Resume][..], Some(4 * 3600)),
        ),
        (
            failed,
            Ended,
            "It ended at 1970-01-01T00:00:04.000Z after 4 s: failed with `NotApproved`.",
            (Blame::Code, &[Action::Reset, Action::Fork][..], None),
        ),
        (
            cancelled,
            Ended,
            "It ended at 1970-01-01T00:00:04.000Z after 4 s: cancelled by ana: duplicate.",
            (NONE, &[Action::Fork][..], None),
        ),
    ];
    for (inspection, state, text, (blame, actions, until)) in cases {
        let why = Why::of(&[inspection]);
        assert_eq!((why.state, why.text.as_str()), (state, text));
        assert_eq!(why.chain, [id("order-17")]);
        assert_eq!((why.blame, why.until), (blame, until.map(second)), "{why}");
        let always: &[Action] = if state == Ended { &[] } else { &[Action::Cancel, Action::Terminate] };
        assert_eq!(why.actions, [actions, always].concat(), "{why}");
    }
}

#[test]
fn stuck_turn_names_node_and_place() {
    let stuck = |inspection: &Inspection, after: u64, places: [&str; 2]| {
        let (execution, places) = (inspection.status.execution.clone(), places.map(str::to_owned));
        StuckCode::turn(execution, "checkout".to_owned(), Some(EventId(after)), places, second(19))
    };
    let with = |mut inspection: Inspection, code: StuckCode| {
        inspection.nodes[0].report = NodeReport::new([code]);
        inspection
    };
    let waiting = || seen("order-17", second(60), vec![approval(1)]);
    let code = stuck(&waiting(), 2, ["src/report.rs:80", "src/report.rs:90:9"]);
    let why = Why::of(&[with(waiting(), code.clone())]);
    let text = "Its turn has not returned for 41 s on shop-2, after src/report.rs:90:9 (DUR0006).";
    assert_eq!((why.state, why.text.as_str()), (WhyState::StuckTurn, text), "although another call is open");
    assert_eq!((why.since, why.at.as_deref(), why.blame), (Some(second(19)), Some("src/report.rs:90:9"), Blame::Code));
    assert_eq!(why.actions, [Action::RestartNode("shop-2".to_owned()), Action::Terminate]);
    assert_eq!(why.facts, [Fact::Node("shop-2".to_owned()), Fact::Stuck(Box::new(code))]);
    let first = stuck(&waiting(), 0, ["src/report.rs:80", ""]);
    let mut unbegun = with(waiting(), first);
    (unbegun.last, unbegun.owner) = (None, None);
    let text = "Its turn has not returned for 41 s on shop-2, in src/report.rs:80 (DUR0006).";
    assert_eq!(Why::of(&[unbegun]).text, text, "its first turn, of which nothing is stored");
    // Reports that no longer hold: of an earlier turn, another execution, a node that is not the owner.
    let earlier = with(waiting(), stuck(&waiting(), 1, ["", ""]));
    let mut other = stuck(&waiting(), 2, ["", ""]);
    other.execution.number = 2;
    let other = with(waiting(), other);
    let mut elsewhere = with(waiting(), stuck(&waiting(), 2, ["", ""]));
    elsewhere.nodes.push(NodeRecord::departed(elsewhere.nodes[0].info.clone(), Epoch(3), second(60)));
    elsewhere.owner = Some(Epoch(3));
    for inspection in [earlier, other, elsewhere] {
        assert_eq!(Why::of(&[inspection]).state, WhyState::Event);
    }
}

#[test]
fn activity_that_blocks_its_thread_is_named() {
    let blocking = |call, attempt| {
        let mut inspection = charging(44, 2, None, &["busy"]);
        let execution = inspection.status.execution.clone();
        let code = StuckCode::attempt(execution, "charge".to_owned(), (CallId(call), attempt), second(34));
        inspection.nodes[0].report = NodeReport::new([code]);
        Why::of(&[inspection])
    };
    let why = blocking(1, 2);
    assert!(why.text.ends_with(" It has blocked its thread for 10 s: other work of the node may wait."), "{why}");
    assert_eq!((why.state, why.blame), (WhyState::Running, Blame::Code));
    assert!(matches!(why.facts.last(), Some(Fact::Stuck(_))), "{:?}", why.facts);
    for (call, attempt) in [(1, 1), (2, 2)] {
        assert_eq!(blocking(call, attempt).blame, NONE, "another attempt");
    }
}

#[test]
fn missing_code_names_the_node_that_had_it_last() {
    let what = "activity ship with tag warehouse".to_owned();
    let unclaimed = crate::provider::Unclaimed { what: what.clone(), since: second(60) };
    let mut inspection = with_status(charging(180, 1, Some(0), &[]), |status| status.unclaimed = Some(unclaimed));
    let activity = &mut inspection.activities.open[0];
    (activity.name, activity.tag) = ("ship".to_owned(), Some("warehouse".to_owned()));
    let departed = |name: &str, served: &str, left: i64, cause| {
        let mut node = inspection.nodes[0].clone();
        (node.info.name, node.info.build) = (name.to_owned(), "9f2c".to_owned());
        node.info.handlers.activities = vec!["ship".to_owned()];
        node.info.handlers.tags = Some(vec![served.to_owned()]);
        DepartedNode { node, left_at: second(left), seen_at: second(left - 5), cause }
    };
    let (shop, silent) = (departed("shop-1", "warehouse", 60, Departure::Died), Departure::Silent);
    let others = [departed("shop-3", "office", 90, silent), shop, departed("shop-0", "warehouse", 50, silent)];
    inspection.departed = others.to_vec();
    let why = Why::of(&[inspection.clone()]);
    let text = "No live node has been able to run activity ship with tag warehouse for 2 min. \
         shop-1 (build 9f2c) had it and left at 1970-01-01T00:01:00.000Z (its process ended).";
    assert_eq!((why.state, why.text.as_str()), (WhyState::Unclaimed, text));
    let (node, build) = ("shop-1".to_owned(), "9f2c".to_owned());
    let (left_at, seen_at, cause) = (second(60), second(55), Departure::Died);
    assert_eq!(why.facts, [Fact::Missing(what), Fact::LastServer { node, build, left_at, seen_at, cause }]);
    // Of an orchestration, its version must be the same.
    let flow = |version: u64| {
        let what = format!("orchestration checkout {version}.0.0");
        let mut flow = inspection.clone();
        flow.status.version = Some(semver::Version::new(version, 0, 0));
        flow.status.unclaimed = Some(crate::provider::Unclaimed { what, since: second(60) });
        flow.departed[0].node.info.handlers.orchestrations =
            vec![("checkout".to_owned(), semver::Version::new(2, 0, 0))];
        Why::of(&[flow]).text
    };
    assert!(flow(2).ends_with("shop-3 (build 9f2c) had it and left at 1970-01-01T00:01:30.000Z (its last sign of life was at 1970-01-01T00:01:25.000Z)."), "{}", flow(2));
    assert!(flow(3).ends_with("for 2 min."), "{}", flow(3));
}

#[test]
fn many_activities_are_counted_by_their_state() {
    let mut many = charging(180, 3, Some(200), &["oom", "oom"]);
    let calls = seen("order-17", second(180), (1..=500).map(charge).collect());
    (many.waits, many.made) = (calls.waits, calls.made);
    many.waits.drain(37..);
    let first = many.activities.open[0].clone();
    many.activities.open.extend((2..=37).map(|call| ActivityRecord {
        call: CallId(call),
        attempt: 1,
        owner: (call <= 7).then_some(Epoch(2)),
        ..first.clone()
    }));
    let why = Why::of(&[many]);
    let text = "It waits for 37 of 500 activities `charge` (6 running, 31 queued, 1 failed before); \
                last failure 2 min 58 s ago: `oom`.";
    assert_eq!((why.state, why.text.as_str()), (WhyState::Many, text));
    assert_eq!(why.facts, [Fact::Open { open: 37, made: 500, running: 6, queued: 31, failing: 1 }]);
}

#[test]
fn facts_are_those_of_the_sentence() {
    let mut inspection = charging(44, 5, Some(64), &["gateway 503"; 4]);
    inspection.activities.open[0].cause = Some("gateway #".to_owned());
    let why = Why::of(&[seen("batch-9", second(44), vec![child(1, "order-17")]), inspection]);
    let facts = [
        Fact::Attempt { activity: "charge".to_owned(), attempt: 5, max_attempts: Some(5) },
        Fact::Failures { times: 4, last: second(4), error: "gateway 503".to_owned(), same: true },
        Fact::Cause("gateway #".to_owned()),
        Fact::NextAttempt(second(64)),
    ];
    assert_eq!(why.facts, facts, "they are those of the last instance of the chain");
    let running = Why::of(&[charging(4, 1, None, &[])]).facts;
    let facts = [Fact::Node("shop-2".to_owned()), Fact::Limit(Duration::from_secs(30))];
    assert_eq!(running[1..], facts);
    let suspended = with_status(seen("order-17", second(9), vec![]), |s| {
        (s.suspension, s.cause) = (Some(suspension()), Some("DUR0001: call # has changed".to_owned()));
    });
    let facts = [Fact::Suspension(Box::new(suspension())), Fact::Cause("DUR0001: call # has changed".to_owned())];
    assert_eq!(Why::of(&[suspended]).facts, facts);
    let misnamed = with_unread(seen("order-17", second(9), vec![approval(1)]), &[("Note", 2)]);
    assert_eq!(Why::of(&[misnamed]).facts, [Fact::Unread { event: "Note".to_owned(), count: 2 }]);
}

#[test]
fn chain_of_children_ends_with_the_cause() {
    let at = second(60);
    let chain = [
        seen("batch-9", at, vec![child(1, "order-17")]),
        seen("order-17", at, vec![child(1, "ship-17")]),
        seen("ship-17", at, vec![approval(1)]),
    ];
    assert_eq!(chain.iter().map(awaited).collect::<Vec<_>>(), [Some(id("order-17")), Some(id("ship-17")), None]);
    let why = Why::of(&chain);
    assert_eq!(
        why.text,
        "It waits through 1 child for `ship-17`: It has been waiting for event `Approval` for 1 min, at src/checkout.rs:42:9."
    );
    assert_eq!(why.chain, [id("batch-9"), id("order-17"), id("ship-17")]);
    assert_eq!((why.state, why.blame), (WhyState::Child, Blame::Human));
    assert_eq!(why.actions[0], Action::Raise("Approval".to_owned()));
    assert_eq!(why.at.as_deref(), Some("src/checkout.rs:42:9"));
}

fn awaited(inspection: &Inspection) -> Option<InstanceId> {
    super::why::awaited_child(inspection)
}
