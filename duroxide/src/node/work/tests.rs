//! The requests for work, in tables: no provider, no clock.

use super::*;
use crate::id::{EventId, ExecutionId, Identity};
use crate::provider::{HistoryPage, MessageRow};

/// A node with free room and permits.
const FREE: Capacity = Capacity { turns: 0, permits: [4, 2], is_draining: false };

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(seconds)
}

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("valid")
}

fn requests() -> WorkRequests {
    let name = |name: &str| Arc::from([name.to_owned()]);
    let orchestrations = Arc::from([("flow".to_owned(), Version::new(1, 0, 0))]);
    WorkRequests::new(Served { orchestrations, activities: [name("async"), name("blocking")], tags: None })
}

fn is_due(work: &mut WorkRequests, capacity: &Capacity) -> bool {
    work.is_due(capacity, |_| true)
}

/// Sends the next request, without live copies.
fn send(work: &mut WorkRequests, capacity: &Capacity, now: u64) -> Want {
    assert!(is_due(work, capacity), "a request is due");
    work.begin(RequestNumber::default(), capacity, at(now), |_| None)
}

fn answer(work: &mut WorkRequests, acquired: &Acquired, now: u64) -> Answered {
    work.end(acquired, at(now), at(now))
}

fn acquired(name: &str, crashes: u32) -> AcquiredInstance {
    AcquiredInstance {
        execution: ExecutionId { instance: id(name), identity: Identity::UNKNOWN, number: 1 },
        name: "flow".to_owned(),
        version: None,
        last_event: EventId(0),
        arrivals: 3,
        messages: Vec::new(),
        history: HistoryPage { events: Vec::new(), more: false },
        claim: 1,
        crashes,
        suspect: false,
    }
}

fn instances(names: &[&str]) -> Acquired {
    Acquired { instances: names.iter().map(|name| acquired(name, 0)).collect(), ..Acquired::default() }
}

#[test]
fn one_request_is_under_way() {
    let mut work = requests();
    send(&mut work, &FREE, 0);
    work.request();
    assert!(!is_due(&mut work, &FREE), "one is under way");
    answer(&mut work, &Acquired::default(), 0);
    assert!(is_due(&mut work, &FREE), "it was requested in the meantime");
    send(&mut work, &FREE, 0);
    answer(&mut work, &Acquired::default(), 0);
    assert!(!is_due(&mut work, &FREE));
}

#[test]
fn request_claims_what_the_node_has_room_for() {
    // Turns, permits, draining; the instances and activities that are requested.
    let cases = [
        (0, [4, 2], false, 64, vec![4, 2]),
        (32, [4, 0], false, 32, vec![4]),
        (33, [0, 2], false, 0, vec![2]),
        (999, [0, 0], false, 0, vec![]),
        (0, [4, 2], true, 0, vec![]),
    ];
    for (turns, permits, is_draining, instances, activities) in cases {
        let want = send(&mut requests(), &Capacity { turns, permits, is_draining }, 0);
        let limits: Vec<_> = want.activities.iter().map(|group| group.limit).collect();
        assert_eq!((want.instances, limits), (instances, activities), "{turns} {permits:?} {is_draining}");
    }
}

#[test]
fn request_follows_once_there_is_room_or_a_permit() {
    let busy = Capacity { turns: 64, permits: [0, 2], is_draining: false };
    let mut work = requests();
    send(&mut work, &busy, 0);
    answer(&mut work, &Acquired::default(), 0);
    assert!(!is_due(&mut work, &busy), "there is no room");
    assert!(is_due(&mut work, &FREE), "there is room");

    let mut work = requests();
    send(&mut work, &Capacity { permits: [0, 2], ..FREE }, 0);
    answer(&mut work, &Acquired::default(), 0);
    assert!(!is_due(&mut work, &FREE));
    work.permit_is_free();
    assert!(is_due(&mut work, &FREE), "there was no permit");

    let mut work = requests();
    send(&mut work, &FREE, 0);
    answer(&mut work, &Acquired::default(), 0);
    work.permit_is_free();
    assert!(!is_due(&mut work, &FREE), "there were permits");
}

