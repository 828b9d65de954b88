//! Mail: messages for an owned instance that no sender forwards to the owner.

use super::fixture::*;
use super::list;
use crate::provider::*;

list![
    a_message_that_is_not_forwarded_leaves_mail,
    a_forwarded_message_leaves_no_mail,
    a_resent_message_always_leaves_mail,
    mail_is_repeated_until_it_is_acknowledged,
    mail_of_one_instance_is_acknowledged_alone,
    mail_that_comes_after_an_answer_survives_its_acknowledgement,
    mail_of_a_loaded_instance_comes_once,
    mail_goes_to_the_owner_alone,
    a_replaced_instance_leaves_no_mail_behind,
    a_late_acknowledgement_spares_the_next_instance,
];

fn request(node: Option<&Member>, to: &str) -> SendRequest {
    SendRequest { lease: node.map(|node| node.lease), ..send_request(to, message("hello")) }
}

fn heard_of(name: &str, number: u64) -> Heard {
    Heard { instance: id(name), identity: identity(name), number }
}

/// Acknowledges the mail of `i` up to a number. Returns the names of the instances with mail after that.
async fn acknowledge(node: &Member, heard: u64) -> Vec<String> {
    let left = node.acquire(Want { heard: vec![heard_of("i", heard)], ..Want::new(at(3)) }).await;
    left.instances.iter().map(|instance| instance.execution.instance.to_string()).collect()
}

async fn a_message_that_is_not_forwarded_leaves_mail(world: World) {
    let (owner, other) = (world.join().await, world.join().await);
    schedule(&world, &owner, "i", new_activity(1, 2)).await;
    world.start_owned(&other, "j").await;
    let activity = other.acquire(want(at(3))).await.activities.remove(0);
    let mut number = 1;
    for sender in ["a client", "the client of another node", "a turn of another node", "an outcome of another node"] {
        match sender {
            "a client" => assert!(world.submit(Submission::Send(request(None, "i"))).await.is_ok()),
            "the client of another node" => {
                assert!(world.submit(Submission::Send(request(Some(&other), "i"))).await.is_ok());
            }
            "a turn of another node" => {
                let turn = Turn { messages: vec![outgoing("i", "hello")], ..ending("j", 1, 0, Then::Continue) };
                assert_eq!(other.turn(turn).await.expect("turn").messages, [owner.placed("i", number + 1)]);
            }
            _ => {
                let done = other.commit(outcome(tenure_of(&activity))).await.expect("outcome");
                assert_eq!(done.messages, [owner.placed("i", number + 1)]);
            }
        }
        number += 1;
        let mail = owner.mail().await;
        assert_eq!(names(&mail), ["i"], "{sender}");
        assert_eq!((mail.instances[0].arrivals, mail.instances[0].messages.len() as u64), (number, number - 1));
        assert_eq!(acknowledge(&owner, number).await, [""; 0]);
    }
    assert_eq!(names(&other.mail().await), [""; 0]);
}

async fn a_forwarded_message_leaves_no_mail(world: World) {
    let node = with_activity(&world, "i").await;
    world.start_owned(&node, "j").await;
    let sent = world.submit(Submission::Send(request(Some(&node), "i"))).await;
    assert_eq!(sent, Ok(Submitted { number: Some(2), ..node.owned("i") }));
    let messages = vec![outgoing("i", "hello"), outgoing("j", "to itself")];
    node.turn(Turn { messages, ..ending("j", 1, 0, Then::Continue) }).await.expect("turn");
    let child = NewChild { new: eager(new_instance("c")), accepted: Some(message("yes")), if_taken: message("no") };
    node.turn(Turn { starts: vec![child], ..ending("j", 1, 1, Then::Continue) }).await.expect("turn");
    let done = node.commit(outcome(tenure("i", 1, 0))).await.expect("outcome");
    assert_eq!(done.messages, [node.placed("i", 4)]);
    assert_eq!(names(&node.mail().await), [""; 0]);
}

async fn a_resent_message_always_leaves_mail(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    let resent = |request: &SendRequest| Submission::Send(SendRequest { resent: true, ..request.clone() });
    let first = request(Some(&node), "i");
    world.submit(Submission::Send(first.clone())).await.expect("send");
    assert_eq!(names(&node.mail().await), [""; 0]);
    assert_eq!(world.submit(resent(&first)).await, Ok(node.owned("i")));
    assert_eq!(names(&node.mail().await), ["i"], "the client may not have forwarded the first message");
    assert_eq!(acknowledge(&node, 2).await, [""; 0]);
    let sent = world.submit(resent(&request(Some(&node), "i"))).await;
    assert_eq!(sent, Ok(Submitted { number: Some(3), ..node.owned("i") }));
    assert_eq!(names(&node.mail().await), ["i"], "the first one never arrived");
}

