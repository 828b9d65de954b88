//! The paths that cannot be replayed, and their alternatives.

/// The paths of a rule.
enum Match {
    /// All functions and associated functions in this module or crate; not types, variants and constants.
    In(&'static str),
    /// These functions of this module, if only the last name of the module is written, as after `use std::thread;`.
    Short(&'static str, &'static [&'static str]),
    /// Associated functions of a well-known type of one of these crates, or of a type whose crate is not written.
    Of(&'static [&'static str], &'static str, &'static [&'static str]),
    /// Exactly this path.
    Exactly(&'static str),
}

use Match::{Exactly, In, Of, Short};

const CLOCK: &str = "a replay sees another time. Use `ctx.now()`.";
const TIMER: &str =
    "its timer is lost with the process. Use `ctx.sleep(..)`; for a time limit, put it into `select!` beside the call.";
const SPAWN: &str = "its task runs outside of the orchestration and is lost with the process. Await calls, several \
                     at once with `join!`, and leave other work to an activity.";
const THREAD: &str = "threads are not part of history. Use `ctx.sleep(..)` to wait, and an activity for work.";
const RANDOM: &str = "a replay gets another value. Use `ctx.random()`.";
const UNIQUE_ID: &str = "a replay gets another id. Use `ctx.uuid()`.";
const IO: &str = "a replay may see other data. Do it in an activity, and use its result.";
const YIELD: &str = "an orchestration waits only for its calls, timers and events. Remove it.";
const BLOCK: &str = "it blocks the thread of the turn, and the awaited result never arrives. Use `.await`.";
const SELECT: &str = "it picks among the ready branches at random. Use `select!` of duroxide";
const JOIN: &str = "it polls its futures in an order that depends on the number of earlier polls. Use";

/// The crates with types that read the clock.
const CLOCKS: &[&str] = &["std", "tokio", "chrono", "time", "jiff", "web_time", "quanta", "coarsetime"];

/// The rules; the first match counts.
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
    (Exactly("tokio::task::yield_now"), YIELD),
    (Short("tokio::time", &["sleep", "sleep_until", "timeout", "timeout_at", "interval", "interval_at"]), TIMER),
    (In("tokio::time"), TIMER),
    (Exactly("tokio::spawn"), SPAWN),
    (Short("tokio::task", &["spawn", "spawn_blocking", "spawn_local", "block_in_place"]), SPAWN),
    (In("tokio::task"), SPAWN),
    (In("tokio::runtime"), SPAWN),
    (Exactly("futures::executor::block_on"), BLOCK),
    (Short("futures::executor", &["block_on"]), BLOCK),
    (In("async_std::task"), SPAWN),
    (In("smol"), SPAWN),
    (In("futures_timer"), TIMER),
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
    (In("tokio::signal"), IO),
    (Exactly("tokio::io::stdin"), IO),
    (In("std::os::unix::net"), IO),
    (In("reqwest"), IO),
    (In("ureq"), IO),
];

/// Functions that are commonly imported, and then called by their bare names.
const BARE: &[(&str, &str, &str)] = &[
    ("sleep", "tokio::time::sleep", TIMER),
    ("sleep_until", "tokio::time::sleep_until", TIMER),
    ("timeout", "tokio::time::timeout", TIMER),
    ("timeout_at", "tokio::time::timeout_at", TIMER),
    ("interval", "tokio::time::interval", TIMER),
    ("interval_at", "tokio::time::interval_at", TIMER),
    ("spawn", "tokio::spawn", SPAWN),
    ("spawn_blocking", "tokio::task::spawn_blocking", SPAWN),
    ("spawn_local", "tokio::task::spawn_local", SPAWN),
    ("block_in_place", "tokio::task::block_in_place", SPAWN),
    ("block_on", "futures::executor::block_on", BLOCK),
    ("yield_now", "tokio::task::yield_now", YIELD),
    ("random", "rand::random", RANDOM),
    ("random_bool", "rand::random_bool", RANDOM),
    ("random_range", "rand::random_range", RANDOM),
    ("thread_rng", "rand::thread_rng", RANDOM),
    ("rng", "rand::rng", RANDOM),
];

/// Types that only carry a value, which is the same on every replay.
const HARMLESS_TYPES: &[&str] = &["Duration"];

/// Constructors of generators that a value of the orchestration seeds, so that they repeat on replay.
const HARMLESS_FUNCTIONS: &[&str] = &["seed_from_u64", "from_seed"];

/// Returns the reason why this path cannot be replayed.
pub(crate) fn of_path(path: &[String]) -> Option<&'static str> {
    RULES.iter().find(|(rule, _)| rule.matches(path)).map(|(_, reason)| *reason)
}

/// Returns the full path that a bare name commonly stands for, and the reason why it cannot be replayed.
pub(crate) fn of_bare(name: &str) -> Option<(&'static str, &'static str)> {
    BARE.iter().find(|(bare, ..)| *bare == name).map(|(_, full, reason)| (*full, *reason))
}

/// Returns the reason why the macro of this path cannot be replayed.
pub(crate) fn of_macro(path: &[String], biased: bool) -> Option<String> {
    match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tokio", "select"] if !biased => Some(format!("{SELECT}, or begin with `biased;`.")),
        ["tokio", "join"] if !biased => Some(format!("{JOIN} `join!` of duroxide, or begin with `biased;`.")),
        ["tokio", "try_join"] if !biased => {
            Some(format!("{JOIN} `try_join_all` of duroxide, or begin with `biased;`."))
        }
        ["futures" | "futures_util", "select"] => Some(format!("{SELECT}, or `select_biased!`.")),
        _ => None,
    }
}

impl Match {
    fn matches(&self, path: &[String]) -> bool {
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

/// Returns true if the path ends in a function, judged by its lowercase name.
fn runs(path: &[String]) -> bool {
    let is_function = path.last().is_some_and(|last| last.starts_with(|c: char| c.is_lowercase()));
    let harmless = path.last().is_some_and(|last| HARMLESS_FUNCTIONS.contains(&last.as_str()))
        || path.iter().any(|segment| HARMLESS_TYPES.contains(&segment.as_str()));
    is_function && !harmless
}
