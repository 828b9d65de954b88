//! The arguments of the attributes: `key = value` and `key(..)`, separated by commas.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, Ident, Lit, LitInt, LitStr, Path, Token};

use crate::errors::{Errors, list};
use crate::literal;

/// A key that an attribute takes, and how it is written.
type Key = (&'static str, &'static str);

const NAME: Key = ("name", "name = \"charge-card\"");
const CRATE: Key = ("crate", "crate = engine");
const HANDLE: Key = ("handle", "handle = ChargeCard");
const ACTIVITY: &[Key] = &[
    NAME,
    ("timeout", "timeout = \"30s\""),
    ("schedule_to_close", "schedule_to_close = \"10m\""),
    ("retry", "retry(max_attempts = 5)"),
    HANDLE,
    CRATE,
];
const RETRY: &[Key] = &[
    ("max_attempts", "max_attempts = 5"),
    ("initial_interval", "initial_interval = \"200ms\""),
    ("max_interval", "max_interval = \"10s\""),
    ("backoff", "backoff = 2.0"),
    ("if", "if = ChargeError::is_transient"),
];
const ORCHESTRATION: &[Key] = &[
    NAME,
    ("version", "version = \"1.2.0\""),
    ("allow", "allow = \"why this body can be replayed all the same\""),
    HANDLE,
    CRATE,
];
const EVENT: &[Key] = &[NAME, CRATE];

/// What all attributes have.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) name: Option<String>,
    pub(crate) handle: Option<Ident>,
    pub(crate) root: Option<Path>,
}

/// `#[activity(..)]`
#[derive(Default)]
pub(crate) struct Activity {
    pub(crate) common: Common,
    pub(crate) timeout: Option<Duration>,
    pub(crate) schedule_to_close: Option<Duration>,
    pub(crate) retry: Option<Retry>,
}

/// `retry(..)`
#[derive(Default)]
pub(crate) struct Retry {
    pub(crate) max_attempts: Option<u32>,
    pub(crate) initial_interval: Option<Duration>,
    pub(crate) max_interval: Option<Duration>,
    pub(crate) backoff: Option<f64>,
    /// Says of an error whether another attempt makes sense.
    pub(crate) condition: Option<Expr>,
}

/// `#[orchestration(..)]`
#[derive(Default)]
pub(crate) struct Orchestration {
    pub(crate) common: Common,
    pub(crate) version: Option<String>,
    /// The determinism check is off for this body.
    pub(crate) allowed: bool,
}

impl Activity {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        read("#[activity]", ACTIVITY, tokens, errors, |arg, errors| match arg.key.as_str() {
            "timeout" => {
                args.timeout = arg.duration(errors);
                args.check_limits(&arg.ident, errors);
            }
            "schedule_to_close" => {
                args.schedule_to_close = arg.duration(errors);
                args.check_limits(&arg.ident, errors);
            }
            "retry" => args.retry = Some(Retry::parse(arg, errors)),
            _ => args.common.set(arg, errors),
        });
        args
    }

    fn check_limits(&self, key: &Ident, errors: &mut Errors) {
        if is_shorter(self.schedule_to_close, self.timeout) {
            errors.at(key, "`schedule_to_close` is shorter than `timeout`, the limit of one attempt; make it longer");
        }
    }
}

fn is_shorter(outer: Option<Duration>, inner: Option<Duration>) -> bool {
    matches!((outer, inner), (Some(outer), Some(inner)) if outer < inner)
}

impl Retry {
    fn parse(arg: &Arg, errors: &mut Errors) -> Self {
        let mut retry = Self::default();
        let Some(inner) = arg.list(errors) else { return retry };
        read("retry(..)", RETRY, inner, errors, |arg, errors| match arg.key.as_str() {
            "max_attempts" => retry.max_attempts = arg.attempts(errors),
            "initial_interval" => {
                retry.initial_interval = arg.duration(errors);
                retry.check_intervals(&arg.ident, errors);
            }
            "max_interval" => {
                retry.max_interval = arg.duration(errors);
                retry.check_intervals(&arg.ident, errors);
            }
            "backoff" => retry.backoff = arg.factor(errors),
            _ => retry.condition = arg.condition(errors),
        });
        retry
    }

    fn check_intervals(&self, key: &Ident, errors: &mut Errors) {
        if is_shorter(self.max_interval, self.initial_interval) {
            errors.at(key, "`max_interval` is shorter than `initial_interval`, the first pause; make it longer");
        }
    }
}

impl Orchestration {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        read("#[orchestration]", ORCHESTRATION, tokens, errors, |arg, errors| match arg.key.as_str() {
            "version" => args.version = arg.checked("a version in quotes", literal::version, errors),
            "allow" => args.allowed = arg.checked("a reason in quotes", reason, errors).is_some(),
            _ => args.common.set(arg, errors),
        });
        args
    }
}

