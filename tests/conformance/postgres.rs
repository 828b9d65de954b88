//! Processes that share one schema of a PostgreSQL database.

use std::sync::Arc;

use duroxide::provider::conformance::Subject;
use duroxide::provider::{Lease, Provider};
use support::schema::Schema;

/// Each process opens the schema itself.
pub(crate) struct Postgres(pub(crate) Schema);

impl Subject for Postgres {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.connect())
    }

    fn kill(&self, provider: Arc<dyn Provider>, lease: Lease) {
        assert_eq!(Arc::strong_count(&provider), 1, "the provider of the process is still in use");
        drop(provider);
        // As if the lease and the time of grace had passed without a renewal.
        let expire = "UPDATE nodes SET expires_at = 'epoch', suspected_at = 'epoch' WHERE epoch";
        self.0.execute(&format!("{expire} = {}", lease.epoch));
    }
}

#[test]
fn views_of_postgres_can_be_read() {
    let Some(url) = support::postgres::server() else { return };
    let schema = Schema::new(url, "views");
    drop(schema.connect());
    let views = [
        "SELECT id, suspension, node FROM v_instances",
        "SELECT instance, data, payload, place FROM v_history",
        "SELECT instance, call, attempt, node, began, error FROM v_attempts",
    ];
    views.into_iter().for_each(|view| schema.execute(view));
}
