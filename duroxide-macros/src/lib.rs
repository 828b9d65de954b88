//! The attribute macros of `duroxide`, which re-exports them. Use them from there.
//!
//! Each goes the same way: the arguments are read (`args`), the item is parsed (`model`), what cannot work is noted with
//! its remedy (`check`, `determinism`), and the rest is written (`expand`). All mistakes are noted before anything is
//! given up, and a function that is wrong still leaves a type that its callers compile with (`fallback`).

use proc_macro::TokenStream;

mod args;
mod check;
mod determinism;
mod errors;
mod expand;
mod fallback;
mod literal;
mod model;

/// Makes a function an activity: work that is done at least once, and whose outcome is recorded once.
///
/// ```text
/// /// Charges the card of an order.
/// #[activity(timeout = "30s", retry(max_attempts = 5, if = ChargeError::is_transient))]
/// pub async fn charge_card(State(gateway): State<Gateway>, order: Order) -> Result<Receipt, ChargeError> {
///     gateway.charge(&order.card, order.cents).await
/// }
/// ```
///
/// The function stays a function: a unit test calls it as it is. What is durable about it hangs on a type of the same
/// name, an empty enum with the visibility and the documentation of the function:
///
/// | item | what it is |
/// | --- | --- |
/// | `charge_card::call(&ctx, order)` | calls the activity from an orchestration; a future that takes options first |
/// | `charge_card::NAME` | the recorded name |
/// | `impl Activity for charge_card` | the contract: name, types, options |
/// | `impl ActivityFn for charge_card` | the code; `BlockingActivityFn` for a plain `fn` |
///
/// `use shop::charge_card;` brings both. The registry finds the function wherever its crate is linked.
///
/// # The function
///
/// - `async fn`, which runs on the tokio runtime in which the `Runtime` was started (up to its first wait perhaps on a
///   thread of ours, within the context of that runtime), or a plain `fn`, which runs on the pool for blocking work.
/// - It may take `ctx: ActivityContext`, first and by value, under any name.
/// - It may take `State<T>` anywhere after that: what `Runtime::builder().state(..)` was given. `T` is
///   `Clone + Send + Sync`. A state that is missing stops the start of the runtime. (The macro knows it by that name: a
///   generic type of yours that is called `State` needs another one here.)
/// - Everything else is an input, at most eight, each owned and `Serialize + DeserializeOwned + Send`. None is stored as
///   `null`, one as its own JSON, several as an object keyed by parameter name, without leading underscores. A single input
///   may be taken apart in the signature, as in `(a, b): (u8, u8)`; several each have a name.
/// - It returns `Result<T, E>`, or an alias that ends in `Result` and has type arguments, such as `duroxide::Result<T>`.
///   `T` and `E` are `Serialize + DeserializeOwned + Send`.
/// - It is free-standing: no `self`, no generics, no `unsafe`, `extern` or `const`.
/// - A type that stands in its signature is at least as visible as the function.
///
/// # Arguments
///
/// | key | what it sets | default |
/// | --- | --- | --- |
/// | `name = "charge-card"` | the recorded name: 1 to 128 bytes, no control characters | the name of the function |
/// | `timeout = "30s"` | how long one attempt may take, from its start | no limit |
/// | `schedule_to_close = "10m"` | how long all may take, from the call | no limit |
/// | `retry(..)` | when a failed attempt is made again, see below | one attempt |
/// | `handle = ChargeCard` | the name of the type, when another one has the name of the function | the name of the function |
/// | `crate = engine` | where `duroxide` is found, when it was renamed or re-exported | `::duroxide` |
///
/// In `retry(..)`:
///
/// | key | what it sets | default |
/// | --- | --- | --- |
/// | `max_attempts = 5` | attempts in all, the first included | without end |
/// | `initial_interval = "200ms"` | the first pause | `1s` |
/// | `max_interval = "10s"` | the longest pause | `60s` |
/// | `backoff = 2.0` | what each pause is multiplied with to give the next, at least 1 | `2.0` |
/// | `if = ChargeError::is_transient` | which errors are retried: a `fn(&E) -> bool`, or a closure that captures nothing | all |
///
/// Durations are whole numbers with a unit, `us`, `ms`, `s`, `m`, `h` or `d`, also in a row: `"1h 30m"`. They are checked
/// while compiling.
///
/// # A contract
///
/// Without a body, the attribute declares what callers link, while another binary has the code:
///
/// ```text
/// #[activity]
/// pub async fn ship(order: Order) -> Result<Label, ShipError>;
/// ```
///
/// There is no function then, and no entry in the registry. A contract lists inputs only: no context, no `State<T>`, no
/// `retry(if = ..)`.
#[proc_macro_attribute]
pub fn activity(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::activity(args.into(), item.into()).into()
}

