//! The arguments of the attributes: `key = value` and `key(..)`, separated by commas.

mod arg;
mod hint;

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::{Expr, Ident, Path};

use self::arg::{Arg, Key, read};
use crate::errors::Errors;
use crate::literal;

const NAME: Key = ("name", "name = \"charge-card\"");
const CRATE: Key = ("crate", "crate = engine");
const HANDLE: Key = ("handle", "handle = ChargeCard");
const ACTIVITY: &[Key] = &[
    NAME,
    ("timeout", "timeout = \"30s\""),
    ("schedule_to_close", "schedule_to_close = \"10m\""),
    ("retry", "retry(max_attempts = 5)"),
    ("transactional", "transactional"),
    HANDLE,
    CRATE,
];
const RETRY: &[Key] = &[
    ("max_attempts", "max_attempts = 5"),
    ("initial_interval", "initial_interval = \"200ms\""),
    ("max_interval", "max_interval = \"10s\""),
    ("backoff", "backoff = 2.0"),
    ("if", "if = ChargeError::is_transient"),
];
/// The defaults of `RetryPolicy`.
const INITIAL_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(60);
const ORCHESTRATION: &[Key] =
    &[NAME, ("version", "version = \"1.2.0\""), ("allow", "allow = \"why this body is deterministic\""), HANDLE, CRATE];
const EVENT: &[Key] = &[NAME, CRATE];

/// The arguments of all attributes.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) name: Option<String>,
    pub(crate) handle: Option<Ident>,
    pub(crate) root: Option<Path>,
}

/// `#[activity(..)]`
#[derive(Default)]
pub(crate) struct Activity {
    pub(crate) common: Common,
    pub(crate) timeout: Option<Duration>,
    pub(crate) schedule_to_close: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    /// The key `transactional`, if the activity runs in a transaction.
    pub(crate) transactional: Option<Ident>,
}

/// `retry(..)`
#[derive(Default)]
pub(crate) struct Retry {
    pub(crate) max_attempts: Option<u32>,
    pub(crate) initial_interval: Option<Duration>,
    pub(crate) max_interval: Option<Duration>,
    pub(crate) backoff: Option<f64>,
    /// The condition for a retry, by the error.
    pub(crate) condition: Option<Expr>,
}

/// `#[orchestration(..)]`
#[derive(Default)]
pub(crate) struct Orchestration {
    pub(crate) common: Common,
    pub(crate) version: Option<String>,
    /// The key `allow`, if the determinism check is off for this body.
    pub(crate) allowed: Option<Ident>,
}

impl Activity {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        read("#[activity]", ACTIVITY, tokens, errors, |arg, errors| match arg.key.as_str() {
            "timeout" => {
                args.timeout = arg.duration(errors);
                args.check_limits(&arg.ident, errors);
            }
            "schedule_to_close" => {
                args.schedule_to_close = arg.duration(errors);
                args.check_limits(&arg.ident, errors);
                args.check_first_pause(&arg.ident, errors);
            }
            "retry" => {
                args.retry = Some(Retry::parse(arg, errors));
                args.check_first_pause(&arg.ident, errors);
            }
            "transactional" => args.transactional = arg.flag(errors),
            _ => args.common.set(arg, errors),
        });
        args
    }

    fn check_limits(&self, key: &Ident, errors: &mut Errors) {
        if is_shorter(self.schedule_to_close, self.timeout) {
            errors.at(key, "`schedule_to_close` is shorter than `timeout`, the limit of one attempt; make it longer");
        }
    }

    fn check_first_pause(&self, key: &Ident, errors: &mut Errors) {
        let repeated = self.retry.as_ref().filter(|retry| retry.max_attempts != Some(1));
        if is_shorter(self.schedule_to_close, repeated.map(Retry::first_pause)) {
            let message = "the first pause of `retry` is longer than `schedule_to_close`, the limit of all attempts; \
                           set a shorter `initial_interval` (default: 1s), or a longer limit";
            errors.at(key, message);
        }
    }
}

