//! Nodes that have departed, and the builds that nodes had.

use std::sync::Arc;

use super::fixture::*;
use super::list;
use crate::clock::Timestamp;
use crate::id::{CallId, ExecutionId, Identity};
use crate::provider::*;

list![
    a_member_shows_its_last_report_and_sign_of_life,
    each_end_of_a_membership_is_recorded_once,
    departed_nodes_come_newest_first,
    the_code_of_a_build_is_recorded_once,
    builds_without_code_are_not_recorded,
    builds_in_use_are_kept_beyond_the_newest,
];

/// Describes a node with a build that has an orchestration `flow` in a version.
fn built(build: &str, version: u64) -> NodeInfo {
    let orchestrations = vec![("flow".to_owned(), semver::Version::new(version, 0, 0))];
    let entry = CodeEntry {
        kind: CodeKind::Orchestration,
        name: "flow".to_owned(),
        version: Some(format!("{version}.0.0")),
        place: Some("src/flow.rs:7".to_owned()),
        package: None,
        doc: Some("Flows \u{0} \"on\".".to_owned()),
    };
    let details = NodeDetails {
        host: Some("host".to_owned()),
        process: Some(u32::MAX),
        started_at: Some(at(1)),
        code: Arc::new(BuildCode::new([entry])),
    };
    let info = info(build);
    NodeInfo { handlers: Handlers { orchestrations, ..info.handlers }, details, ..info }
}

async fn departed(world: &World) -> Vec<DepartedNode> {
    world.admin().departed_nodes(100).await.expect("list departed nodes")
}

async fn builds(world: &World) -> Vec<BuildRecord> {
    world.admin().builds().await.expect("list builds")
}

async fn a_member_shows_its_last_report_and_sign_of_life(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    let of = async |member: &Member| {
        let nodes = world.admin().nodes().await.expect("list nodes");
        nodes.into_iter().find(|found| found.epoch == member.lease.epoch).expect("a member")
    };
    assert_eq!(of(&node).await.report, NodeReport::default(), "it has not renewed its lease yet");
    let execution = ExecutionId { instance: id("i \""), identity: Identity::new(), number: 3 };
    let stuck = |n| StuckCode::attempt(execution.clone(), "act \u{0}\u{7}".to_owned(), (CallId(7), 2), at(n));
    let report = |n| NodeReport { live: 4096, waiting_turns: 7, attempts: u64::MAX, ..NodeReport::new([stuck(n)]) };
    let mut seen = of(&node).await.seen_at;
    for sent in [report(1), report(1), report(2), NodeReport::default(), report(3)] {
        assert!(matches!(node.renew_with(&sent).await, Renewal::Held { .. }));
        let shown = of(&node).await;
        assert_eq!(shown.report, sent);
        assert!(shown.seen_at.is_some() && shown.seen_at >= seen, "{:?} after {seen:?}", shown.seen_at);
        seen = shown.seen_at;
    }
    assert_eq!(of(&other).await.report, NodeReport::default(), "each node has its own");
    let lost = node.lease;
    let again = world.join_as(&NodeInfo { id: node.lease.node, ..info("b") }).await;
    assert_eq!(of(&again).await.report, NodeReport::default(), "a new membership");
    let late = again.provider.renew(&lost, &report(4)).await.expect("renew");
    assert_eq!((late, of(&again).await.report), (Renewal::Lost, NodeReport::default()));
}

