//! The expansions cause no warning under the strictest lints.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![warn(unreachable_pub, unused, nonstandard_style, clippy::pedantic)]

use duroxide::prelude::*;

/// Work.
pub mod work {
    use duroxide::prelude::*;

    /// Greets.
    ///
    /// # Errors
    /// Never.
    #[activity]
    pub async fn greet(name: String, loud: bool) -> Result<String, String> {
        Ok(if loud { name.to_uppercase() } else { name })
    }

    #[activity]
    pub(crate) fn count(text: String) -> Result<usize, String> {
        Ok(text.len())
    }

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

#[orchestration]
async fn greet_all(ctx: OrchestrationContext) -> duroxide::Result<usize> {
    let Done { at } = ctx.event().await;
    let text = work::greet::call(&ctx, at.to_string(), true).await?;
    Ok(work::count::call(&ctx, text).await?)
}

fn main() {}
