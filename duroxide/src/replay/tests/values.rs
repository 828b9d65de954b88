//! Time, random numbers and ids are the same on replay.

use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::support::*;
use crate::clock::Timestamp;

type Seen = (Timestamp, u64, Uuid);

#[test]
fn replay_sees_the_same_time_random_numbers_and_ids() {
    let seen = Arc::new(Mutex::new(Vec::<Seen>::new()));
    let log = seen.clone();
    let mut run = Run::start(move |ctx| {
        let log = log.clone();
        async move {
            for _ in 0..3 {
                log.lock().expect("is not poisoned").push((ctx.now(), ctx.random(), ctx.uuid()));
                ctx.call_activity::<()>("a", &()).await?;
            }
            Ok(())
        }
    });
    run.completes(1, ());
    run.reload();
    run.completes(2, ());
    let seen = std::mem::take(&mut *seen.lock().expect("is not poisoned"));
    let [a, b, again_a, again_b, c] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((a, b), (again_a, again_b));
    assert_eq!([a.0, b.0, c.0], [1, 2, 3].map(second));
    assert!(a.1 != b.1 && b.1 != c.1 && a.2 != b.2 && b.2 != c.2, "they are drawn again: {a:?} {b:?} {c:?}");
    assert_eq!(a.2.get_version_num(), 4);
}

#[test]
fn random_numbers_of_a_seed_are_fixed_forever() {
    let run = Run::start(|ctx| async move { Ok((ctx.random(), ctx.random(), ctx.uuid())) });
    let (first, second, uuid) = run.output::<(u64, u64, Uuid)>();
    // Recorded histories depend on these numbers: they must never change.
    assert_eq!((first, second), (2_910_824_217_569_608_635, 3_098_856_782_162_503_994));
    assert_eq!(uuid.to_string(), "b44b70b9-4524-4531-ba0b-b7b6093e3ae3");
}

#[test]
fn time_is_constant_within_a_step() {
    let mut run = Run::start(|ctx| async move {
        let before = ctx.now();
        let (a, b) =
            crate::join!(async { ctx.now() }, async { ctx.call_activity::<()>("a", &()).await.map(|()| ctx.now()) });
        Ok([before, a, b?])
    });
    run.completes(1, ());
    assert_eq!(run.output::<[Timestamp; 3]>(), [second(1), second(1), second(2)]);
}

#[test]
fn context_knows_its_execution() {
    let run = Run::start(|ctx| async move { Ok(format!("{ctx:?} {}", ctx.execution())) });
    assert_eq!(run.output::<String>(), "OrchestrationContext(order#1) order#1");
}
