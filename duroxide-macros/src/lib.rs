//! The attribute macros of `duroxide`.
use proc_macro::TokenStream;

mod args;
mod check;
mod determinism;
mod errors;
mod expand;
mod fallback;
mod literal;
mod model;

/// An activity.
#[proc_macro_attribute]
pub fn activity(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::activity(args.into(), item.into()).into()
}

/// An orchestration.
#[proc_macro_attribute]
pub fn orchestration(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::orchestration(args.into(), item.into()).into()
}

/// An event.
#[proc_macro_attribute]
pub fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::event(args.into(), item.into()).into()
}
