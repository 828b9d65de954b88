//! Two types of events with one name refuse the start, with both places; the same type is registered once.
use duroxide::prelude::*;
use duroxide::{ErrorCode, Registry};

mod orders {
    #[duroxide::event]
    pub struct Approval {
        pub by: String,
    }
}

mod invoices {
    /// Another type.
    #[duroxide::event]
    pub struct Approval {
        pub cents: u64,
    }

    #[duroxide::event(name = "renamed")]
    pub struct Refusal;
}

mod shipments {
    #[duroxide::event]
    pub enum Refusal {
        Late,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let _ = (orders::Approval { by: String::new() }.by, invoices::Approval { cents: 1 }.cents, invoices::Refusal);
    let _ = shipments::Refusal::Late;
    let start = |registry| Runtime::builder().registry(registry).in_memory().start();
    for registry in [Registry::discover(), Registry::discover().except("Refusal"), Registry::discover().except("main")]
    {
        let error = start(registry).await.err().expect("the start is refused");
        let [(code, problem)] = error.problems() else { panic!("{error}") };
        assert_eq!(*code, ErrorCode::DuplicateRegistration);
        for part in ["event `Approval`", "duplicate_events.rs:7", "duplicate_events.rs:15"] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }
    for registry in [Registry::empty(), Registry::discover().except("Approval"), Registry::discover().only_crate("a")] {
        start(registry).await.expect("only one type is registered").shutdown().await.expect("shuts down");
    }
}
