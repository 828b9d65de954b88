//! Fuzzes the arguments of the attributes: any tokens are read, or refused with an error.

#![no_main]
#![allow(dead_code, unreachable_pub, reason = "a macro crate exports only macros, so its parser is compiled in here")]

use errors::Errors;
use proc_macro2::TokenStream;

#[path = "../../duroxide-macros/src/args/mod.rs"]
mod args;
#[path = "../../duroxide-macros/src/errors.rs"]
mod errors;
#[path = "../../duroxide-macros/src/literal.rs"]
mod literal;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(tokens) = text.parse::<TokenStream>() else { return };
    args::Activity::parse(tokens.clone(), &mut Errors::default());
    args::Orchestration::parse(tokens.clone(), &mut Errors::default());
    args::Common::parse_event(tokens, &mut Errors::default());
});