fn reason(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("an empty reason; say why this body can be replayed although the check refuses it".to_owned());
    }
    Ok(())
}

impl Common {
    /// The arguments of `#[event(..)]`.
    pub(crate) fn parse_event(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        read("#[event]", EVENT, tokens, errors, |arg, errors| args.set(arg, errors));
        args
    }

    fn set(&mut self, arg: &Arg, errors: &mut Errors) {
        match arg.key.as_str() {
            "name" => self.name = arg.checked("a name in quotes", literal::name, errors),
            "handle" => self.handle = arg.value("a name for the type, without quotes", errors),
            _ => self.root = arg.with_value("a path, without quotes", Path::parse_mod_style, errors),
        }
    }
}

/// One `key`, `key = value` or `key(..)`.
struct Arg {
    ident: Ident,
    key: String,
    example: &'static str,
    after: TokenStream,
}

/// Hands every argument to `set`. Unknown and repeated ones are noted and left out.
fn read(owner: &str, keys: &[Key], tokens: TokenStream, errors: &mut Errors, mut set: impl FnMut(&Arg, &mut Errors)) {
    let mut seen = Vec::new();
    for piece in split_at_commas(tokens) {
        let parser = |input: ParseStream<'_>| Ok((input.call(Ident::parse_any)?, input.parse()?));
        let (ident, after): (Ident, TokenStream) = match parser.parse2(piece.clone()) {
            Ok(parts) => parts,
            Err(_) => {
                errors.at(piece, format!("expected a key; {owner} has {}", valid(keys)));
                continue;
            }
        };
        let key = ident.to_string();
        match keys.iter().find(|(name, _)| *name == key) {
            None => errors.at(&ident, format!("`{key}` is not a key of {owner}; it has {}", valid(keys))),
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

fn split_at_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let mut pieces = vec![TokenStream::new()];
    for token in tokens {
        match (&token, pieces.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == ',' => pieces.push(TokenStream::new()),
            (_, Some(piece)) => piece.extend([token]),
            (_, None) => {}
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

impl Arg {
    /// The value, or an error on what was given instead.
    fn value<T: Parse>(&self, wants: &str, errors: &mut Errors) -> Option<T> {
        self.with_value(wants, T::parse, errors)
    }

    fn with_value<T>(
        &self,
        wants: &str,
        parse: impl FnOnce(ParseStream<'_>) -> syn::Result<T>,
        errors: &mut Errors,
    ) -> Option<T> {
        let equals = |input: ParseStream<'_>| Ok((input.parse::<Token![=]>()?, input.parse()?));
        let given: syn::Result<(_, TokenStream)> = equals.parse2(self.after.clone());
        match given {
            Ok((_, value)) if !value.is_empty() => match parse.parse2(value.clone()) {
                Ok(value) => return Some(value),
                Err(_) => self.refuse(value, wants, errors),
            },
            _ => self.refuse(&self.ident, wants, errors),
        }
        None
    }

    fn refuse(&self, wrong: impl quote::ToTokens, wants: &str, errors: &mut Errors) {
        errors.at(wrong, format!("`{}` wants {wants}: `{}`", self.key, self.example));
    }

    /// A string that passes a check.
    fn checked(&self, wants: &str, check: impl Fn(&str) -> Result<(), String>, errors: &mut Errors) -> Option<String> {
        let literal: LitStr = self.value(wants, errors)?;
        let text = literal.value();
        match check(&text) {
            Ok(()) => Some(text),
            Err(message) => {
                errors.at(literal, message);
                None
            }
        }
    }

    fn duration(&self, errors: &mut Errors) -> Option<Duration> {
        let text = self.checked("a duration in quotes", |text| literal::duration(text).map(drop), errors)?;
        literal::duration(&text).ok()
    }

    fn attempts(&self, errors: &mut Errors) -> Option<u32> {
        let wants = "a whole number of at least 1, which counts the first attempt";
        let literal: LitInt = self.value(wants, errors)?;
        let number = literal.base10_parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.refuse(literal, wants, errors);
        }
        number
    }

    fn factor(&self, errors: &mut Errors) -> Option<f64> {
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

    /// A path or a closure.
    fn condition(&self, errors: &mut Errors) -> Option<Expr> {
        let wants = "a function from `&E` to `bool`, as a path or a closure";
        let expr: Expr = self.value(wants, errors)?;
        if matches!(expr, Expr::Path(_) | Expr::Closure(_)) {
            return Some(expr);
        }
        self.refuse(expr, wants, errors);
        None
    }

    /// What stands in the parentheses.
    fn list(&self, errors: &mut Errors) -> Option<TokenStream> {
        match syn::parse2::<Group>(self.after.clone()) {
            Ok(group) if group.delimiter() == Delimiter::Parenthesis => Some(group.stream()),
            _ => {
                self.refuse(&self.ident, "its keys in parentheses", errors);
                None
            }
        }
    }
}
