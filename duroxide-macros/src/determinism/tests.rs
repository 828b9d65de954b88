//! Paths that are refused, paths that are accepted, and the end of an opt-out.

use proc_macro2::Group;
use quote::ToTokens;

use crate::determinism::{check, checked, without_marks};
use crate::errors::Errors;

fn body(code: &str) -> Group {
    syn::parse_str(&format!("{{ {code} }}")).expect("the test's code has balanced delimiters")
}

/// Returns the refused paths, as they are written.
fn refused(code: &str) -> Vec<String> {
    let mut errors = Errors::default();
    check(&body(code), &mut errors);
    let quoted = |message: String| message.split('`').nth(1).unwrap_or_default().to_owned();
    errors.messages().into_iter().map(quoted).collect()
}

#[track_caller]
fn refuses(code: &str, paths: &[&str]) {
    assert_eq!(refused(code), paths, "{code}");
}

#[test]
fn every_rule_finds_its_path() {
    for path in [
        "futures::executor::block_on",
        "tokio::task::yield_now",
        "tokio::time::sleep",
        "tokio::time::Instant::now",
        "tokio::spawn",
        "tokio::task::spawn_blocking",
        "tokio::task::JoinSet::new",
        "task::spawn",
        "time::timeout",
        "std::thread::spawn",
        "thread::sleep",
        "std::time::Instant::now",
        "Instant::now",
        "SystemTime::now",
        "chrono::Utc::now",
        "Utc::now",
        "Local::now",
        "jiff::Timestamp::now",
        "rand::random",
        "rand::rngs::OsRng",
        "Uuid::new_v4",
        "uuid::Uuid::now_v7",
        "std::fs::read_to_string",
        "std::fs::File::open",
        "fs::write",
        "tokio::fs::read",
        "std::env::var",
        "env::args",
        "std::io::stdin",
        "std::process::Command::new",
        "std::net::TcpStream::connect",
        "TcpListener::bind",
        "tokio::net::TcpStream::connect",
        "reqwest::get",
        "::std::thread::yield_now",
    ] {
        refuses(&format!("let x = {path}(1).await;"), &[path.trim_start_matches(':')]);
    }
}

#[test]
fn error_names_the_remedy() {
    for (path, remedy) in [
        ("tokio::time::sleep(d)", "ctx.sleep(..)"),
        ("Instant::now()", "ctx.now()"),
        ("Uuid::new_v4()", "ctx.uuid()"),
        ("rand::random::<u8>()", "ctx.random()"),
        ("std::fs::read(p)", "activity"),
        ("tokio::spawn(f)", "join!"),
    ] {
        let mut errors = Errors::default();
        check(&body(path), &mut errors);
        let messages = errors.messages();
        assert!(messages.len() == 1 && messages[0].contains(remedy), "{path}: {messages:?}");
        assert!(messages[0].contains("#[allow_nondeterminism]"), "{path}: {messages:?}");
    }
}

#[test]
fn replayable_code_is_accepted() {
    for code in [
        "ctx.sleep(days(3)).await;",
        "let t = ctx.now(); let u = ctx.uuid(); let r: u8 = ctx.random();",
        "now(); run(x); x.sleep(1); self::sleep(1); crate::time::timeout(1); super::spawn(x);",
        "let timeout = order.timeout; if timeout > sleep { random = interval; }",
        "fn sleep(n: u8) {} { sleep(1); } let spawn = |x| x; spawn(1); let mut rng = move || 4; rng();",
        "use my::{sleep, random as dice}; sleep(1); dice(); use super::timeout; timeout(1);",
        "sleep!(1); #[allow_nondeterminism] sleep(1);",
        "mod rand { pub fn random() {} } rand::random();",
        "let d = std::time::Duration::from_secs(1);",
        "let d = tokio::time::Duration::from_secs(1);",
        "fn f(e: std::env::VarError) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }",
        "let v = std::env!(\"X\"); let w = env!(\"Y\");",
        "let rng = rand::rngs::StdRng::seed_from_u64(ctx.random());",
        "let ip = std::net::IpAddr::from_str(text);",
        "crate::clock::Instant::now(); self::rand::random(); super::Utc::now();",
        "my_clock::Instant::now();",
        "x.rand::<u8>(); y.thread; z.time.sleep(1);",
        "let s = \"tokio::time::sleep\"; // tokio::time::sleep\n",
        "tokio::select! { biased; _ = a => 1, _ = b => 2 }",
        "futures::select_biased! { _ = a => 1 } futures::join!(a, b); tokio::join!(biased; a, b);",
        "select! { _ = a => 1, _ = b => 2 }",
        "order::process::start(1); process::run();",
    ] {
        refuses(code, &[]);
    }
}

#[test]
fn bare_names_that_are_well_known_are_refused() {
    refuses("sleep(d).await; let random = random::<u8>();", &["sleep", "random"]);
    refuses(
        "let x = timeout(d, f); spawn(g()); thread_rng(); rng(); yield_now();",
        &["timeout", "spawn", "thread_rng", "rng", "yield_now"],
    );
    refuses("{ fn sleep() {} } sleep(d);", &["sleep"]);
    refuses("fn sleep() {} { use tokio::time::sleep; sleep(d); }", &["sleep"]);
    refuses("use my::*; random();", &["random"]);
}

