//! Registries: their errors refuse the start, and work that no node has registered is shown as unclaimed.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use duroxide::prelude::*;
use duroxide::provider::MemoryProvider;
use duroxide::registry::StateType;
use duroxide::runtime::Limits;
use duroxide::testing::VirtualClock;
use duroxide::{ActivityOptions, ErrorCode, Registry, RuntimeOptions, StartError};
use support::{signalling, until_stored};
use tokio::time::timeout;

/// A state that some tests of this file provide, and others do not.
#[derive(Clone)]
struct Warehouse(u32);

/// Implements an activity by hand: the registries of all other tests would discover an annotated one.
macro_rules! activity {
    ($type:ident, $name:literal) => {
        enum $type {}

        impl Activity for $type {
            const NAME: &'static str = $name;
            type Input = u32;
            type Output = u32;
            type Error = duroxide::Error;
        }

        impl ActivityFn for $type {
            fn requires() -> Vec<StateType> {
                vec![StateType::of::<Warehouse>()]
            }

            async fn run(ctx: ActivityContext, n: u32) -> duroxide::Result<u32> {
                Ok(n + ctx.state::<Warehouse>().map_or(0, |State(Warehouse(n))| n))
            }
        }
    };
}

activity!(Packs, "packs");
activity!(AlsoPacks, "packs");
activity!(Ships, "ships");

enum Sends {}

impl Orchestration for Sends {
    const NAME: &'static str = "sends";
    type Input = Option<String>;
    type Output = u32;
    type Error = duroxide::Error;
}

impl OrchestrationFn for Sends {
    async fn run(ctx: OrchestrationContext, tag: Option<String>) -> duroxide::Result<u32> {
        let call = ctx.call_activity::<u32>("packs", &1);
        let call = if let Some(tag) = tag { call.tag(tag) } else { call };
        call.await.map_err(|error| duroxide::Error::new(error.to_string()))
    }
}

enum AlsoSends {}

impl Orchestration for AlsoSends {
    const NAME: &'static str = "sends";
    type Input = ();
    type Output = ();
    type Error = duroxide::Error;
}

impl OrchestrationFn for AlsoSends {
    async fn run(_: OrchestrationContext, (): ()) -> duroxide::Result<()> {
        Ok(())
    }
}

async fn refused(registry: Registry) -> StartError {
    let start = Runtime::builder().registry(registry).in_memory().expect_crate("duroxide-nowhere").start().await;
    start.err().expect("a refused start")
}

#[tokio::test]
async fn start_reports_all_problems_with_their_places() {
    let (first, second) = (line!() + 2, line!() + 3);
    let registry = Registry::empty()
        .with_activity::<Packs>()
        .with_activity::<AlsoPacks>()
        .with_activity::<Ships>()
        .with_orchestration::<Sends>()
        .with_orchestration::<AlsoSends>();
    let error = refused(registry).await;
    let of = |code: ErrorCode| -> Vec<&str> {
        error.problems().iter().filter(|(c, _)| *c == code).map(|(_, text)| text.as_str()).collect()
    };
    let duplicates = of(ErrorCode::DuplicateRegistration);
    assert_eq!(duplicates.len(), 2, "{error}");
    let packs = duplicates.iter().find(|text| text.contains("packs")).unwrap();
    for place in [first, second] {
        assert!(packs.contains(&format!("registry.rs:{place}")), "{place} is missing: {packs}");
    }
    assert!(duplicates.iter().any(|text| text.contains("sends 1.0.0") || text.contains("`sends` 1.0.0")), "{error}");
    assert_eq!(of(ErrorCode::MissingState).len(), 3, "{error}");
    for text in of(ErrorCode::MissingState) {
        assert!(text.contains("Warehouse") && text.contains("registry.rs:"), "{text}");
    }
    assert_eq!(of(ErrorCode::CrateNotLinked).len(), 1, "{error}");
    for (code, text) in error.problems() {
        assert!(error.to_string().contains(code.as_str()) && error.to_string().contains(text.as_str()), "{error}");
    }
}

