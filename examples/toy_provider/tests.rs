//! Runs the cases of the contract.

use std::sync::Arc;

use duroxide::provider::conformance::{Subject, cases};
use duroxide::provider::{Lease, Provider};

use crate::provider::ToyProvider;

struct Toy(ToyProvider);

impl Subject for Toy {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.clone())
    }

    fn kill(&self, _: Arc<dyn Provider>, lease: Lease) {
        self.0.kill(lease.epoch);
    }
}

#[test]
fn toy_provider_keeps_the_contract() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut failed = Vec::new();
    for case in cases() {
        let subject = Arc::new(Toy(ToyProvider::default()));
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on((case.run)(subject)));
        if std::panic::catch_unwind(run).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "these cases fail: {failed:#?}");
}