async fn each_end_of_a_membership_is_recorded_once(world: World) {
    let mut info = built("b", 1);
    info.handlers.tags = Some(vec!["gpu".to_owned()]);
    let (node, survivor) = (world.join().await, world.join().await);
    let mortal = world.join_as(&info).await;
    assert!(departed(&world).await.is_empty());
    let again = NodeInfo { id: node.lease.node, ..built("a", 1) };
    node.provider.join(&again).await.expect("join again");
    let ended = departed(&world).await;
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].node.epoch, ended[0].cause), (node.lease.epoch, Departure::Fenced));
    let lease = mortal.die();
    assert!(survivor.holds().await && survivor.holds().await);
    let crash = departed(&world).await.swap_remove(0);
    assert_eq!(crash.node.epoch, lease.epoch);
    assert!(crash.cause.is_crash() && crash.seen_at <= crash.left_at, "{crash:?}");
    let details = NodeDetails { code: Arc::default(), ..info.details };
    let found = crash.node.info;
    assert_eq!((found.id, found.name, found.build, found.details), (info.id, info.name, info.build, details));
    assert_eq!((found.handlers, found.lease_time), (info.handlers, info.lease_time));
    survivor.provider.leave(&survivor.lease).await.expect("leave");
    survivor.provider.leave(&survivor.lease).await.expect("leave again");
    let ended = departed(&world).await;
    assert_eq!(ended.len(), 3);
    assert_eq!((ended[0].node.epoch, ended[0].cause), (survivor.lease.epoch, Departure::Left));
}

async fn departed_nodes_come_newest_first(world: World) {
    let (first, second, third) = (world.join().await, world.join().await, world.join().await);
    for node in [&second, &third, &first] {
        node.provider.leave(&node.lease).await.expect("leave");
    }
    let found = world.admin().departed_nodes(2).await.expect("list departed nodes");
    assert_eq!(found.iter().map(|end| end.node.epoch).collect::<Vec<_>>(), [first.lease.epoch, third.lease.epoch]);
}

async fn the_code_of_a_build_is_recorded_once(world: World) {
    let (one, other) = (built("one", 1), built("other", 2));
    let node = world.join_as(&one).await;
    let first = builds(&world).await;
    assert_eq!(first.len(), 1);
    assert_eq!((&*first[0].build, &first[0].code, first[0].members), ("one", &*one.details.code, 1));
    assert!(first[0].damaged.is_none() && first[0].first_seen > Timestamp::default());
    let same = NodeInfo { id: crate::id::NodeId::new(), details: other.details.clone(), ..one.clone() };
    let _third = world.join_as(&other).await;
    let second = world.join_as(&same).await;
    second.provider.leave(&second.lease).await.expect("leave");
    node.provider.leave(&node.lease).await.expect("leave");
    let found = builds(&world).await;
    assert_eq!(found.iter().map(|b| (&*b.build, b.members)).collect::<Vec<_>>(), [("one", 0), ("other", 1)]);
    assert_eq!((&found[0].code, found[0].first_seen), (&first[0].code, first[0].first_seen), "it is kept as it was");
    assert!(found[0].last_seen >= found[0].first_seen);
}

async fn builds_without_code_are_not_recorded(world: World) {
    world.join().await;
    assert_eq!(builds(&world).await, []);
}

/// Beyond the number of kept builds there are three: one of a member, one of which a live instance needs the version, and
/// one that no instance needs because a newer build has its version.
async fn builds_in_use_are_kept_beyond_the_newest(world: World) {
    let join_and_leave = async |info: &NodeInfo| {
        let node = world.join_as(info).await;
        node.provider.leave(&node.lease).await.expect("leave");
    };
    let version = |n| Some(semver::Version::new(n, 0, 0));
    world.start_new(NewInstance { version: version(7), ..new_instance("i") }).await;
    world.start_new(NewInstance { version: version(1), ..new_instance("j") }).await;
    let _member = world.join_as(&built("member", 5)).await;
    join_and_leave(&built("needed", 7)).await;
    join_and_leave(&built("surplus", 1)).await;
    for n in 0..BuildRecord::KEPT {
        join_and_leave(&built(&format!("new-{n}"), 1)).await;
    }
    let found = builds(&world).await;
    let old: Vec<_> = found.iter().skip(BuildRecord::KEPT).map(|build| &*build.build).collect();
    assert_eq!((found.len(), old), (BuildRecord::KEPT + 2, vec!["needed", "member"]));
}