/// A contract. Its code is implemented by hand below.
#[activity]
async fn wraps(order: u32, paper: String) -> duroxide::Result<u32>;

#[orchestration(version = "2.0.0")]
async fn delivers(ctx: OrchestrationContext, order: u32) -> duroxide::Result<()>;

/// The code of a contract with different parameters: `0` none, `1` other names, `2` the same names in another order.
struct Wraps<const PARAMETERS: usize>;

impl<const PARAMETERS: usize> Activity for Wraps<PARAMETERS> {
    const NAME: &'static str = "wraps";
    const PARAMETERS: Option<&'static [&'static str]> =
        Some([[].as_slice(), &["order", "ribbon"], &["paper", "order"]][PARAMETERS]);
    type Input = serde_json::Value;
    type Output = u32;
    type Error = duroxide::Error;
}

impl<const PARAMETERS: usize> ActivityFn for Wraps<PARAMETERS> {
    async fn run(_: ActivityContext, _: serde_json::Value) -> duroxide::Result<u32> {
        Ok(1)
    }
}

struct Delivers<const TWO: bool>;

impl<const TWO: bool> Orchestration for Delivers<TWO> {
    const NAME: &'static str = "delivers";
    const VERSION: &'static str = if TWO { "2.0.0" } else { "1.0.0" };
    const PARAMETERS: Option<&'static [&'static str]> = Some(&["order", "address"]);
    type Input = serde_json::Value;
    type Output = ();
    type Error = duroxide::Error;
}

impl<const TWO: bool> OrchestrationFn for Delivers<TWO> {
    async fn run(_: OrchestrationContext, _: serde_json::Value) -> duroxide::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn contract_and_code_with_different_parameters_refuse_the_start() {
    let start = |registry: Registry| Runtime::builder().registry(registry).in_memory().start();
    let code = line!() + 1;
    let names = Registry::empty().with_activity::<Wraps<1>>();
    let error = start(names).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::ContractMismatch, "{error}");
    let [(_, problem)] = error.problems() else { panic!("{error}") };
    for part in ["activity `wraps`", "(order, paper)", "(order, ribbon)", &format!("registry.rs:{code}")] {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    assert_eq!(problem.matches("registry.rs:").count(), 2, "both places: {problem}");

    let number = Registry::empty().with_activity::<Wraps<0>>().with_orchestration::<Delivers<true>>();
    let error = start(number).await.err().unwrap();
    let codes: Vec<_> = error.problems().iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [ErrorCode::ContractMismatch; 2], "{error}");
    assert!(error.to_string().contains("takes (order), its code") && error.to_string().contains("takes ()"), "{error}");

    // Parameters are keyed by name, so their order may differ; and a contract of another version is not compared.
    let fits = Registry::empty().with_activity::<Wraps<2>>().with_orchestration::<Delivers<false>>();
    start(fits).await.unwrap().shutdown().await.unwrap();
    assert!(Registry::discover().entries().all(|entry| entry.name() != "wraps"), "a contract cannot be run");
}

#[activity(timeout = "30s", retry(max_attempts = 5))]
async fn labels(order: u32) -> duroxide::Result<u32>;

#[orchestration]
async fn collects(ctx: OrchestrationContext, order: u32) -> duroxide::Result<()>;

/// The code of a contract, with options: `0` those of the contract, `1` a condition alone, `2` others.
struct Labels<const OPTIONS: usize>;

impl<const OPTIONS: usize> Activity for Labels<OPTIONS> {
    const NAME: &'static str = "labels";
    const PARAMETERS: Option<&'static [&'static str]> = Some(&["order"]);
    type Input = u32;
    type Output = u32;
    type Error = duroxide::Error;

    fn options() -> ActivityOptions {
        match OPTIONS {
            0 => labels::options(),
            1 => ActivityOptions::new().retry(RetryPolicy::new()),
            _ => {
                let retry = RetryPolicy::new().max_attempts(9);
                ActivityOptions::new().schedule_to_close(days(1)).retry(retry).start_to_close(seconds(30))
            }
        }
    }
}

