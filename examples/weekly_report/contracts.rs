//! The contracts between the two programs: functions without a body. The program `sources` has the code.

use duroxide::prelude::*;

#[activity(retry(max_attempts = 5, initial_interval = "100ms"), timeout = "30s")]
pub(crate) async fn fetch(week: u32, source: u32) -> duroxide::Result<String>;

/// Sends a line to the editor.
#[activity]
pub(crate) async fn tell(line: String) -> duroxide::Result<()>;

/// The editor agrees.
#[event]
pub(crate) struct Approval {
    pub(crate) by: String,
}
