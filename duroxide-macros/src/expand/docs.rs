//! The section that is added to the documentation of a function: how it is called, its retries and its limits.
//!
//! The generated type is hidden, so that the documentation of a crate shows each function once, with its types as
//! written. A contract has no function, so there the type is shown.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use crate::args::{self, Retry};
use crate::expand::Expansion;
use crate::literal;
use crate::model::Kind;

impl Expansion<'_> {
    /// Returns the section, with these further lines.
    pub(crate) fn doc_section(&self, lines: impl IntoIterator<Item = String>) -> TokenStream {
        let title = match self.kind {
            Kind::Activity => " # Activity",
            Kind::Orchestration => " # Orchestration",
        };
        let calls = self.calls().into_iter().chain(self.recorded_name());
        let lines = calls.chain(lines).map(|line| format!(" - {line}"));
        quote!(#[doc = ""] #[doc = #title] #[doc = ""] #(#[doc = #lines])*)
    }

    fn calls(&self) -> Vec<String> {
        let handle = &self.identity.handle;
        let call = |method: &str, first: &[&str]| {
            let inputs = self.inputs.iter().map(|input| input.ident.to_string());
            let all: Vec<_> = first.iter().map(|name| (*name).to_owned()).chain(inputs).collect();
            format!("`{handle}::{method}({})`", all.join(", "))
        };
        match self.kind {
            Kind::Activity => vec![format!("{} calls it from an orchestration", call("call", &["&ctx"]))],
            Kind::Orchestration => vec![
                format!("{} starts an instance", call("start", &["&client", "id"])),
                format!("{} runs it as a child", call("call", &["&ctx"])),
            ],
        }
    }

    fn recorded_name(&self) -> Option<String> {
        let name = &self.identity.name;
        (*name != self.function.name()).then(|| format!("its recorded name is `{name}`"))
    }
}

/// Returns the lines about retries and limits.
pub(crate) fn policy(args: &args::Activity) -> Vec<String> {
    let retry = args.retry.as_ref().map(retries);
    let one = args.timeout.map(|limit| format!("an attempt is limited to {}", text(limit)));
    let all = args.schedule_to_close.map(|limit| format!("all attempts together are limited to {}", text(limit)));
    retry.into_iter().chain(one).chain(all).collect()
}

fn retries(retry: &Retry) -> String {
    let Retry { max_attempts, initial_interval, max_interval, backoff, condition } = retry;
    let mut line = match max_attempts {
        Some(1) => return "it is attempted once".to_owned(),
        Some(number) => format!("it is attempted up to {number} times"),
        None => "it is attempted again until it succeeds".to_owned(),
    };
    let mut add = |part: String| line.push_str(&part);
    if let Some(condition) = condition {
        add(format!(", if `{}` accepts the error", condition.to_token_stream().to_string().replace(" :: ", "::")));
    }
    if let Some(pause) = initial_interval {
        add(format!("; the first pause is {}", text(*pause)));
    }
    if let Some(pause) = max_interval {
        add(format!("; the longest pause is {}", text(*pause)));
    }
    if let Some(factor) = backoff {
        add(format!("; each pause is {factor} times the one before"));
    }
    line
}

fn text(duration: Duration) -> String {
    format!("`{}`", literal::duration_text(duration))
}
