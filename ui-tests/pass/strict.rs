//! The expansions cause no warning under the strictest lints. It is also an example of this package, so that clippy sees it.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![warn(unreachable_pub, unused, nonstandard_style, clippy::all, clippy::pedantic)]

use duroxide::prelude::*;

/// Work.
pub mod work {
    use duroxide::prelude::*;

    /// A gateway.
    #[derive(Debug, Clone)]
    pub struct Gateway;

    /// Greets.
    ///
    /// # Errors
    /// Never.
    #[activity]
    pub async fn greet(name: String, loud: bool) -> Result<String, String> {
        Ok(if loud { name.to_uppercase() } else { name })
    }

    /// Charges.
    ///
    /// # Errors
    /// Never.
    #[activity(timeout = "30s", schedule_to_close = "5m", retry(max_attempts = 5, backoff = 1.5, if = String::is_empty))]
    pub async fn charge(ctx: ActivityContext, State(gateway): State<Gateway>, cents: u64) -> Result<u64, String> {
        drop((ctx, gateway));
        Ok(cents)
    }

    /// Ships.
    ///
    /// # Errors
    /// Never.
    #[activity]
    pub async fn ship(order: u32, express: bool) -> Result<String, String>;

    /// Takes as many inputs as there may be.
    ///
    /// # Errors
    /// Never.
    #[activity(handle = Eight)]
    #[expect(clippy::many_single_char_names, reason = "they are eight numbers")]
    pub fn eight(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> Result<u8, String> {
        Ok(a + b + c + d + e + f + g + h)
    }

    /// Is not used any longer.
    ///
    /// # Errors
    /// Never.
    #[activity]
    #[deprecated(note = "use `greet`")]
    pub async fn old(name: String, loud: bool) -> Result<String, String> {
        greet(name, loud).await
    }

    #[activity]
    #[rustfmt::skip]
    pub(crate) fn count(text: String) -> Result<usize, String> { Ok(text.len()) }

    #[activity]
    pub(super) async fn unused() -> Result<(), String>;
}

/// Done.
#[event]
#[derive(Debug)]
pub struct Done {
    /// When.
    pub at: u64,
}

/// Is not sent any longer.
#[event]
#[derive(Debug)]
#[deprecated]
pub struct OldDone {
    /// When.
    pub at: u64,
}

/// Greets all.
///
/// # Errors
/// Never.
#[orchestration(version = "1.2.0")]
pub async fn greet_all(ctx: OrchestrationContext, names: Vec<String>, loud: bool) -> duroxide::Result<usize> {
    let Done { at } = ctx.event().await;
    let text = work::greet::call(&ctx, format!("{at}{names:?}"), loud).await?;
    if loud {
        return greet_all::continue_as_new(&ctx, names, false).await;
    }
    Ok(work::count::call(&ctx, text).await?)
}

/// Is not used any longer.
///
/// # Errors
/// Never.
#[orchestration]
#[deprecated]
pub async fn old_greet_all(ctx: OrchestrationContext, names: Vec<String>) -> duroxide::Result<usize> {
    Ok(greet_all::call(&ctx, names, true).await?)
}

fn main() {}
