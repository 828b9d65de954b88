//! All interleavings of the statements that create, use and end ownership, in a model of the database.
//!
//! The model has the parts of PostgreSQL on which the protocol rests: each statement sees what was committed when it began,
//! locks are held until the end of a transaction, and the numbers of a sequence are not those of commits. Each mend of the
//! protocol can be taken out, and the explorer then finds the fault that it prevents. The pairs of requests in
//! [`pairs`](crate::pairs) run the real statements, in fewer interleavings.

mod model;

use std::collections::HashSet;

use self::model::{Claim, Mend, Program, State};

/// Runs the programs in all interleavings, and returns the findings.
fn explore(programs: &[Program], without: Option<Mend>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut findings = HashSet::new();
    let mut waiting = vec![State::new(programs, without)];
    while let Some(state) = waiting.pop() {
        let next: Vec<State> = (0..programs.len()).filter_map(|process| state.step(process)).collect();
        if next.is_empty() {
            findings.extend(state.findings());
        }
        waiting.extend(next.into_iter().filter(|state| seen.insert(state.clone())));
    }
    println!("{programs:?}: {} states", seen.len());
    findings.into_iter().collect()
}

/// The programs that run beside each other. The first node may be dead to the second one, or only seem so.
const WORLDS: &[&[Program]] = &[
    &[Program::Time, Program::Renew, Program::TakeOver, Program::Birth],
    &[Program::Time, Program::Renew, Program::TakeOver, Program::Turn, Program::Birth],
    &[Program::Time, Program::TakeOver, Program::TakeOver, Program::Turn, Program::Birth],
    &[Program::Send, Program::Send, Program::Ask],
    &[Program::Time, Program::TakeOver, Program::Send, Program::Ask, Program::Claim(Claim::Second)],
    &[Program::Claim(Claim::First), Program::Claim(Claim::Second), Program::Send, Program::Send],
    &[Program::Time, Program::TakeOver, Program::Claim(Claim::First), Program::Claim(Claim::Second), Program::Send],
];

#[test]
fn protocol_of_leases_has_no_fault_in_any_interleaving() {
    for programs in WORLDS {
        assert_eq!(explore(programs, None), Vec::<String>::new(), "{programs:?}");
    }
}

/// Asserts that a fault with these words is found without the mend.
fn finds(mend: Mend, words: &str) {
    let findings: Vec<_> = WORLDS.iter().flat_map(|programs| explore(programs, Some(mend))).collect();
    assert!(findings.iter().any(|finding| finding.contains(words)), "{mend:?}: {findings:?}");
}

#[test]
fn birth_without_the_epoch_lock_leaves_an_orphan() {
    finds(Mend::EpochLock, "an instance is orphaned");
}

#[test]
fn activities_released_before_instances_leave_an_orphan() {
    finds(Mend::ActivitiesAfterInstances, "an activity is orphaned");
}

#[test]
fn take_over_that_does_not_look_again_ends_a_live_node() {
    finds(Mend::LookAgain, "a node that has renewed is dead");
}

#[test]
fn numbers_of_a_sequence_lose_a_message() {
    finds(Mend::NumbersUnderTheLock, "is lost");
}

#[test]
fn claim_that_reads_before_it_locks_loses_a_message() {
    finds(Mend::ReadAfterTheLock, "is lost");
}

#[test]
fn turn_without_a_fence_advances_an_instance_of_another_node() {
    finds(Mend::Fence, "two nodes have advanced");
}
