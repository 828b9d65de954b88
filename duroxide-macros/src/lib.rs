//! The attribute macros of `duroxide`, which re-exports them. Use them from there.
//!
//! Each macro reads its arguments (`args`), parses the item (`model`), reports all mistakes with their remedies
//! (`check`, `determinism`), and emits the expansion (`expand`). A wrong function still expands to a type that its
//! callers compile with (`fallback`), so that one mistake gives one message.

use proc_macro::TokenStream;

mod args;
mod check;
mod determinism;
mod errors;
mod expand;
mod fallback;
mod literal;
mod model;

/// Turns a function into an activity: work that is done at least once, and whose outcome is recorded once.
///
/// ```text
/// /// Charges the card of an order.
/// #[activity(timeout = "30s", retry(max_attempts = 5, if = ChargeError::is_transient))]
/// pub async fn charge_card(State(gateway): State<Gateway>, order: Order) -> Result<Receipt, ChargeError> {
///     gateway.charge(&order.card, order.cents).await
/// }
/// ```
///
/// The function can still be called directly, in a unit test for example. Its durable side is a type of the same name,
/// an empty enum with the visibility of the function:
///
/// | item | meaning |
/// | --- | --- |
/// | `charge_card::call(&ctx, order)` | calls the activity from an orchestration; returns a future with options |
/// | `charge_card::NAME` | the recorded name |
/// | `impl Activity for charge_card` | the contract: name, types, options |
/// | `impl ActivityFn for charge_card` | the code; `BlockingActivityFn` for a plain `fn` |
///
/// `use shop::charge_card;` imports both. The registry finds the function in every program that links its crate.
///
/// The documentation of your crate shows the function, with a section that is added to yours: the call, the retries and
/// the time limits. The type is hidden there. `#[deprecated]` warns of direct calls and of `call`, and `#[cfg]`,
/// `#[allow(..)]` and `#[expect(..)]` also apply to the generated code.
///
/// # The function
///
/// - It is an `async fn`, which runs on the tokio runtime in which the `Runtime` was started (its first poll may run on
///   a thread of this library, within the context of that runtime), or a plain `fn`, which runs on the pool for
///   blocking work.
/// - It may take `ctx: ActivityContext`, first and by value. Either the type or the parameter has this name: an alias of
///   the type is recognised if the parameter is called `ctx`, so an input that comes first has another name.
/// - It may take `State<T>` anywhere after that: the value of type `T` that was passed to
///   `Runtime::builder().state(..)`. `T` is `Clone + Send + Sync`. A missing state stops the start of the runtime. (The
///   macro recognises the name `State`: a generic type of yours with that name must be renamed on import.)
/// - All other parameters are inputs, at most eight, each owned and `Serialize + DeserializeOwned + Send`. No input is
///   stored as `null`, one as its own JSON, several as an object keyed by parameter name, without leading underscores; a
///   key that is absent when the object is read counts as `null`.
///   A single input may be destructured in the signature, as in `(a, b): (u8, u8)`; each of several must have a name.
/// - It returns `Result<T, E>`, or an alias that ends in `Result` and has type arguments, such as
///   `duroxide::Result<T>`. `T` and `E` are `Serialize + DeserializeOwned + Send`.
/// - It is free-standing: no `self`, no generics, no `unsafe`, `extern` or `const`.
/// - The types in its signature are at least as visible as the function.
///
/// # Arguments
///
/// | key | meaning | default |
/// | --- | --- | --- |
/// | `name = "charge-card"` | the recorded name: 1 to 128 bytes, no control characters | the name of the function |
/// | `timeout = "30s"` | the time limit of one attempt, from its start | no limit |
/// | `schedule_to_close = "10m"` | the time limit of all attempts together, from the call | no limit |
/// | `retry(..)` | the retry policy, see below | one attempt |
/// | `transactional` | the code and the outcome commit together; the first parameter is the transaction, `tx: &mut Tx<'_>` | no transaction |
/// | `handle = ChargeCard` | the name of the type, if the name of the function is in use | the name of the function |
/// | `crate = engine` | the path of `duroxide`, if it is renamed or re-exported | `::duroxide` |
///
/// In `retry(..)`:
///
/// | key | meaning | default |
/// | --- | --- | --- |
/// | `max_attempts = 5` | the number of attempts, including the first | unlimited |
/// | `initial_interval = "200ms"` | the first pause | `1s`, or `max_interval` if that is shorter |
/// | `max_interval = "10s"` | the longest pause | `60s`, or `initial_interval` if that is longer |
/// | `backoff = 2.0` | the factor from each pause to the next, at least 1 | `2.0` |
/// | `if = ChargeError::is_transient` | the errors to retry: a `fn(&E) -> bool`, or a closure that captures nothing | all |
///
/// A duration is a whole number with a unit, `us`, `ms`, `s`, `m`, `h` or `d`, or several of them: `"1h 30m"`.
/// Durations are checked at compile time, and so is that no argument contradicts another or leaves it without effect: a
/// `max_interval` below the `initial_interval`, a `schedule_to_close` below the `timeout` or the first pause, or a
/// `backoff` after a first pause that is the longest one, too.
///
/// # A contract
///
/// Without a body, the attribute declares the types for callers, while another binary has the code:
///
/// ```text
/// #[activity]
/// pub async fn ship(order: Order) -> Result<Label, ShipError>;
/// ```
///
/// A contract has no function, and no entry in the registry. It lists only inputs: no context, no `State<T>`, no
/// `retry(if = ..)`. Its callers schedule the activity with the options of the contract, so `timeout`,
/// `schedule_to_close` and the other keys of `retry` belong there. Attributes that need a body are refused.
#[proc_macro_attribute]
pub fn activity(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::activity(args.into(), item.into()).into()
}

