//! Values round-trip through every operation; unrepresentable values are refused; values of another type suspend.

use std::collections::BTreeMap;

use duroxide::prelude::*;
use duroxide::provider::InstanceStatus;
use duroxide::sqlite::SqliteProvider;
use duroxide::{CallError, Client, ErrorCode, Registry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Values that are easily lost or changed by serialization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Odd {
    unit: (),
    none: Option<u8>,
    some: Option<String>,
    empty: String,
    quoted: String,
    control: String,
    unsigned: u64,
    signed: i64,
    floats: Vec<f64>,
    bytes: Vec<u8>,
    map: BTreeMap<String, Vec<Option<i64>>>,
    json: Vec<Value>,
    nested: Option<Box<Odd>>,
}

fn odd() -> Odd {
    let inner = Odd {
        unit: (),
        none: None,
        some: Some("null".to_owned()),
        empty: String::new(),
        quoted: "\"quoted\"".to_owned(),
        control: "\0\u{1f}\u{7f}\u{2028}\u{1f980}\\\"\n".to_owned(),
        unsigned: u64::MAX,
        signed: i64::MIN,
        floats: vec![0.1, -0.0, f64::MIN_POSITIVE, f64::MAX, 1e300, 9_007_199_254_740_993.0],
        bytes: (0..=255).collect(),
        map: [(String::new(), vec![]), ("null".to_owned(), vec![None, Some(i64::MAX)])].into(),
        json: vec![json!("42"), json!(42), json!(42.0), json!(null), json!({}), json!([[]]), json!(u64::MAX)],
        nested: None,
    };
    Odd { nested: Some(Box::new(inner.clone())), ..inner }
}

#[activity]
async fn mirror_activity(odd: Odd) -> Result<Odd, Odd> {
    if odd.nested.is_some() { Ok(odd) } else { Err(odd) }
}

#[orchestration]
async fn mirror_child(ctx: OrchestrationContext, odd: Odd) -> Result<Odd, Odd> {
    drop(ctx);
    if odd.nested.is_some() { Ok(odd) } else { Err(odd) }
}

#[event(name = "mirror \"event\"")]
struct MirrorEvent {
    odd: Odd,
}

#[orchestration]
async fn mirror(ctx: OrchestrationContext, odd: Odd, left: u32) -> Result<Vec<Odd>, Odd> {
    let event = ctx.event::<MirrorEvent>().await.odd;
    let bare = Odd { nested: None, ..odd.clone() };
    let output = mirror_activity::call(&ctx, odd.clone()).await.expect("the output");
    let error = mirror_activity::call(&ctx, bare.clone()).await.expect_err("its error").into_failed();
    let child = mirror_child::call(&ctx, odd.clone()).await.expect("the output");
    let child_error = mirror_child::call(&ctx, bare).await.expect_err("its error").into_failed();
    match left {
        2 => mirror::continue_as_new(&ctx, event, 1).await,
        1 => Ok(vec![odd, event, output, error.expect("own"), child, child_error.expect("own")]),
        _ => Err(odd),
    }
}

#[tokio::test]
async fn values_round_trip_through_every_operation() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::empty()
        .with_activity::<mirror_activity>()
        .with_orchestration::<mirror>()
        .with_orchestration::<mirror_child>();
    let memory = Runtime::builder().registry(registry.clone()).in_memory();
    let sqlite = Runtime::builder().registry(registry).sqlite(folder.path().join("values.db"));
    for builder in [memory, sqlite] {
        let mut options = duroxide::RuntimeOptions::default();
        // Nothing is cached, so that each turn decodes all values again.
        options.max_idle_instances = 0;
        let runtime = builder.options(options).start().await.unwrap();
        let handle = mirror::start(&runtime.client(), "mirror", odd(), 2).await.unwrap();
        for _ in 0..2 {
            handle.raise(MirrorEvent { odd: odd() }).await.unwrap();
        }
        let bare = Odd { nested: None, ..odd() };
        let expected = [odd(), odd(), odd(), bare.clone(), odd(), bare];
        assert_eq!(handle.result().await.unwrap(), expected);
        let fails = mirror::start(&runtime.client(), "fails", odd(), 0).await.unwrap();
        fails.raise(MirrorEvent { odd: odd() }).await.unwrap();
        match fails.result().await {
            Err(OutcomeError::Failed(error)) => assert_eq!(error, odd()),
            other => panic!("{other:?}"),
        }
        runtime.shutdown().await.unwrap();
    }
}

#[orchestration]
async fn echo(ctx: OrchestrationContext, value: Value) -> duroxide::Result<Value> {
    drop(ctx);
    Ok(value)
}