fn is_shorter(outer: Option<Duration>, inner: Option<Duration>) -> bool {
    matches!((outer, inner), (Some(outer), Some(inner)) if outer < inner)
}

impl Retry {
    fn parse(arg: &Arg, errors: &mut Errors) -> Self {
        let mut retry = Self::default();
        let Some(inner) = arg.list(errors) else { return retry };
        read("retry(..)", RETRY, inner, errors, |arg, errors| match arg.key.as_str() {
            "max_attempts" => retry.max_attempts = arg.attempts(errors),
            "initial_interval" => {
                retry.initial_interval = arg.duration(errors);
                retry.check_intervals(&arg.ident, errors);
            }
            "max_interval" => {
                retry.max_interval = arg.duration(errors);
                retry.check_intervals(&arg.ident, errors);
            }
            "backoff" => retry.backoff = arg.factor(errors),
            _ => retry.condition = arg.condition(errors),
        });
        retry.check_effect(&arg.ident, errors);
        retry
    }

    /// Refuses keys that the others leave without effect.
    fn check_effect(&self, key: &Ident, errors: &mut Errors) {
        if is_shorter(self.max_interval, self.initial_interval) {
            return; // Reported already.
        }
        let has_pauses = self.initial_interval.or(self.max_interval).is_some() || self.backoff.is_some();
        let initial = self.initial_interval.unwrap_or(INITIAL_INTERVAL);
        if self.max_attempts == Some(1) && (has_pauses || self.condition.is_some()) {
            let message = "with `max_attempts = 1` there is no second attempt, so the other keys of `retry` have no effect; \
                           allow more attempts, or remove them";
            errors.at(key, message);
        } else if self.backoff.is_some_and(|factor| factor > 1.0) && self.longest_pause() <= self.first_pause() {
            let message = "with these pauses `backoff` has no effect, since the first one is the longest; \
                           set a longer `max_interval`, or remove `backoff`";
            errors.at(key, message);
        } else if self.backoff == Some(1.0) && self.max_interval.is_some_and(|longest| longest >= initial) {
            let message =
                "with `backoff = 1` each pause is as long as the first, so `max_interval` has no effect; remove it";
            errors.at(key, message);
        }
    }

    /// Returns the first pause, as the policy computes it.
    fn first_pause(&self) -> Duration {
        let first = self.initial_interval.unwrap_or(INITIAL_INTERVAL);
        self.max_interval.map_or(first, |longest| first.min(longest))
    }

    /// Returns the longest pause, as the policy computes it.
    fn longest_pause(&self) -> Duration {
        self.max_interval.unwrap_or(MAX_INTERVAL.max(self.first_pause()))
    }

    fn check_intervals(&self, key: &Ident, errors: &mut Errors) {
        if is_shorter(self.max_interval, self.initial_interval) {
            errors.at(key, "`max_interval` is shorter than `initial_interval`, the first pause; make it longer");
        }
    }
}

impl Orchestration {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        read("#[orchestration]", ORCHESTRATION, tokens, errors, |arg, errors| match arg.key.as_str() {
            "version" => args.version = arg.checked("a version in quotes", literal::version, errors),
            "allow" => {
                let reason = arg.checked("a reason in quotes", reason, errors);
                args.allowed = reason.map(|_| arg.ident.clone());
            }
            _ => args.common.set(arg, errors),
        });
        args
    }
}

fn reason(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("an empty reason; say why this body is deterministic although the check refuses it".to_owned());
    }
    Ok(())
}

impl Common {
    /// Parses the arguments of `#[event(..)]`.
    pub(crate) fn parse_event(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        read("#[event]", EVENT, tokens, errors, |arg, errors| args.set(arg, errors));
        args
    }

    fn set(&mut self, arg: &Arg, errors: &mut Errors) {
        match arg.key.as_str() {
            "name" => self.name = arg.checked("a name in quotes", literal::name, errors),
            "handle" => self.handle = arg.value("a name for the type, without quotes", errors),
            _ => self.root = arg.with_value("a path, without quotes", Path::parse_mod_style, errors),
        }
    }
}

#[cfg(test)]
mod tests;
