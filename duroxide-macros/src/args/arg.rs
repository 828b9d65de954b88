//! Splits the list of arguments, and parses the value of each.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, Ident, Lit, LitInt, LitStr, Token};

use super::hint;
use crate::errors::{Errors, list};
use crate::literal;

/// A key of an attribute, with an example.
pub(crate) type Key = (&'static str, &'static str);

/// One `key`, `key = value` or `key(..)`.
pub(crate) struct Arg {
    pub(crate) ident: Ident,
    pub(crate) key: String,
    example: &'static str,
    after: TokenStream,
}

/// Passes every argument to `set`. Reports unknown and repeated keys, and leaves them out.
pub(crate) fn read(
    owner: &str,
    keys: &[Key],
    tokens: TokenStream,
    errors: &mut Errors,
    mut set: impl FnMut(&Arg, &mut Errors),
) {
    let mut seen = Vec::new();
    for piece in split(tokens, keys, errors) {
        let parser = |input: ParseStream<'_>| Ok((input.call(Ident::parse_any)?, input.parse()?));
        let (ident, after): (Ident, TokenStream) = match parser.parse2(piece.clone()) {
            Ok(parts) => parts,
            Err(_) => {
                errors.at(piece, format!("expected a key; `{owner}` has {}", valid(keys)));
                continue;
            }
        };
        let key = ident.to_string();
        match keys.iter().find(|(name, _)| *name == key) {
            None => {
                let remedy = hint::of(owner, &key).map_or_else(|| format!("it has {}", valid(keys)), str::to_owned);
                errors.at(&ident, format!("`{key}` is not a key of `{owner}`; {remedy}"));
            }
            Some(_) if seen.contains(&key) => errors.at(&ident, format!("`{key}` is given twice; keep one of them")),
            Some((_, example)) => {
                seen.push(key.clone());
                set(&Arg { ident, key, example, after }, errors);
            }
        }
    }
}

fn valid(keys: &[Key]) -> String {
    list(keys.iter().map(|(name, _)| *name))
}

/// Splits the arguments at commas, and where a comma is missing.
fn split(tokens: TokenStream, keys: &[Key], errors: &mut Errors) -> Vec<TokenStream> {
    let mut pieces = vec![Vec::new()];
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let Some(piece) = pieces.last_mut() else { break };
        if is_punct(&token, ',') {
            if piece.is_empty() {
                errors.at(&token, "unexpected comma; remove it");
            }
            pieces.push(Vec::new());
        } else if is_punct(&token, ';') {
            errors.at(&token, "arguments are separated by commas: write `,`");
            pieces.push(Vec::new());
        } else if begins_anew(piece, &token, tokens.peek(), keys) {
            errors.at(&token, format!("a comma is missing before `{token}`"));
            pieces.push(vec![token]);
        } else {
            piece.push(token);
        }
    }
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(TokenStream::from_iter).collect()
}

/// Returns true if a key with its value begins at `token`, without a comma before it.
fn begins_anew(before: &[TokenTree], token: &TokenTree, next: Option<&TokenTree>, keys: &[Key]) -> bool {
    let complete = before.len() > 1 && !matches!(before.last(), Some(TokenTree::Punct(_)));
    let is_key = matches!(token, TokenTree::Ident(ident) if keys.iter().any(|(name, _)| ident == name));
    let has_value = next.is_some_and(|next| {
        is_punct(next, '=') || matches!(next, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
    });
    complete && is_key && has_value
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

impl Arg {
    /// Parses the value, or reports the wrong tokens.
    pub(crate) fn value<T: Parse>(&self, expected: &str, errors: &mut Errors) -> Option<T> {
        self.with_value(expected, T::parse, errors)
    }

    pub(crate) fn with_value<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(ParseStream<'_>) -> syn::Result<T>,
        errors: &mut Errors,
    ) -> Option<T> {
        let equals = |input: ParseStream<'_>| Ok((input.parse::<Token![=]>()?, input.parse()?));
        let given: syn::Result<(_, TokenStream)> = equals.parse2(self.after.clone());
        match given {
            Ok((_, value)) if !value.is_empty() => match parse.parse2(value.clone()) {
                Ok(value) => return Some(value),
                Err(_) => self.refuse(value, expected, errors),
            },
            _ => self.refuse(&self.ident, expected, errors),
        }
        None
    }

    /// Returns the key, which has no value.
    pub(crate) fn flag(&self, errors: &mut Errors) -> Option<Ident> {
        if !self.after.is_empty() {
            self.refuse(&self.after, "no value", errors);
        }
        Some(self.ident.clone())
    }

    fn refuse(&self, wrong: impl quote::ToTokens, expected: &str, errors: &mut Errors) {
        errors.at(wrong, format!("`{}` expects {expected}: `{}`", self.key, self.example));
    }

    /// Parses a string that must pass a check.
    pub(crate) fn checked(
        &self,
        expected: &str,
        check: impl Fn(&str) -> Result<(), String>,
        errors: &mut Errors,
    ) -> Option<String> {
        let literal: LitStr = self.value(expected, errors)?;
        let text = literal.value();
        match check(&text) {
            Ok(()) => Some(text),
            Err(message) => {
                errors.at(literal, message);
                None
            }
        }
    }

    pub(crate) fn duration(&self, errors: &mut Errors) -> Option<Duration> {
        let text = self.checked("a duration in quotes", |text| literal::duration(text).map(drop), errors)?;
        literal::duration(&text).ok()
    }

    pub(crate) fn attempts(&self, errors: &mut Errors) -> Option<u32> {
        let expected = "a whole number of at least 1, which counts the first attempt";
        let literal: LitInt = self.value(expected, errors)?;
        let number = literal.base10_parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.refuse(literal, expected, errors);
        }
        number
    }

    pub(crate) fn factor(&self, errors: &mut Errors) -> Option<f64> {
        let number = |input: ParseStream<'_>| {
            let literal: Lit = input.parse()?;
            let factor: f64 = match &literal {
                Lit::Int(number) => number.base10_parse()?,
                Lit::Float(number) => number.base10_parse()?,
                _ => 0.0,
            };
            if factor >= 1.0 && factor.is_finite() { Ok(factor) } else { Err(syn::Error::new_spanned(literal, "")) }
        };
        self.with_value("a number of at least 1", number, errors)
    }

    /// Parses a path or a closure.
    pub(crate) fn condition(&self, errors: &mut Errors) -> Option<Expr> {
        let expected = "a function from `&E` to `bool`, as a path or a closure";
        let expr: Expr = self.value(expected, errors)?;
        if matches!(expr, Expr::Path(_) | Expr::Closure(_)) {
            return Some(expr);
        }
        self.refuse(expr, expected, errors);
        None
    }

    /// Returns the tokens in the parentheses.
    pub(crate) fn list(&self, errors: &mut Errors) -> Option<TokenStream> {
        match syn::parse2::<Group>(self.after.clone()) {
            Ok(group) if group.delimiter() == Delimiter::Parenthesis => Some(group.stream()),
            _ => {
                self.refuse(&self.ident, "its keys in parentheses", errors);
                None
            }
        }
    }
}
