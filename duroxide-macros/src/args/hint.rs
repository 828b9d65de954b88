//! The remedies for keys that do not exist, where the meaning is clear: the right name, or the right place.

/// Returns the remedy for an unknown key of an attribute.
pub(super) fn of(owner: &str, key: &str) -> Option<&'static str> {
    Some(match (owner, key) {
        (
            "#[activity]",
            "max_attempts" | "attempts" | "retries" | "max_retries" | "initial_interval" | "max_interval",
        )
        | ("#[activity]", "backoff" | "if" | "retry_if") => {
            "the policy for retries has its keys in parentheses, as in `retry(max_attempts = 5)`"
        }
        ("#[activity]", "blocking") => "an activity is blocking if it is a plain `fn`: remove `async`",
        ("#[activity]", "start_to_close") => "the limit of one attempt is `timeout = \"30s\"`",
        ("#[activity]", "tag" | "tags" | "queue") => {
            "a tag is given at the call, as in `name::call(&ctx, ..).tag(\"gpu\")`"
        }
        ("#[activity]", "detached") => "this is chosen at the call, as in `name::call(&ctx, ..).detached()`",
        ("#[activity]", "version") => "only orchestrations have versions, since only they are replayed",
        ("#[activity]", "allow" | "allow_nondeterminism") => {
            "the code of an activity is not checked, since it is not replayed"
        }
        ("#[orchestration]", "timeout" | "schedule_to_close") => {
            "activities have limits, `#[activity(timeout = \"30s\")]`; an orchestration limits its work with \
             `ctx.sleep(..)` in a `select!`"
        }
        ("#[orchestration]", "retry" | "max_attempts" | "attempts" | "retries") => {
            "activities are retried, `#[activity(retry(max_attempts = 5))]`, and the orchestration continues"
        }
        ("#[orchestration]", "id" | "instance") => {
            "the id of an instance is given at its start, `name::start(&client, id, ..)`"
        }
        ("#[orchestration]", "label" | "labels") => {
            "a label is given at the start, as in `name::start(&client, id, ..).label(\"tenant\", \"a\")`"
        }
        ("#[orchestration]", "allow_nondeterminism") => "write `allow = \"why this body is deterministic\"`",
        ("retry(..)", "attempts" | "count" | "times" | "retries" | "max_retries" | "max") => {
            "the number of attempts is `max_attempts = 5`, including the first"
        }
        ("retry(..)", "delay" | "interval" | "pause" | "initial" | "initial_delay" | "initial_backoff") => {
            "the first pause is `initial_interval = \"200ms\"`"
        }
        ("retry(..)", "max_delay" | "max_backoff" | "max_pause") => "the longest pause is `max_interval = \"10s\"`",
        ("retry(..)", "factor" | "multiplier" | "coefficient" | "backoff_coefficient") => {
            "the factor from each pause to the next is `backoff = 2.0`"
        }
        ("retry(..)", "when" | "on" | "condition" | "retry_if" | "filter") => {
            "the errors to retry are chosen by `if = ChargeError::is_transient`"
        }
        ("retry(..)", "timeout" | "schedule_to_close") => "a limit goes beside `retry(..)`, not into it",
        _ => return None,
    })
}