#[test]
fn full_answer_is_followed_by_another_request() {
    let names: Vec<_> = (0..40).map(|number| format!("i{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // The number of instances, the claim of the answer, and true if a request follows.
    for (count, claim, follows) in [(39, 1, false), (40, 1, true), (40, 0, false)] {
        let mut work = requests();
        send(&mut work, &Capacity { turns: 24, ..FREE }, 0);
        answer(&mut work, &Acquired { claim, ..instances(&names[..count]) }, 0);
        assert_eq!(is_due(&mut work, &FREE), follows, "{count} instances, claim {claim}");
    }
}

#[test]
fn answer_tells_when_work_is_due() {
    // Sent, answered and due at these seconds; the next timer, and true if a request follows at once.
    let cases = [
        (5, 6, None, None, false),
        (5, 6, Some(9), Some(9), false),
        (5, 6, Some(6), None, true),
        // The clock was set back: work was due when the request was sent.
        (5, 2, Some(4), None, true),
    ];
    for (sent, now, due, next, follows) in cases {
        let mut work = requests();
        send(&mut work, &FREE, sent);
        work.end(&Acquired { next_due: due.map(at), ..Acquired::default() }, at(sent), at(now));
        assert_eq!((work.next_due(), work.wanted), (next.map(at), follows), "{due:?}");
    }
}

#[test]
fn due_time_requests_work_and_is_replaced_by_the_answer() {
    let mut work = requests();
    send(&mut work, &FREE, 0);
    answer(&mut work, &Acquired::default(), 0);
    work.request_at(at(9));
    work.request_at(at(5));
    work.request_at(at(7));
    assert_eq!(work.next_due(), Some(at(5)));
    work.request_if_due(at(4));
    assert!(!is_due(&mut work, &FREE));
    work.request_if_due(at(5));
    send(&mut work, &FREE, 5);
    answer(&mut work, &Acquired::default(), 5);
    assert_eq!(work.next_due(), None);
}

#[test]
fn answer_is_acknowledged_by_the_next_request() {
    let mut work = requests();
    send(&mut work, &FREE, 0);
    let acquired = Acquired { claim: 7, ..instances(&["a"]) };
    let answered = answer(&mut work, &acquired, 0);
    assert!(work.accept(&answered, &acquired.instances[0], false));
    work.request();
    let want = send(&mut work, &FREE, 0);
    let heard = Heard { instance: id("a"), identity: Identity::UNKNOWN, number: 3 };
    assert_eq!((want.claim, want.heard), (7, vec![heard]));
    answer(&mut work, &Acquired { claim: 7, ..Acquired::default() }, 0);
    work.request();
    assert_eq!(send(&mut work, &FREE, 0).heard, [], "once");
}

#[test]
fn instance_is_loaded_after_the_messages_of_its_live_copy() {
    // The last message of the live copy when the request is sent, and true if it is live when the answer arrives; then
    // true if the answer is used.
    let cases = [(None, false, true), (None, true, true), (Some(2), true, true), (Some(2), false, false)];
    for (heard, is_live, is_used) in cases {
        let mut work = requests();
        work.load(id("a"));
        assert!(work.is_due(&FREE, |_| true));
        let want = work.begin(RequestNumber::default(), &FREE, at(0), |_| heard);
        assert_eq!(want.load, [Load { instance: id("a"), heard }]);
        let answered = answer(&mut work, &instances(&["a"]), 0);
        assert_eq!(answered.requested().collect::<Vec<_>>(), [&id("a")]);
        assert_eq!(work.accept(&answered, &acquired("a", 0), is_live), is_used);
        assert_eq!(work.will_load(&id("a")), !is_used, "an answer without the earlier messages is not used");
    }
}

#[test]
fn gap_that_was_filled_in_its_round_requests_nothing() {
    for has_gap in [true, false] {
        let mut work = requests();
        send(&mut work, &FREE, 0);
        answer(&mut work, &Acquired::default(), 0);
        work.fill_gap(id("a"));
        assert_eq!(work.is_due(&FREE, |_| has_gap), has_gap);
        assert_eq!(work.will_load(&id("a")), has_gap);
    }
}

#[test]
fn nothing_is_claimed_beside_a_quarantined_item() {
    let crashed = |crashes, suspect| Acquired {
        instances: vec![AcquiredInstance { suspect, ..acquired("a", crashes) }],
        ..Acquired::default()
    };
    let cases = [(QUARANTINE - 1, false, false), (QUARANTINE, false, true), (QUARANTINE, true, false)];
    for (crashes, suspect, is_quarantined) in cases {
        let mut work = requests();
        send(&mut work, &FREE, 0);
        answer(&mut work, &crashed(crashes, suspect), 0);
        work.request();
        let want = send(&mut work, &FREE, 0);
        assert_eq!((want.alone, want.instances == 0), (!is_quarantined, is_quarantined), "{crashes} {suspect}");
    }
}

#[test]
fn quarantine_ends_by_a_commit_or_after_a_second() {
    let quarantined = Acquired { instances: vec![acquired("a", QUARANTINE)], ..Acquired::default() };
    let mut work = requests();
    send(&mut work, &FREE, 0);
    answer(&mut work, &quarantined, 0);
    assert_eq!(work.next_due(), Some(at(1)));
    work.end_quarantine(&id("b"));
    assert!(!is_due(&mut work, &FREE), "a commit about another instance");
    work.end_quarantine(&id("a"));
    assert!(send(&mut work, &FREE, 0).alone);

    answer(&mut work, &quarantined, 0);
    work.request_if_due(at(1));
    assert!(send(&mut work, &FREE, 1).alone);
}

#[test]
fn lost_lease_starts_anew() {
    let mut work = requests();
    work.load(id("a"));
    send(&mut work, &FREE, 0);
    work.restart();
    let want = send(&mut work, &FREE, 0);
    assert_eq!((want.claim, want.load, want.instances), (0, Vec::new(), 64), "the request under way does not count");
}

#[test]
fn instance_with_a_backlog_is_named_with_its_last_message() {
    // The mail of an instance, with many messages or with few, which has a live copy or not.
    let named_after = |messages, is_live, claim| {
        let mut work = requests();
        send(&mut work, &FREE, 0);
        let mail = AcquiredInstance { messages: vec![MessageRow::new("event"); messages], ..acquired("a", 0) };
        let answered = answer(&mut work, &Acquired { claim, ..Acquired::default() }, 0);
        assert!(work.accept(&answered, &mail, is_live));
        // The number of requests that name it, of which the tenth is answered with a message.
        let is_named = |request| {
            work.request();
            assert!(is_due(&mut work, &FREE));
            let heard = |_: &InstanceId| is_live.then_some(70);
            let load = work.begin(RequestNumber::default(), &FREE, at(0), heard).load;
            let answered = answer(&mut work, &Acquired { claim, ..Acquired::default() }, 0);
            let messages = vec![MessageRow::new("event"); usize::from(request == 10)];
            let later = AcquiredInstance { messages, ..acquired("a", 0) };
            let is_named = load.iter().any(|load| load.heard == Some(70));
            assert!(!is_named || work.accept(&answered, &later, true));
            is_named
        };
        (1..100).map(is_named).take_while(|is_named| *is_named).count()
    };
    assert_eq!(named_after(65, true, 0), 10 + 16);
    assert_eq!(named_after(64, true, 0), 0);
    assert_eq!(named_after(65, false, 0), 0, "the node has none of the messages");
    assert_eq!(named_after(65, true, 1), 0, "a claim is not mail");
}