#[tokio::test]
async fn single_values_keep_their_type() {
    let test = crate::started().await;
    let values = [json!("42"), json!(42), json!("\"quoted\""), json!(null), json!("null"), json!(""), json!(-0.0)];
    for (n, value) in values.into_iter().enumerate() {
        let handle = echo::start(&test.client(), format!("echo-{n}"), value.clone()).await.unwrap();
        assert_eq!(handle.result().await.unwrap().to_string(), value.to_string());
    }
}

#[activity]
async fn mirror_text(text: Option<String>) -> duroxide::Result<Option<String>> {
    Ok(text)
}

#[activity]
async fn mirror_numbers(unsigned: u64, signed: i64) -> duroxide::Result<(u64, i64)> {
    Ok((unsigned, signed))
}

#[activity]
async fn mirror_unit(unit: ()) -> duroxide::Result<()> {
    Ok(unit)
}

#[orchestration]
async fn mirrors(ctx: OrchestrationContext, text: Option<String>, n: (u64, i64)) -> duroxide::Result<Option<String>> {
    mirror_unit::call(&ctx, ()).await?;
    assert_eq!(mirror_numbers::call(&ctx, n.0, n.1).await?, n);
    let mirrored = mirror_text::call(&ctx, text.clone()).await?;
    assert_eq!(mirrored, text);
    Ok(mirrored)
}

#[tokio::test]
async fn bare_values_keep_their_type() {
    let test = crate::started().await;
    let texts = [None, Some(""), Some("null"), Some("None"), Some("42"), Some("\"quoted\""), Some("{}")];
    let numbers = [(u64::MAX, i64::MIN), (0, i64::MAX), ((1 << 53) + 1, -(1 << 53) - 1)];
    for (n, text) in texts.into_iter().enumerate() {
        let text = text.map(str::to_owned);
        let start = mirrors::start(&test.client(), format!("mirrors-{n}"), text.clone(), numbers[n % 3]);
        assert_eq!(start.await.unwrap().result().await.unwrap(), text);
    }
}

#[tokio::test]
async fn unrepresentable_values_are_refused_with_their_place() {
    let test = crate::started().await;
    let client = test.client();
    let refused = [
        client.start("echo", "nan", &[("field", f64::NAN)]).await.unwrap_err(),
        client.start("echo", "infinite", &f64::INFINITY).await.unwrap_err(),
        client.start("echo", "keys", &BTreeMap::from([((1, 2), 3)])).await.unwrap_err(),
        client.start("echo", "lost", &Some(())).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.code(), ErrorCode::PayloadRefused, "{error}");
        assert!(error.to_string().contains("the input"), "{error}");
        assert!(client.handle(error.instance().unwrap()).status().await.unwrap_err().is_not_found());
    }
    let handle = waits_for_number::start(&client, "waits").await.unwrap();
    let error = handle.raise_named("Number", &f64::NAN).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PayloadRefused, "{error}");
    assert!(error.to_string().contains("the event"), "{error}");
}

#[activity]
async fn gives_nan() -> duroxide::Result<f64> {
    Ok(f64::NAN)
}

#[orchestration]
async fn nan_from_activity(ctx: OrchestrationContext) -> duroxide::Result<String> {
    Ok(format!("{:?}", gives_nan::call(&ctx).await))
}

#[orchestration]
async fn nan_as_output(ctx: OrchestrationContext) -> duroxide::Result<f64> {
    drop(ctx);
    Ok(f64::NAN)
}

