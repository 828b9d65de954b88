//! The changes to a body: the opt-out marks are removed, since the compiler does not know the attribute, and each bare
//! `select!` and `join!` gets a guard.
//!
//! The macro of a bare name may be that of tokio, imported above the function, which tokens do not show. So a branch
//! that is a `compile_error!` is put before the others: the macros of this library drop it, and those of other crates
//! expand it.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};

use crate::determinism::imports::Imports;
use crate::determinism::path::{Path, is_punct};
use crate::determinism::{OPT_OUT, is_biased, opt_out};

/// Returns the body without marks and with guards.
pub(crate) fn checked(body: &Group) -> Group {
    rewritten(body, None, Some(&Imports::default())).unwrap_or_else(|| body.clone())
}

/// Returns the body without marks.
pub(crate) fn without_marks(body: &Group) -> Group {
    rewritten(body, None, None).unwrap_or_else(|| body.clone())
}

/// Rewrites the tokens of a group, behind a guard if it needs one. Returns `None` if they stay as they are, so that the
/// group keeps its spans. `imports`: those of the surrounding blocks; `None` if no guards are wanted.
fn rewritten(group: &Group, guard: Option<TokenStream>, imports: Option<&Imports>) -> Option<Group> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let imports = imports.map(|outer| outer.with_items_in(&tokens));
    let mut changed = guard.is_some();
    let mut kept = guard.unwrap_or_default();
    let (mut at, mut end_of_marked) = (0, 0);
    while at < tokens.len() {
        if let Some(end) = opt_out::end(&tokens, at) {
            (end_of_marked, changed) = (end_of_marked.max(end), true);
            at += 2;
            continue;
        }
        let imports = imports.as_ref().filter(|_| at >= end_of_marked);
        let inner = match &tokens[at] {
            TokenTree::Group(inner) => {
                rewritten(inner, imports.and_then(|imports| guard_in(&tokens[..=at], imports)), imports)
            }
            _ => None,
        };
        changed |= inner.is_some();
        kept.extend([inner.map_or_else(|| tokens[at].clone(), TokenTree::Group)]);
        at += 1;
    }
    changed.then(|| {
        let mut rebuilt = Group::new(group.delimiter(), kept);
        rebuilt.set_span(group.span());
        rebuilt
    })
}

/// Returns the guard if the last of these tokens is the body of a bare `select!` or `join!`.
fn guard_in(tokens: &[TokenTree], imports: &Imports) -> Option<TokenStream> {
    let [before @ .., TokenTree::Ident(name), _bang, _body] = tokens else { return None };
    if is_punct(before.last(), ':') {
        return None;
    }
    let path = Path::at(tokens, before.len())?;
    let unbiased = path.macro_body().is_some_and(|body| !is_biased(body));
    let names = imports.resolve(&path.segments()).filter(|_| unbiased)?;
    if names.len() == 1 { guard(&names[0], name.span()) } else { None }
}

fn guard(name: &str, span: Span) -> Option<TokenStream> {
    let why = match name {
        "select" => "others pick among the ready branches at random",
        "join" => "others may poll their futures in changing order",
        _ => return None,
    };
    let message = format!(
        "this `{name}!` is not that of duroxide, and cannot be replayed: {why}. Import `duroxide::{name}` in place of the \
         other one.\n{OPT_OUT}"
    );
    let error = quote_spanned!(span=> ::core::compile_error!(#message));
    Some(if name == "select" { quote!(_ = #error => {},) } else { quote!(#error,) })
}