async fn mail_is_repeated_until_it_is_acknowledged(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    world.send("i", message("two")).await.expect("send");
    world.send("i", message("three")).await.expect("send");
    for _ in 0..3 {
        let mail = node.mail().await;
        assert_eq!((names(&mail), mail.instances[0].arrivals), (vec!["i"], 3));
        assert_eq!(data(&mail.instances[0].messages), ["start", "two", "three"]);
        assert_eq!(mail.claim, 0, "mail is not a claim");
    }
    assert_eq!(acknowledge(&node, 2).await, ["i"], "a part of it");
    assert_eq!(acknowledge(&node, 3).await, [""; 0]);
    assert_eq!(names(&node.mail().await), [""; 0]);
    assert_eq!(
        data(&node.load("i").await.messages),
        ["start", "two", "three"],
        "messages stay until a turn reads them"
    );
}

async fn mail_of_one_instance_is_acknowledged_alone(world: World) {
    let (node, other) = (world.join().await, world.join().await);
    for (owner, name) in [(&node, "i"), (&node, "j"), (&other, "k")] {
        world.start_owned(owner, name).await;
        world.send(name, message("hello")).await.expect("send");
    }
    let of_all = ["i", "k", "none"].map(|name| heard_of(name, 99)).to_vec();
    let left = node.acquire(Want { heard: of_all, ..Want::new(at(3)) }).await;
    assert_eq!(names(&left), ["j"]);
    assert_eq!(names(&other.mail().await), ["k"]);
}

async fn a_late_acknowledgement_spares_the_next_instance(world: World) {
    let node = world.join().await;
    let new = world.start_owned(&node, "i").await;
    world.send("i", message("two")).await.expect("send");
    let heard = node.mail().await.instances[0].arrivals;
    node.turn(turn_of(&new, ending("i", 1, 0, completed()))).await.expect("turn");
    world.replace("i", Some(&node)).await;
    world.send("i", message("two")).await.expect("send");
    assert_eq!(acknowledge(&node, heard + 9).await, ["i"], "the acknowledgement names the replaced instance");
}

async fn mail_that_comes_after_an_answer_survives_its_acknowledgement(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    world.send("i", message("two")).await.expect("send");
    let heard = node.mail().await.instances[0].arrivals;
    world.send("i", message("three")).await.expect("send");
    assert_eq!(acknowledge(&node, heard).await, ["i"]);
    assert_eq!(acknowledge(&node, heard).await, ["i"], "a repeated acknowledgement");
    assert_eq!(acknowledge(&node, heard + 1).await, [""; 0]);
}

async fn mail_of_a_loaded_instance_comes_once(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    world.send("i", message("two")).await.expect("send");
    assert_eq!(data(&node.load("i").await.messages), ["start", "two"]);
    assert_eq!(data(&node.load_after("i", Some(1)).await.messages), ["two"]);
}

async fn mail_goes_to_the_owner_alone(world: World) {
    let (first, second) = (world.join().await, world.join().await);
    world.start_owned(&first, "i").await;
    world.send("i", message("two")).await.expect("send");
    first.release("i").await;
    assert_eq!(names(&first.mail().await), [""; 0], "the instance has no owner");
    world.send("i", message("three")).await.expect("send");
    assert_eq!(names(&second.acquire(want(at(3))).await), ["i"]);
    assert_eq!(names(&second.mail().await), [""; 0], "all messages came with the claim");
    world.send("i", message("four")).await.expect("send");
    assert_eq!((names(&first.mail().await), names(&second.mail().await)), (vec![], vec!["i"]));
    second.turn(ending("i", 1, 0, completed())).await.expect("finish");
    assert_eq!(names(&second.mail().await), [""; 0], "it has finished");
}

async fn a_replaced_instance_leaves_no_mail_behind(world: World) {
    let node = world.join().await;
    world.start_owned(&node, "i").await;
    for _ in 0..5 {
        world.send("i", message("hello")).await.expect("send");
    }
    node.turn(ending("i", 1, 0, completed())).await.expect("finish");
    let new = world.replace("i", Some(&node)).await;
    assert_eq!(names(&node.mail().await), [""; 0]);
    world.send("i", message("for the new one")).await.expect("send");
    assert_eq!(node.mail().await.instances[0].arrivals, 2);
    let identity = new.first_execution().identity;
    let heard = vec![Heard { instance: id("i"), identity, number: 2 }];
    assert_eq!(names(&node.acquire(Want { heard, ..Want::new(at(3)) }).await), [""; 0]);
}
