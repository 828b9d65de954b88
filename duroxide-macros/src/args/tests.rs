//! Arguments that are read, and the errors of the others.

use std::time::Duration;

use proc_macro2::TokenStream;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use quote::quote;
use syn::Expr;

use crate::args::{Activity, Common, Orchestration};
use crate::errors::Errors;

#[test]
fn every_key_is_read() {
    let mut errors = Errors::default();
    let args = Activity::parse(
        quote! {
            name = "charge-card", timeout = "30s", schedule_to_close = "10m", handle = Charge, crate = a::b,
            retry(max_attempts = 5, initial_interval = "200ms", max_interval = "10s", backoff = 3, if = E::is_transient),
        },
        &mut errors,
    );
    assert_eq!(errors.messages(), [""; 0]);
    assert_eq!(args.common.name.as_deref(), Some("charge-card"));
    assert!(args.common.handle.is_some_and(|handle| handle == "Charge"));
    assert_eq!(args.common.root.map(|root| root.segments.len()), Some(2));
    assert_eq!((args.timeout, args.schedule_to_close), (Some(seconds(30)), Some(seconds(600))));
    let retry = args.retry.expect("it was given");
    assert_eq!((retry.max_attempts, retry.backoff), (Some(5), Some(3.0)));
    assert_eq!((retry.initial_interval, retry.max_interval), (Some(seconds(1) / 5), Some(seconds(10))));
    assert!(matches!(retry.condition, Some(Expr::Path(_))));
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn orchestration_has_its_own_keys() {
    let mut errors = Errors::default();
    let args = Orchestration::parse(quote!(version = "1.2.3", allow = "measures itself"), &mut errors);
    assert_eq!(errors.messages(), [""; 0]);
    assert_eq!((args.version.as_deref(), args.allowed.is_some()), (Some("1.2.3"), true));
}

#[test]
fn all_mistakes_are_reported_and_the_rest_is_read() {
    let mut errors = Errors::default();
    let args = Activity::parse(
        quote!(
            timeouts = "1s",
            timeout = 5,
            name = "a",
            name = "b",
            retry(max_attempts = 0, backoff = 0.5),
            "x",
            retry = 1
        ),
        &mut errors,
    );
    let messages = errors.messages();
    let begin = ["`timeouts` is not a key", "`timeout` expects", "`name` is given twice", "`max_attempts` expects"];
    let end = ["`backoff` expects", "expected a key", "`retry` is given twice"];
    assert_eq!(messages.len(), 7, "{messages:?}");
    for (message, start) in messages.iter().zip(begin.into_iter().chain(end)) {
        assert!(message.starts_with(start), "{message}");
    }
    assert_eq!(args.common.name.as_deref(), Some("a"));
}

#[test]
fn leading_comma_is_refused() {
    for tokens in [quote!(,), quote!(, name = "a"), quote!(name = "a", ,), quote!(retry(,))] {
        let mut errors = Errors::default();
        Activity::parse(tokens.clone(), &mut errors);
        assert_eq!(errors.messages(), ["unexpected comma; remove it"], "{tokens}");
    }
}

#[test]
fn error_lists_the_valid_keys() {
    let mut errors = Errors::default();
    Common::parse_event(quote!(version = "1.0.0"), &mut errors);
    assert_eq!(errors.messages(), ["`version` is not a key of `#[event]`; it has `name` and `crate`"]);
}

#[test]
fn numbers_and_conditions_of_the_wrong_kind_are_refused() {
    for retry in [
        quote!(max_attempts = "5"),
        quote!(max_attempts = -1),
        quote!(max_attempts = 5_000_000_000),
        quote!(backoff = "2"),
        quote!(backoff = 0),
        quote!(if = true),
        quote!(if),
        quote!(initial_interval = 1),
        quote!(initial_interval = "2s", max_interval = "1s"),
    ] {
        let mut errors = Errors::default();
        Activity::parse(quote!(retry(#retry)), &mut errors);
        assert_eq!(errors.count(), 1, "{retry}");
    }
}

#[test]
fn options_that_leave_others_without_effect_are_refused() {
    let messages = |args: TokenStream| {
        let mut errors = Errors::default();
        Activity::parse(args, &mut errors);
        errors.messages()
    };
    for (args, start) in [
        (quote!(retry(initial_interval = "1h", backoff = 3)), "with these pauses `backoff` has no effect"),
        (quote!(retry(backoff = 3, max_interval = "1s")), "with these pauses `backoff` has no effect"),
        (quote!(retry(backoff = 3, initial_interval = "2s", max_interval = "2s")), "with these pauses `backoff` has"),
        (quote!(retry(backoff = 1, max_interval = "10s")), "with `backoff = 1` each pause is as long as the first"),
        (quote!(schedule_to_close = "1m", retry(initial_interval = "1h")), "the first pause of `retry` is longer than"),
        (quote!(retry(max_attempts = 3), schedule_to_close = "500ms"), "the first pause of `retry` is longer than"),
    ] {
        let messages = messages(args.clone());
        assert!(messages.len() == 1 && messages[0].starts_with(start), "{args}: {messages:?}");
    }
    for args in [
        quote!(retry(initial_interval = "1h")),
        quote!(retry(initial_interval = "1h", backoff = 1)),
        quote!(retry(initial_interval = "1h", backoff = 3, max_interval = "1d")),
        quote!(retry(backoff = 1, max_interval = "500ms")),
        quote!(retry(max_interval = "500ms"), schedule_to_close = "500ms"),
        quote!(retry(max_attempts = 1), schedule_to_close = "500ms"),
    ] {
        assert_eq!(messages(args.clone()), [""; 0], "{args}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// `fuzz/` searches longer than this test does.
    #[test]
    fn arbitrary_tokens_are_read_or_refused(parts in vec(part(), 0..24)) {
        let text = parts.concat();
        let Ok(tokens) = text.parse::<TokenStream>() else { return Ok(()) };
        let mut errors = Errors::default();
        Activity::parse(tokens.clone(), &mut errors);
        Orchestration::parse(tokens.clone(), &mut errors);
        Common::parse_event(tokens, &mut errors);
        // Mistakes of any kind must convert to tokens.
        drop(errors.into_tokens());
    }
}

fn part() -> impl Strategy<Value = String> {
    let known = [
        "name = ",
        "timeout = ",
        "schedule_to_close = ",
        "handle = ",
        "crate = ",
        "version = ",
        "allow = ",
        "retry = ",
        "retry(",
        "max_attempts = ",
        "initial_interval = ",
        "max_interval = ",
        "backoff = ",
        "if = ",
        ")",
        "(",
        ", ",
        "=",
        "::",
        "a",
        "\"1h 30m\"",
        "\"\"",
        "\"1.2.3\"",
        "5",
        "0",
        "-1",
        "2.5",
        "1e999",
        "99999999999999999999999999",
        "'a",
        "'a'",
        "b\"a\"",
        "#",
        "r#if",
        "|e| ",
        "{ e }",
        "[",
        "]",
    ];
    prop_oneof![4 => select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,4}"]
}
