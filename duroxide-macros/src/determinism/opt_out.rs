//! `#[allow_nondeterminism]`: the code that a mark covers.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::determinism::path::{is_colons, is_punct};
use crate::errors::Errors;

const MARK: &str = "allow_nondeterminism";

/// The first keywords of statements that may end with a block instead of `;`.
const BLOCK_LIKE: &[&str] = &["if", "match", "for", "while", "loop", "unsafe", "async", "const", "fn", "mod", "impl"];

fn is_mark(tokens: &[TokenTree], at: usize) -> bool {
    match tokens.get(at..at + 2) {
        Some([hash, TokenTree::Group(group)]) if is_punct(Some(hash), '#') => {
            let first = group.stream().into_iter().next();
            group.delimiter() == Delimiter::Bracket && is_keyword(first.as_ref(), &[MARK])
        }
        _ => false,
    }
}

/// Reports a mark at this token that has arguments.
pub(super) fn check(tokens: &[TokenTree], at: usize, errors: &mut Errors) {
    if let Some(TokenTree::Group(group)) = tokens.get(at + 1).filter(|_| is_mark(tokens, at))
        && group.stream().to_string() != MARK
    {
        errors.at(
            group.stream(),
            "the mark has no arguments: write `#[allow_nondeterminism]`, and the reason in a comment",
        );
    }
}

/// Returns the first mark among these tokens and in their groups.
pub(super) fn first(tokens: TokenStream) -> Option<TokenStream> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    (0..tokens.len()).find_map(|at| match &tokens[at] {
        TokenTree::Group(group) => first(group.stream()),
        _ => is_mark(&tokens, at).then(|| tokens[at..at + 2].iter().cloned().collect()),
    })
}

/// Returns the end of the statement or expression that a mark at this token covers.
pub(crate) fn end(tokens: &[TokenTree], at: usize) -> Option<usize> {
    is_mark(tokens, at).then(|| end_of_marked(tokens, at + 2))
}

fn end_of_marked(tokens: &[TokenTree], start: usize) -> usize {
    let start = after_attributes(tokens, start);
    let is_let = is_keyword(tokens.get(start), &["let"]);
    let ends_with_block = is_block_like(tokens, start);
    let mut generics = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token {
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => return at + 1,
                ',' if !is_let && generics == 0 => return at + 1,
                '<' if generics > 0 || (at >= 2 && is_colons(tokens, at - 2)) => generics += 1,
                '>' if !is_punct(tokens.get(at.wrapping_sub(1)), '-') => generics = generics.saturating_sub(1),
                _ => {}
            },
            TokenTree::Group(group)
                if ends_with_block && group.delimiter() == Delimiter::Brace && !continues(tokens, at + 1) =>
            {
                return at + 1;
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Skips other attributes behind the mark.
fn after_attributes(tokens: &[TokenTree], mut at: usize) -> usize {
    while is_punct(tokens.get(at), '#') && matches!(tokens.get(at + 1), Some(TokenTree::Group(_))) {
        at += 2;
    }
    at
}

fn is_block_like(tokens: &[TokenTree], start: usize) -> bool {
    match tokens.get(start) {
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
        // A label.
        Some(TokenTree::Punct(punct)) => punct.as_char() == '\'',
        token => is_keyword(token, BLOCK_LIKE),
    }
}

/// Returns true if the expression continues after its block: `else`, `.await`, `?`.
fn continues(tokens: &[TokenTree], at: usize) -> bool {
    let next = tokens.get(at);
    is_keyword(next, &["else"]) || is_punct(next, '.') || is_punct(next, '?')
}

fn is_keyword(token: Option<&TokenTree>, keywords: &[&str]) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if keywords.iter().any(|keyword| ident == keyword))
}