/// Turns an async function into an orchestration: it coordinates, and is replayed from its history.
///
/// ```text
/// #[orchestration(version = "1.2.0")]
/// async fn checkout(ctx: OrchestrationContext, order: Order) -> Result<Receipt, CheckoutError> {
///     let receipt = charge_card::call(&ctx, order.clone()).await?;
///     ship::call(&ctx, order).tag("warehouse").await?;
///     Ok(receipt)
/// }
/// ```
///
/// The function can still be called directly. The type of the same name has:
///
/// | item | meaning |
/// | --- | --- |
/// | `checkout::start(&client, id, order)` | starts an instance; takes options, then `.await` |
/// | `checkout::handle(&client, id)` | the typed handle of an instance |
/// | `checkout::call(&ctx, order)` | runs it as a child of another orchestration |
/// | `checkout::continue_as_new(&ctx, order)` | ends this execution and begins the next with an empty history |
/// | `checkout::NAME`, `checkout::VERSION` | the recorded name and version |
/// | `impl Orchestration`, `impl OrchestrationFn` | the contract and the code |
///
/// # The function
///
/// It is an `async fn` that takes `ctx: OrchestrationContext` first and by value; an alias of the type is recognised if
/// the parameter is called `ctx`. Its inputs and its `Result` follow
/// the rules of `#[activity]`, as do the qualifiers that it must not have. It takes no `State<T>`. Without a body it is
/// a contract: callers link the types, another binary has the code.
///
/// # Arguments
///
/// | key | meaning | default |
/// | --- | --- | --- |
/// | `name = "checkout"` | the recorded name: 1 to 128 bytes, no control characters | the name of the function |
/// | `version = "1.2.0"` | the semantic version of this code | `1.0.0` |
/// | `allow = "reason"` | turns the check below off for this body | the check is on |
/// | `handle = Checkout` | the name of the type, if the name of the function is in use | the name of the function |
/// | `crate = engine` | the path of `duroxide`, if it is renamed or re-exported | `::duroxide` |
///
/// # Determinism is checked
///
/// On replay the body must repeat its decisions. So the macro refuses calls that give other results on replay: clocks
/// (`Instant::now`, `SystemTime::now`, `Utc::now`), timers (`tokio::time`), tasks and threads (`tokio::spawn`,
/// `tokio::task`, `std::thread`), randomness (`rand`, `fastrand`, `Uuid::new_v4`), files, environment, processes and
/// sockets, `tokio::select!` and `tokio::join!` without `biased;`, and `futures::select!`. The error is at the path, and
/// names the alternative.
///
/// A harmless use is marked. The mark covers one statement, expression or block:
///
/// ```text
/// #[allow_nondeterminism]
/// let started = Instant::now();
/// ```
///
/// The check reads tokens, not types. It judges paths of two segments or more, even inside macro invocations, and
/// applies the `use` items of the body (renames and groups too). It refuses a bare call if a `use` in the body imports
/// it from a place that cannot be replayed, and otherwise if its name is well known: `sleep`, `sleep_until`, `timeout`,
/// `timeout_at`, `interval`, `interval_at`, `spawn`, `spawn_blocking`, `spawn_local`, `block_in_place`, `block_on`,
/// `yield_now`, `random`, `random_bool`, `random_range`, `thread_rng` and `rng`. A function of yours with such a name is
/// called by its path, `self::timeout(..)`, or marked; one that the body defines or imports is not taken for another. A
/// bare `select!` or `join!` must be that of this library. The check does not see:
///
/// - other names that are imported outside of the body (`use std::time::Instant as Clock;` above the function), glob
///   imports of them, type aliases, and qualified paths (`<Instant>::now()`),
/// - the bodies of the functions that it calls,
/// - methods (`socket.read(..)`), the order of a `HashMap`, and statics.
///
/// If one of these changes the decisions of a replay, the instance is suspended, and its suspension shows both sides.
/// Paths that begin with `crate`, `self` or `super` are not judged. A module of yours with the name of a known crate is
/// mistaken for that crate.
#[proc_macro_attribute]
pub fn orchestration(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::orchestration(args.into(), item.into()).into()
}

/// Turns a struct or an enum into an event: its name and its payload in one place.
///
/// ```text
/// #[event]
/// struct Approval { by: String }
///
/// let approval = ctx.event::<Approval>().await;           // in an orchestration
/// handle.raise(Approval { by: "ops".into() }).await?;     // outside
/// ```
///
/// The macro implements `Event`, and derives serde's `Serialize` and `Deserialize` unless a `#[derive(..)]` below
/// `#[event]` names them. A derive of these two above `#[event]`, or inside `cfg_attr`, is not seen: then the compiler
/// reports two implementations, the second at `#[event]`, and the derive must be moved below. Attributes of serde work as always. The type must be
/// `Send` and not generic.
///
/// | key | meaning | default |
/// | --- | --- | --- |
/// | `name = "approval"` | the name of the event: 1 to 128 bytes, no control characters | the name of the type |
/// | `crate = engine` | the path of `duroxide`, if it is renamed or re-exported | `::duroxide` |
#[proc_macro_attribute]
pub fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::event(args.into(), item.into()).into()
}

/// The `Serialize` that `#[event]` derives.
#[doc(hidden)]
#[proc_macro_derive(EventSerialize, attributes(__private_path))]
pub fn event_serialize(item: TokenStream) -> TokenStream {
    expand::event_serialize(item.into()).into()
}

/// The `Deserialize` that `#[event]` derives.
#[doc(hidden)]
#[proc_macro_derive(EventDeserialize, attributes(__private_path))]
pub fn event_deserialize(item: TokenStream) -> TokenStream {
    expand::event_deserialize(item.into()).into()
}
