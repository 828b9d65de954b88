//! Finds calls in the body of an orchestration that a replay cannot repeat.
//!
//! The check works on tokens, so that it covers macro invocations and half-typed code. For its limits, see the
//! documentation of `#[orchestration]`.

mod imports;
mod opt_out;
mod path;
mod rewrite;
mod rules;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use self::imports::Imports;
use self::path::Path;
pub(crate) use self::rewrite::{checked, without_marks};
use crate::errors::Errors;

const OPT_OUT: &str =
    "If it cannot change the decisions of the orchestration, mark the statement `#[allow_nondeterminism]`.";

/// Reports every path in the body that cannot be replayed.
pub(crate) fn check(body: &Group, errors: &mut Errors) {
    block(body.stream(), &Imports::default(), errors);
}

/// Returns the first opt-out mark in the body.
pub(crate) fn first_mark(body: &Group) -> Option<TokenStream> {
    opt_out::first(body.stream())
}

/// Judges the tokens of a block. Its `use` items apply to the whole block, even above them.
fn block(tokens: TokenStream, outer: &Imports, errors: &mut Errors) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let imports = outer.with_items_in(&tokens);
    let mut at = 0;
    while at < tokens.len() {
        at = step(&tokens, at, &imports, errors);
    }
}

/// Judges the path, block or item that begins at a token; returns the position behind it.
fn step(tokens: &[TokenTree], at: usize, imports: &Imports, errors: &mut Errors) -> usize {
    opt_out::check(tokens, at, errors);
    if let Some(end) = opt_out::end(tokens, at).or_else(|| imports::end_of_use(tokens, at)) {
        return end;
    }
    if let TokenTree::Group(group) = &tokens[at] {
        block(group.stream(), imports, errors);
        return at + 1;
    }
    let Some(path) = Path::at(tokens, at) else { return at + 1 };
    judge(&path, imports, errors);
    path.end
}

fn judge(path: &Path<'_>, imports: &Imports, errors: &mut Errors) {
    let written = path.segments();
    let Some(named) = imports.resolve(&written) else { return };
    // A bare name that is not called may be anything.
    if written.len() == 1 && !path.is_called() {
        return;
    }
    if let ([bare], None) = (named.as_slice(), path.macro_body()) {
        return judge_bare(path, bare, errors);
    }
    let reason = match path.macro_body() {
        Some(body) => rules::of_macro(&named, is_biased(body)),
        None => rules::of_path(&named).map(str::to_owned),
    };
    let Some(reason) = reason else { return };
    let bang = if path.macro_body().is_some() { "!" } else { "" };
    let (written, named) = (written.join("::") + bang, named.join("::") + bang);
    let full = if written == named { String::new() } else { format!(" (`{named}`)") };
    errors.at(path.tokens(), format!("`{written}`{full} cannot be replayed: {reason}\n{OPT_OUT}"));
}

/// Judges a called name that the body neither imports nor defines.
fn judge_bare(path: &Path<'_>, name: &str, errors: &mut Errors) {
    let Some((full, reason)) = rules::of_bare(name) else { return };
    let message = format!(
        "`{name}`, which may be `{full}`, cannot be replayed: {reason}\n\
         If it is a function of yours, write its path: `self::{name}(..)`. {OPT_OUT}"
    );
    errors.at(path.tokens(), message);
}

/// Returns true if a `select!` or `join!` begins with `biased;`.
fn is_biased(body: &Group) -> bool {
    debug_assert_ne!(body.delimiter(), Delimiter::None, "a macro has real delimiters");
    body.stream().into_iter().next().is_some_and(|token| token.to_string() == "biased")
}

#[cfg(test)]
mod tests;