#[tokio::test]
async fn unrepresentable_output_is_an_error_to_the_caller() {
    let test = crate::started().await;
    let text = nan_from_activity::start(&test.client(), "activity").await.unwrap().result().await.unwrap();
    assert!(text.contains("Rejected") && text.contains("NaN"), "{text}");
    match nan_as_output::start(&test.client(), "output").await.unwrap().result().await {
        Err(OutcomeError::Rejected { reason }) => assert!(reason.contains("NaN"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[event]
struct Number(u32);

#[orchestration]
async fn waits_for_number(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    Ok(ctx.event::<Number>().await.0)
}

#[activity]
async fn takes_number(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[orchestration]
async fn gives_text(ctx: OrchestrationContext) -> duroxide::Result<String> {
    drop(ctx);
    Ok("text".to_owned())
}

#[orchestration]
async fn reads_activity_wrongly(ctx: OrchestrationContext) -> duroxide::Result<String> {
    ctx.call_activity::<String>("takes_number", &7).await.map_err(|e| duroxide::Error::new(e.to_string()))
}

#[orchestration]
async fn calls_activity_wrongly(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.call_activity::<u32>("takes_number", "text").await.map_err(|e| duroxide::Error::new(e.to_string()))
}

#[orchestration]
async fn reads_child_wrongly(ctx: OrchestrationContext) -> duroxide::Result<u32> {
    ctx.call_orchestration::<u32>("gives_text", &()).await.map_err(|e| duroxide::Error::new(e.to_string()))
}

#[tokio::test]
async fn value_of_another_type_suspends_with_place_and_both_types() {
    let test = crate::started().await;
    let client = test.client();
    let event = waits_for_number::start(&client, "event").await.unwrap();
    event.raise_named("Number", &"text").await.unwrap();
    client.start("waits_for_number", "input", &"text").await.unwrap();
    client.start("reads_activity_wrongly", "activity", &()).await.unwrap();
    client.start("calls_activity_wrongly", "activity input", &()).await.unwrap();
    client.start("reads_child_wrongly", "child", &()).await.unwrap();
    for (id, code, place, found, wanted) in [
        ("event", ErrorCode::UnreadableResult, "values.rs", "string", "Number"),
        ("input", ErrorCode::UnreadableInput, "", "string", "()"),
        ("activity", ErrorCode::UnreadableResult, "values.rs", "integer", "String"),
        ("activity input", ErrorCode::UnreadableActivityInput, "", "string", "u32"),
        ("child", ErrorCode::UnreadableResult, "values.rs", "string", "u32"),
    ] {
        let status = client.handle(id).wait_for(|status| status.suspension.is_some()).await.unwrap();
        assert!(!status.status.is_finished(), "{id}");
        let suspension = status.suspension.unwrap();
        assert_eq!(suspension.code, code, "{id}: {suspension}");
        let text = suspension.to_string();
        assert!(suspension.place.clone().unwrap_or_default().contains(place), "{id}: {text}");
        assert!(text.contains(found) && text.contains(wanted), "{id}: {text}");
    }
    // The unreadable event is kept, an operator may terminate its instance, and other instances are not affected.
    event.terminate("wrong").await.unwrap();
    assert_eq!(event.wait().await.unwrap(), InstanceStatus::Terminated);
    let other = waits_for_number::start(&client, "other").await.unwrap();
    other.raise(Number(5)).await.unwrap();
    assert_eq!(other.result().await.unwrap(), 5);
}

#[tokio::test]
async fn client_writes_survive_reopening_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.db");
    let client = Client::new(SqliteProvider::open(&path).unwrap());
    let value = json!({ "large": "x".repeat(1 << 20), "odd": odd() });
    client.start("echo", "written", &value).await.unwrap();
    drop(client);
    let registry = Registry::empty().with_orchestration::<echo>();
    let runtime = Runtime::builder().registry(registry).sqlite(&path).start().await.unwrap();
    assert_eq!(runtime.client().handle("written").result().await.unwrap(), value);
    runtime.shutdown().await.unwrap();
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Rule {
    Always,
    Not(Box<Rule>),
}

/// Returns a rule whose JSON has this number of objects within each other.
fn nested(levels: usize) -> Rule {
    (0..levels).fold(Rule::Always, |rule, _| Rule::Not(Box::new(rule)))
}

/// The deepest value that a payload may hold.
const DEEPEST: usize = 127;

#[event]
struct RuleChanged(Rule);

#[activity]
async fn gives_rule(levels: usize, fails: bool) -> Result<Rule, Rule> {
    if fails { Err(nested(levels)) } else { Ok(nested(levels)) }
}

#[activity]
fn gives_rule_blocking(levels: usize) -> duroxide::Result<Rule> {
    Ok(nested(levels))
}

#[activity]
async fn takes_rule(rule: Rule) -> duroxide::Result<bool> {
    Ok(rule == Rule::Always)
}

#[orchestration]
async fn returns_rule(ctx: OrchestrationContext, levels: usize, fails: bool) -> Result<Rule, Rule> {
    drop(ctx);
    if fails { Err(nested(levels)) } else { Ok(nested(levels)) }
}

#[orchestration]
async fn receives_rule(ctx: OrchestrationContext, rule: Option<Rule>) -> duroxide::Result<Rule> {
    match rule {
        Some(rule) => Ok(rule),
        None => Ok(ctx.event::<RuleChanged>().await.0),
    }
}

/// Sends a rule to and from activities and children, and returns the texts of the refusals.
#[orchestration]
async fn sends_rules(ctx: OrchestrationContext, levels: usize) -> duroxide::Result<Vec<String>> {
    let mut refusals = Vec::new();
    let mut note = |refused: Option<String>| refusals.extend(refused);
    note(takes_rule::call(&ctx, nested(levels)).await.err().map(|e| e.to_string()));
    note(gives_rule_blocking::call(&ctx, levels).await.err().map(|e| e.to_string()));
    note(receives_rule::call(&ctx, Some(nested(levels))).await.err().map(|e| e.to_string()));
    for fails in [false, true] {
        match gives_rule::call(&ctx, levels, fails).await.map_err(CallError::into_failed) {
            Ok(rule) | Err(Ok(rule)) => assert_eq!(rule, nested(levels)),
            Err(Err(refused)) => note(Some(format!("{refused:?}"))),
        }
        match returns_rule::call(&ctx, levels, fails).await.map_err(CallError::into_failed) {
            Ok(rule) | Err(Ok(rule)) => assert_eq!(rule, nested(levels)),
            Err(Err(refused)) => note(Some(format!("{refused:?}"))),
        }
    }
    Ok(refusals)
}

#[tokio::test]
async fn value_nested_too_deeply_is_refused_to_its_sender() {
    let test = crate::started().await;
    let client = test.client();
    for levels in [DEEPEST + 1, 5000] {
        let input = receives_rule::start(&client, "deep", Some(nested(levels))).await.unwrap_err();
        let waits = receives_rule::start(&client, format!("waits {levels}"), None).await.unwrap();
        let event = waits.raise(RuleChanged(nested(levels))).await.unwrap_err();
        for error in [input, event] {
            assert_eq!(error.code(), ErrorCode::PayloadRefused, "{error}");
            assert!(error.to_string().contains("`Not.Not.") && error.to_string().contains("127 levels"), "{error}");
        }
        assert!(client.handle("deep").status().await.unwrap_err().is_not_found());
        waits.raise(RuleChanged(nested(DEEPEST))).await.unwrap();
        assert_eq!(waits.result().await.unwrap(), nested(DEEPEST));

        let sends = sends_rules::start(&client, format!("sends {levels}"), levels).await.unwrap();
        let refusals = sends.result().await.unwrap();
        assert_eq!(refusals.len(), 7, "{refusals:?}");
        assert!(refusals.iter().all(|text| text.contains("`Not.Not.")), "{refusals:?}");
        for fails in [false, true] {
            let ends = returns_rule::start(&client, format!("returns {levels} {fails}"), levels, fails).await.unwrap();
            match ends.result().await {
                Err(OutcomeError::Rejected { reason }) => assert!(reason.contains("`Not.Not."), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn deepest_value_passes_every_operation() {
    let test = crate::started().await;
    let rule = receives_rule::start(&test.client(), "input", Some(nested(DEEPEST))).await.unwrap();
    assert_eq!(rule.result().await.unwrap(), nested(DEEPEST));
    let sends = sends_rules::start(&test.client(), "sends", DEEPEST).await.unwrap();
    assert_eq!(sends.result().await.unwrap(), Vec::<String>::new());
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Amount {
    currency: String,
    wei: u128,
}

/// Serde reads the fields of a flattened struct by way of a value that has no integers of 128 bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Transfer {
    to: String,
    #[serde(flatten)]
    amount: Amount,
}

#[orchestration]
async fn transfers(ctx: OrchestrationContext, transfers: Vec<Transfer>, note: String) -> duroxide::Result<String> {
    drop((ctx, transfers));
    Ok(note)
}

#[tokio::test]
async fn value_that_its_type_cannot_read_is_refused_to_its_sender() {
    let test = crate::started().await;
    let transfer = Transfer { to: "s3cr3t".to_owned(), amount: Amount { currency: "ETH".to_owned(), wei: 1 << 100 } };
    let start = transfers::start(&test.client(), "transfers", vec![transfer], "a".to_owned());
    let error = start.await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PayloadRefused, "{error}");
    let text = error.to_string();
    assert!(text.contains("`transfers[0]`") && text.contains("u128"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
    assert!(test.client().handle("transfers").status().await.unwrap_err().is_not_found());
}

/// A type that loses a field on reading.
#[derive(Debug, Serialize, Deserialize)]
struct Forgetful {
    kept: u32,
    #[serde(skip_deserializing)]
    lost: u32,
}

#[orchestration]
async fn remembers(ctx: OrchestrationContext, values: Vec<Forgetful>) -> duroxide::Result<u32> {
    drop(ctx);
    Ok(values[0].kept + values[0].lost)
}

#[tokio::test]
async fn value_that_reads_back_differently_is_found_by_a_test_runtime() {
    let test = crate::started().await;
    let values = vec![Forgetful { kept: 1, lost: 17 }];
    let error = remembers::start(&test.client(), "remembers", values).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::PayloadRefused, "{error}");
    assert!(error.to_string().contains("`[0].lost`") && !error.to_string().contains("17"), "{error}");
}
