//! The settings of connections: for their sessions, or for each transaction behind a pooler that keeps no sessions.

use crate::connect::Use;

/// Returns the statements that set up a session.
pub(crate) fn of_session(purpose: Use, schema: &str) -> String {
    // A statement whose client is gone ends, and releases its locks. Servers of some operating systems refuse the setting.
    let ends_with_client = "DO $$ BEGIN
             IF current_setting('client_connection_check_interval', true) IS NOT NULL THEN
                 PERFORM set_config('client_connection_check_interval', '1s', false);
             END IF;
         EXCEPTION WHEN OTHERS THEN NULL; END $$";
    let isolation = "SET default_transaction_isolation = 'read committed'";
    format!("{}; {isolation}; {ends_with_client}", set(purpose, schema, false))
}

/// Returns the statement that sets up a transaction.
pub(crate) fn of_transaction(purpose: Use, schema: &str) -> String {
    set(purpose, schema, true)
}

/// Returns the statement that sets the limit of a transaction of the program: nothing of an attempt remains open for a long
/// time if this process stops. `set` is `SET` or `SET LOCAL`.
pub(crate) fn of_program(set: &str) -> String {
    format!("{set} idle_in_transaction_session_timeout = '60s'")
}

/// Returns a statement that sets all settings that the server knows; older ones lack some.
fn set(purpose: Use, schema: &str, is_local: bool) -> String {
    // No `search_path` of the role or the database applies; names of the system come first. The name of a schema consists of
    // letters, digits and `_`.
    let search_path = format!("\"{schema}\"");
    let common = [
        ("search_path", &*search_path),
        ("jit", "off"),
        ("lock_timeout", lock_timeout(purpose)),
        ("statement_timeout", statement_timeout(purpose)),
        ("idle_in_transaction_session_timeout", "10s"),
    ];
    let limit = transaction_timeout(purpose).map(|limit| ("transaction_timeout", limit));
    let all = common.into_iter().chain(limit).chain(plans(purpose).iter().copied());
    let values: Vec<String> = all.map(|(name, value)| format!("('{name}', '{value}')")).collect();
    format!(
        "SELECT count(set_config(t.name, t.value, {is_local})) FROM (VALUES {}) AS t (name, value)
         WHERE current_setting(t.name, true) IS NOT NULL",
        values.join(", ")
    )
}

fn lock_timeout(purpose: Use) -> &'static str {
    match purpose {
        Use::Hot => "200ms",
        Use::Waiting => "250ms",
        Use::Reading | Use::Planned | Use::Listening | Use::Program => "5s",
    }
}

/// A statement that takes long on the connection that listens would delay its notifications, and would look like a
/// connection that does not answer.
fn statement_timeout(purpose: Use) -> &'static str {
    match purpose {
        Use::Listening => "2s",
        Use::Hot | Use::Waiting | Use::Reading | Use::Planned | Use::Program => "10s",
    }
}

/// The limit of a transaction of short statements, with which the lane no longer waits for it either.
fn transaction_timeout(purpose: Use) -> Option<&'static str> {
    match purpose {
        Use::Hot | Use::Waiting | Use::Reading => Some("15s"),
        Use::Planned | Use::Listening | Use::Program => None,
    }
}

/// The plans of hot statements are fixed: a plan that was made while a table was empty, or for one list of values,
/// would scan the table later. A row has a high cost, so that each plan uses all conditions of an index, even where the
/// statistics say that some of them suffice.
fn plans(purpose: Use) -> &'static [(&'static str, &'static str)] {
    match purpose {
        Use::Planned | Use::Program => &[],
        Use::Hot | Use::Waiting | Use::Reading | Use::Listening => &[
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_material", "off"),
            ("random_page_cost", "1"),
            ("cpu_tuple_cost", "1"),
            ("cpu_index_tuple_cost", "1"),
            ("cpu_operator_cost", "0.1"),
        ],
    }
}
