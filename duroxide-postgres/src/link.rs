//! The connection of a lane: opened when it is needed, and again when it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connect::{Shared, Use};
use crate::state::State;

/// The pauses between attempts to connect. The longest one is well below the time of grace of a lease, so that nodes renew
/// soon after an outage.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Link {
    state: Arc<State>,
    purpose: Use,
    connection: Option<Shared>,
}

impl Link {
    pub(crate) fn new(state: Arc<State>, purpose: Use) -> Self {
        Self { state, purpose, connection: None }
    }

    /// Returns the connection. Tries to open it until the patience of a request that was queued at this time is over.
    ///
    /// # Errors
    /// The reason of the last failure. Every failure counts as one that may pass, since the database was reachable when the
    /// provider was opened.
    pub(crate) async fn connection(&mut self, queued: Instant) -> Result<Shared, String> {
        if let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        self.connection = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.state.database.open(self.purpose).await {
                Ok(connection) => return Ok(self.connection.insert(Arc::new(connection)).clone()),
                Err(error) => error,
            };
            if !error.is_retryable() {
                tracing::error!(%error, "the database refuses the connection");
            }
            if queued.elapsed() + pause >= self.state.patience {
                return Err(error.to_string());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