/// Makes an async function an orchestration: it coordinates, and is replayed from its history.
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
/// The function stays a function. The type of the same name has:
///
/// | item | what it is |
/// | --- | --- |
/// | `checkout::start(&client, id, order)` | starts an instance; takes options, then `.await` |
/// | `checkout::handle(&client, id)` | the typed handle of an instance |
/// | `checkout::call(&ctx, order)` | runs it as a child of another orchestration |
/// | `checkout::continue_as_new(&ctx, order)` | ends this execution and begins the next with a fresh history |
/// | `checkout::NAME`, `checkout::VERSION` | what is recorded |
/// | `impl Orchestration`, `impl OrchestrationFn` | the contract and the code |
///
/// # The function
///
/// It is an `async fn` that takes `ctx: OrchestrationContext` first and by value. For its inputs, its `Result`, and what
/// it may not be, the same holds as for `#[activity]`; it takes no `State<T>`. Without a body it is a contract: callers link
/// the types, another binary has the code.
///
/// # Arguments
///
/// | key | what it sets | default |
/// | --- | --- | --- |
/// | `name = "checkout"` | the recorded name: 1 to 128 bytes, no control characters | the name of the function |
/// | `version = "1.2.0"` | the semantic version of this code | `1.0.0` |
/// | `allow = "reason"` | turns the check below off for this body | the check is on |
/// | `handle = Checkout` | the name of the type, when another one has the name of the function | the name of the function |
/// | `crate = engine` | where `duroxide` is found, when it was renamed or re-exported | `::duroxide` |
///
/// # Determinism is checked
///
/// On replay the body must decide what it decided before. So it is read for what cannot: clocks (`Instant::now`,
/// `SystemTime::now`, `Utc::now`), timers (`tokio::time`), tasks and threads (`tokio::spawn`, `tokio::task`, `std::thread`),
/// randomness (`rand`, `fastrand`, `Uuid::new_v4`), files, environment, processes and sockets, `tokio::select!` without
/// `biased;`, and `futures::select!`. Each is an error at its path that names what to use instead.
///
/// What is harmless is marked, in sight of the reader; the mark reaches over one statement, expression or block:
///
/// ```text
/// #[allow_nondeterminism]
/// let started = Instant::now();
/// ```
///
/// The check reads tokens, not types. It judges paths of two segments or more, with the `use` items of the body applied
/// (renames and groups too), also inside macro invocations; a bare name only when a `use` in the body explains it. It does
/// not see:
///
/// - names that were imported outside of the body (`use tokio::time::sleep;` above the function, then `sleep(..)`), glob
///   imports, type aliases, and generic qualifications (`<Instant>::now()`),
/// - what a function that the body calls does,
/// - methods (`socket.read(..)`), the order of a `HashMap`, and statics.
///
/// These are found at run time: a replay that differs from history suspends the instance and shows both sides. Paths that
/// begin with `crate`, `self` or `super` are your own and not judged; a module of yours that has the name of a known crate
/// is taken for that crate.
#[proc_macro_attribute]
pub fn orchestration(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::orchestration(args.into(), item.into()).into()
}

/// Makes a struct or enum an event: its name and its payload in one place.
///
/// ```text
/// #[event]
/// struct Approval { by: String }
///
/// let approval = ctx.event::<Approval>().await;           // in an orchestration
/// handle.raise(Approval { by: "ops".into() }).await?;     // outside
/// ```
///
/// It implements `Event`, and derives serde's `Serialize` and `Deserialize` unless `#[derive(..)]` names them below
/// `#[event]`; one inside `cfg_attr` is not seen. Attributes of serde work as always. The type is `Send` and not generic.
///
/// | key | what it sets | default |
/// | --- | --- | --- |
/// | `name = "approval"` | the name of the event: 1 to 128 bytes, no control characters | the name of the type |
/// | `crate = engine` | where `duroxide` is found, when it was renamed or re-exported | `::duroxide` |
#[proc_macro_attribute]
pub fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::event(args.into(), item.into()).into()
}