impl<const OPTIONS: usize> ActivityFn for Labels<OPTIONS> {
    async fn run(_: ActivityContext, order: u32) -> duroxide::Result<u32> {
        Ok(order)
    }
}

/// Newer than its contract, which a start would run.
struct Collects;

impl Orchestration for Collects {
    const NAME: &'static str = "collects";
    const VERSION: &'static str = "2.0.0";
    const PARAMETERS: Option<&'static [&'static str]> = Some(&["order", "address"]);
    type Input = serde_json::Value;
    type Output = ();
    type Error = duroxide::Error;
}

impl OrchestrationFn for Collects {
    async fn run(_: OrchestrationContext, _: serde_json::Value) -> duroxide::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn options_at_the_code_of_a_contract_refuse_the_start() {
    let start = |registry: Registry| Runtime::builder().registry(registry).in_memory().start();
    let error = start(Registry::empty().with_activity::<Labels<2>>()).await.err().unwrap();
    let [(code, problem)] = error.problems() else { panic!("{error}") };
    assert_eq!(*code, ErrorCode::ContractMismatch);
    for part in ["activity `labels`", "declares `schedule_to_close` and `retry`, but", "the options of the contract"] {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    assert_eq!(problem.matches("registry.rs:").count(), 2, "both places: {problem}");
    start(Registry::empty().with_activity::<Labels<0>>()).await.unwrap().shutdown().await.unwrap();
    start(Registry::empty().with_activity::<Labels<1>>()).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn contract_is_compared_with_newer_code() {
    let registry = Registry::empty().with_orchestration::<Collects>();
    let error = Runtime::builder().registry(registry).in_memory().start().await.err().unwrap();
    let [(code, problem)] = error.problems() else { panic!("{error}") };
    assert_eq!(*code, ErrorCode::ContractMismatch);
    assert!(problem.contains("`collects` 2.0.0") && problem.contains("(order, address)"), "{problem}");
}

#[activity]
async fn waits_in_line(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[activity]
fn blocks_in_line(n: u32) -> duroxide::Result<u32> {
    Ok(n)
}

#[orchestration]
async fn queues(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
    let n = waits_in_line::call(&ctx, n).await?;
    Ok(blocks_in_line::call(&ctx, n).await?)
}

#[tokio::test]
async fn annotated_functions_are_added_one_by_one_with_their_places() {
    let registry = Registry::empty().with::<queues>().with::<blocks_in_line>().with::<waits_in_line>();
    let names: Vec<_> = registry.entries().map(|entry| entry.name()).collect();
    assert_eq!(names, ["blocks_in_line", "waits_in_line", "queues"]);
    assert!(registry.entries().all(|entry| entry.place().module.ends_with("registry")), "{registry:?}");
    let with_all = Registry::discover().with::<queues>().entries().filter(|entry| entry.name() == "queues").count();
    assert_eq!(with_all, 1, "a discovered and added function is registered once");

    let runtime = Runtime::builder().in_memory().registry(registry).start().await.unwrap();
    let handle = queues::start(&runtime.client(), "queues", 7).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn runtime_without_a_provider_is_refused() {
    let error = Runtime::builder().registry(Registry::empty()).start().await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::NotConfigured);
    assert!(error.to_string().contains(".sqlite("), "{error}");
}

#[test]
fn start_outside_of_tokio_is_refused() {
    let mut start = Box::pin(Runtime::builder().registry(Registry::empty()).in_memory().start());
    let Poll::Ready(Err(error)) = start.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the start is not refused at once")
    };
    assert_eq!(error.code(), ErrorCode::NotConfigured);
    assert!(error.to_string().contains("tokio::main"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn start_on_the_paused_clock_of_tokio_is_refused() {
    let runtime = || Runtime::builder().registry(Registry::empty()).in_memory();
    let error = runtime().start().await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::NotConfigured);
    assert!(error.to_string().contains("TestRuntime"), "{error}");
    // A virtual clock does not follow that of tokio.
    runtime().clock(VirtualClock::new()).start().await.unwrap().shutdown().await.unwrap();
}

#[test]
fn start_without_a_time_driver_is_refused() {
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let start = Runtime::builder().registry(Registry::empty()).in_memory().start();
    let error = tokio.block_on(start).err().unwrap();
    assert_eq!(error.code(), ErrorCode::NotConfigured);
    assert!(error.to_string().contains("enable_time"), "{error}");
}

#[tokio::test]
async fn option_that_would_stop_all_work_is_refused() {
    let options = RuntimeOptions::new;
    let cases = [
        ("max_activities", options().max_activities(0)),
        ("max_blocking_activities", options().max_blocking_activities(0)),
        ("turn_threads", options().turn_threads(0)),
        ("lease_time", options().lease_time(Duration::ZERO)),
        ("turn_warning", options().turn_warning(Duration::from_micros(999))),
        ("limits.payload", options().limits(Limits::default().payload(0))),
        ("limits.history", options().limits(Limits::default().history(0))),
    ];
    for (option, options) in cases {
        let runtime = Runtime::builder().registry(Registry::empty()).in_memory().options(options);
        let error = runtime.start().await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::NotConfigured);
        assert!(error.to_string().contains(&format!("RuntimeOptions::{option}`")), "{error}");
    }
}

async fn node(provider: &MemoryProvider, registry: Registry, tags: &[&str]) -> Runtime {
    let builder = Runtime::builder().registry(registry).state(Warehouse(10)).provider(signalling(provider.clone()));
    builder.tags(tags.iter().copied()).start().await.unwrap()
}

/// Waits until the status shows unclaimed work, and returns its description.
async fn unclaimed<O>(handle: &Handle<O>) -> String {
    let unclaimed = async || handle.status().await.unwrap().unclaimed;
    until_stored(async || unclaimed().await.is_some()).await;
    unclaimed().await.unwrap().what
}

#[tokio::test]
async fn unclaimed_work_is_shown_until_a_node_claims_it() {
    let provider = MemoryProvider::new();
    let orchestrations = Registry::empty().with_orchestration::<Sends>();
    let first = node(&provider, orchestrations, &[]).await;
    let client = first.client();
    let plain = client.start("sends", "plain", &None::<String>).await.unwrap();
    assert_eq!(unclaimed(&plain).await, "activity packs");
    let tagged = client.start("sends", "tagged", &Some("north")).await.unwrap();
    assert_eq!(unclaimed(&tagged).await, "activity packs with tag north");
    let unknown = client.start("receives", "unknown", &()).await.unwrap();
    assert_eq!(unclaimed(&unknown).await, "orchestration receives");

    let activities = || Registry::empty().with_activity::<Packs>();
    let second = node(&provider, activities(), &["south"]).await;
    assert_eq!(plain.result_as::<u32, duroxide::Error>().await.unwrap(), 11);
    assert_eq!(unclaimed(&tagged).await, "activity packs with tag north");
    let third = node(&provider, activities(), &["north", "west"]).await;
    assert_eq!(tagged.result_as::<u32, duroxide::Error>().await.unwrap(), 11);
    assert_eq!(unclaimed(&unknown).await, "orchestration receives");
    for runtime in [first, second, third] {
        runtime.shutdown().await.unwrap();
    }
}

mod same_name {
    use duroxide::prelude::*;

    /// An activity with the name of the orchestration that calls it.
    #[activity(name = "same_name")]
    pub(super) async fn step(n: u32) -> duroxide::Result<u32> {
        Ok(n)
    }

    #[orchestration(name = "same_name")]
    pub(super) async fn flow(ctx: OrchestrationContext, n: u32) -> duroxide::Result<u32> {
        Ok(step::call(&ctx, n).await?)
    }
}

#[tokio::test]
async fn mock_of_an_activity_keeps_the_orchestration_of_that_name() {
    let test = crate::builder().mock::<same_name::step>(|n| Ok(n + 100)).start().await.unwrap();
    let handle = same_name::flow::start(&test.client(), "flow", 1).await.unwrap();
    let result = timeout(Duration::from_secs(10), handle.result()).await;
    assert_eq!(result.expect("the orchestration is registered").unwrap(), 101);
    test.shutdown().await.unwrap();
}
