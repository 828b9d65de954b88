//! What cannot be replayed, and what to use instead.

/// Which paths a rule means.
enum Match {
    /// What runs in this module or crate: functions and associated functions, not types, variants and constants.
    In(&'static str),
    /// These functions of this module, also when only its last name is written, as after `use std::thread;`.
    Short(&'static str, &'static [&'static str]),
    /// An associated function of a well-known type of one of these crates, or of an unknown one.
    Of(&'static [&'static str], &'static str, &'static [&'static str]),
    /// Exactly this.
    Exactly(&'static str),
}

use Match::{Exactly, In, Of, Short};

const CLOCK: &str = "a replay sees another time. Use `ctx.now()`.";
const TIMER: &str =
    "its timer is lost with the process. Use `ctx.sleep(..)`; for a time limit, put it into `select!` beside the call.";
const SPAWN: &str = "what it starts runs outside of the orchestration and is lost with the process. Await calls, several \
                     at once with `join!`, and leave other work to an activity.";
const THREAD: &str = "threads are not part of history. Use `ctx.sleep(..)` to wait, and an activity for work.";
const RANDOM: &str = "a replay gets another value. Use `ctx.random()`.";
const UNIQUE_ID: &str = "a replay gets another id. Use `ctx.uuid()`.";
const IO: &str = "a replay may find something else. Do it in an activity, and use what that returns.";
const SELECT: &str = "it picks among the ready branches at random. Use `select!` of duroxide";

/// Which crates have a type of this name that reads the clock.
const CLOCKS: &[&str] = &["std", "tokio", "chrono", "time", "jiff", "web_time", "quanta", "coarsetime"];

/// The first that matches counts.
const RULES: &[(Match, &str)] = &[
    (Of(CLOCKS, "Instant", &["now"]), CLOCK),
    (Of(CLOCKS, "SystemTime", &["now"]), CLOCK),
    (Of(CLOCKS, "Utc", &["now"]), CLOCK),
    (Of(CLOCKS, "Local", &["now"]), CLOCK),
    (Of(CLOCKS, "OffsetDateTime", &["now_utc", "now_local"]), CLOCK),
    (Of(CLOCKS, "UtcDateTime", &["now"]), CLOCK),
    (Of(CLOCKS, "Zoned", &["now"]), CLOCK),
    (Of(&["jiff"], "Timestamp", &["now"]), CLOCK),
    (Of(&["uuid"], "Uuid", &["new_v1", "new_v4", "new_v6", "new_v7", "now_v1", "now_v6", "now_v7"]), UNIQUE_ID),
    (Of(&["ulid"], "Ulid", &["new"]), UNIQUE_ID),
    (Short("tokio::time", &["sleep", "sleep_until", "timeout", "timeout_at", "interval", "interval_at"]), TIMER),
    (In("tokio::time"), TIMER),
    (Exactly("tokio::spawn"), SPAWN),
    (Short("tokio::task", &["spawn", "spawn_blocking", "spawn_local", "block_in_place"]), SPAWN),
    (In("tokio::task"), SPAWN),
    (In("tokio::runtime"), SPAWN),
    (Short("std::thread", &["sleep", "sleep_until", "spawn", "scope", "park", "park_timeout", "yield_now"]), THREAD),
    (In("std::thread"), THREAD),
    (In("rand"), RANDOM),
    (Exactly("rand::rngs::OsRng"), RANDOM),
    (In("fastrand"), RANDOM),
    (In("getrandom"), RANDOM),
    (
        Short(
            "std::fs",
            &["read", "read_to_string", "read_dir", "write", "create_dir", "create_dir_all", "remove_file", "metadata"],
        ),
        IO,
    ),
    (In("std::fs"), IO),
    (In("tokio::fs"), IO),
    (Short("std::env", &["var", "var_os", "vars", "vars_os", "args", "args_os", "current_dir", "temp_dir"]), IO),
    (In("std::env"), IO),
    (Short("std::io", &["stdin"]), IO),
    (Exactly("std::io::stdin"), IO),
    (In("std::process"), IO),
    (In("tokio::process"), IO),
    (Of(&["std", "tokio"], "TcpStream", &["connect", "connect_timeout"]), IO),
    (Of(&["std", "tokio"], "TcpListener", &["bind"]), IO),
    (Of(&["std", "tokio"], "UdpSocket", &["bind"]), IO),
    (In("tokio::net"), IO),
    (In("std::os::unix::net"), IO),
    (In("reqwest"), IO),
    (In("ureq"), IO),
];

/// What only carries a value: it gives the same on every replay.
const HARMLESS_TYPES: &[&str] = &["Duration"];

/// Generators that are seeded with a value of the orchestration give the same on every replay.
const HARMLESS_FUNCTIONS: &[&str] = &["seed_from_u64", "from_seed"];

/// Why this path cannot be replayed.
pub(crate) fn of_path(path: &[String]) -> Option<&'static str> {
    RULES.iter().find(|(rule, _)| rule.means(path)).map(|(_, reason)| *reason)
}

/// Why the macro of this path cannot be replayed.
pub(crate) fn of_macro(path: &[String], biased: bool) -> Option<String> {
    match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tokio", "select"] if !biased => Some(format!("{SELECT}, or begin with `biased;`.")),
        ["futures" | "futures_util", "select"] => Some(format!("{SELECT}, or `select_biased!`.")),
        _ => None,
    }
}

impl Match {
    fn means(&self, path: &[String]) -> bool {
        match self {
            Self::In(module) => is_in(path, module) && runs(path),
            Self::Short(module, functions) => {
                let (last, short) = (path.last(), module.rsplit("::").next());
                let listed = last.is_some_and(|last| functions.contains(&last.as_str()));
                listed && path.len() == 2 && path.first().map(String::as_str) == short
            }
            Self::Of(crates, ty, functions) => match path {
                [front @ .., last_but_one, last] => {
                    let known = front.first().is_none_or(|name| crates.contains(&name.as_str()));
                    known && last_but_one == ty && functions.contains(&last.as_str())
                }
                _ => false,
            },
            Self::Exactly(whole) => path.join("::") == *whole,
        }
    }
}

fn is_in(path: &[String], module: &str) -> bool {
    let mut names = path.iter();
    module.split("::").all(|name| names.next().is_some_and(|segment| segment == name)) && names.next().is_some()
}

/// Whether the path ends in a function, as far as its name tells.
fn runs(path: &[String]) -> bool {
    let is_function = path.last().is_some_and(|last| last.starts_with(|c: char| c.is_lowercase()));
    let harmless = path.last().is_some_and(|last| HARMLESS_FUNCTIONS.contains(&last.as_str()))
        || path.iter().any(|segment| HARMLESS_TYPES.contains(&segment.as_str()));
    is_function && !harmless
}