#[test]
fn rotating_join_is_refused() {
    refuses("tokio::join!(a, b); tokio::try_join!(a, b)", &["tokio::join!", "tokio::try_join!"]);
    refuses("use tokio::join; join!(a, b)", &["join!"]);
}

#[test]
fn random_select_is_refused() {
    refuses("tokio::select! { _ = a => 1, _ = b => 2 }", &["tokio::select!"]);
    refuses("futures::select!(a => 1)", &["futures::select!"]);
    refuses("futures_util::select! { a => 1 }", &["futures_util::select!"]);
    refuses("use tokio::select; select! { _ = a => 1 }", &["select!"]);
}

#[test]
fn use_items_of_the_body_are_resolved() {
    refuses("use tokio::time; time::sleep_until(t);", &["time::sleep_until"]);
    refuses("use tokio::time as t; t::sleep(d);", &["t::sleep"]);
    refuses("use std::{env as e, thread::{self, Builder}}; e::var(x); thread::park();", &["e::var", "thread::park"]);
    refuses("use std::time::Instant as Clock; Clock::now();", &["Clock::now"]);
    refuses("use rand::random; random::<u8>();", &["random"]);
    refuses("use tokio::time::sleep as nap; nap(d); let nap = 1;", &["nap"]);
    refuses("use std as s; use s::thread as th; th::spawn(f);", &["th::spawn"]);
    refuses("thread::spawn(f); use my::thread;", &[]);
    refuses("use my::*; thread::spawn(f);", &["thread::spawn"]);
}

#[test]
fn use_item_is_resolved_only_within_its_block() {
    refuses("{ use my::Instant; Instant::now(); } Instant::now();", &["Instant::now"]);
    refuses("{ use rand::random as r; { r(); } } r();", &["r"]);
}

#[test]
fn macro_tokens_nested_items_and_half_typed_code_are_read() {
    refuses("tracing::info!(at = ?Instant::now(), \"x\");", &["Instant::now"]);
    refuses("let v = vec![rand::random(), 1];", &["rand::random"]);
    refuses("let f = || async { tokio::spawn(g()).await };", &["tokio::spawn"]);
    refuses("for i in 0..rand::random() {}", &["rand::random"]);
    refuses("order. ; let x = ; Instant::now()", &["Instant::now"]);
}

#[test]
fn all_mistakes_are_found() {
    refuses("Instant::now(); Utc::now(); Instant::now()", &["Instant::now", "Utc::now", "Instant::now"]);
}

#[test]
fn opt_out_covers_the_item_that_it_marks() {
    for code in [
        "#[allow_nondeterminism] let t = Instant::now();",
        "#[allow_nondeterminism] let m: HashMap<u8, u8> = f(rand::random());",
        "#[allow_nondeterminism] #[rustfmt::skip] let t = Instant::now();",
        "#[allow_nondeterminism] { Instant::now(); Utc::now() }",
        "#[allow_nondeterminism] if a { Instant::now(); } else { Utc::now(); }",
        "#[allow_nondeterminism] async { Instant::now() }.await;",
        "#[allow_nondeterminism] f::<u8, u8>(Instant::now());",
        "f(1, #[allow_nondeterminism] Instant::now())",
        "match x { 1 => #[allow_nondeterminism] Instant::now(), _ => y }",
    ] {
        refuses(code, &[]);
    }
    for code in [
        "#[allow_nondeterminism] let t = 1; Instant::now();",
        "#[allow_nondeterminism] { 1 } Instant::now();",
        "#[allow_nondeterminism] if a { 1 } else { 2 } Instant::now();",
        "#[allow_nondeterminism] for x in y { } Instant::now();",
        "f(#[allow_nondeterminism] 1, Instant::now())",
        "#[allow(unused)] Instant::now();",
    ] {
        refuses(code, &["Instant::now"]);
    }
}

/// Returns the number of guards in a checked body.
fn guards(code: &str) -> usize {
    checked(&body(code)).into_token_stream().to_string().matches("compile_error").count()
}

#[test]
fn bare_macros_are_guarded() {
    assert_eq!(guards("select! { _ = a => 1 } loop { join!(a, b) } f(|| select!(_ = a => join!(b)))"), 4);
    for code in [
        "duroxide::select! { _ = a => 1 } tokio::select! { biased; _ = a => 1 } futures::join!(a)",
        "select! { biased; _ = a => 1 }",
        "use my::select; select! { _ = a => 1 }",
        "macro_rules! join { () => {} } join!();",
        "#[allow_nondeterminism] select! { _ = a => 1 } #[allow_nondeterminism] { join!(a) }",
        "let select = join; select != join;",
    ] {
        assert_eq!(guards(code), 0, "{code}");
    }
    assert_eq!(guards("#[allow_nondeterminism] join!(a); join!(b)"), 1);
}

#[test]
fn only_the_opt_out_marks_are_removed() {
    let code = "#[allow_nondeterminism] let a = f(#[allow_nondeterminism] b); #[allow(unused)] let c = [1];";
    let rest = "let a = f(b); #[allow(unused)] let c = [1];";
    let stripped = without_marks(&body(code)).into_token_stream().to_string();
    assert_eq!(stripped, body(rest).into_token_stream().to_string());
}
