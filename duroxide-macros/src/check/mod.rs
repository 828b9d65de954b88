//! Checks that a function can be made durable. Every mistake is reported at its tokens, with its remedy.

mod attributes;
mod owned;
mod params;
mod transaction;

use quote::ToTokens;
use syn::{GenericArgument, Ident, Path, PathArguments, PathSegment, ReturnType, Safety, Signature, Type};

pub(crate) use self::attributes::attributes;
use self::owned::Owned;
use self::params::Params;
use crate::args::{Common, Retry};
use crate::determinism;
use crate::errors::Errors;
use crate::literal;
use crate::model::{Function, Identity, Kind, PartialShape, Place, Returns, Shape};

/// Checks the signature. Returns `Err`, after at least one error, if it is wrong.
pub(crate) fn signature(
    kind: Kind,
    function: &Function,
    transactional: Option<&Ident>,
    errors: &mut Errors,
) -> Result<Shape, PartialShape> {
    let before = errors.count();
    qualifiers(kind, function, errors);
    let mut params = Params::new(kind, function, transactional, errors);
    for arg in &function.sig.inputs {
        params.add(arg);
    }
    params.finish();
    let Params { params, inputs, renamed_context, .. } = params;
    let returns = returns(kind, function, errors);
    match returns {
        Some(returns) if errors.count() == before => Ok(Shape { params, inputs, returns, renamed_context }),
        returns => Err(PartialShape { inputs, returns }),
    }
}

/// Determines the names of the generated type.
pub(crate) fn identity(common: Common, function: &Function, errors: &mut Errors) -> Identity {
    let ident = &function.sig.ident;
    let name = common.name.unwrap_or_else(|| {
        let name = function.name();
        if let Err(message) = literal::name(&name) {
            errors.at(ident, message);
        }
        name
    });
    Identity {
        root: common.root.unwrap_or_else(default_root),
        handle: common.handle.unwrap_or_else(|| ident.clone()),
        name,
    }
}

/// Refuses `retry(if = ..)` on a contract, because the code decides which errors are retried.
pub(crate) fn retry(retry: Option<&Retry>, function: &Function, errors: &mut Errors) {
    if let Some(condition) = retry.and_then(|retry| retry.condition.as_ref()).filter(|_| function.is_contract()) {
        errors.at(condition, "a contract has no condition for retries: leave `if` to the function that has the code");
    }
}

/// Reports and removes opt-out marks in the body of an activity.
pub(crate) fn marks(function: &mut Function, errors: &mut Errors) {
    if let Some(body) = &mut function.body
        && let Some(mark) = determinism::first_mark(body)
    {
        errors.at(mark, attributes::IN_AN_ACTIVITY);
        *body = determinism::without_marks(body);
    }
}

/// Refuses `allow = ".."` on a contract, which has no body to be checked.
pub(crate) fn allow(allowed: Option<&Ident>, function: &Function, errors: &mut Errors) {
    if let Some(key) = allowed.filter(|_| function.is_contract()) {
        errors.at(key, "a contract has no body to be checked: leave `allow` to the function that has the code");
    }
}

pub(crate) fn default_root() -> Path {
    syn::parse_quote!(::duroxide)
}

fn qualifiers(kind: Kind, function: &Function, errors: &mut Errors) {
    let Signature { constness, asyncness, safety, abi, fn_token, generics, variadic, .. } = &function.sig;
    let what = kind.with_article();
    if asyncness.is_none() && kind == Kind::Orchestration {
        errors.at(fn_token, "an orchestration awaits its calls: write `async fn`");
    }
    if let Some(token) = constness {
        errors.at(token, format!("{what} never runs at compile time: remove `const`"));
    }
    if let Safety::Unsafe(token) = safety {
        errors.at(
            token,
            format!("{what} is called by the runtime, which cannot uphold a safety contract: remove `unsafe`"),
        );
    }
    if let Some(abi) = abi {
        errors.at(abi, format!("{what} is a Rust function: remove `extern`"));
    }
    if let Some(variadic) = variadic {
        errors.at(variadic, format!("{what} has a fixed number of inputs: take a `Vec` instead of `...`"));
    }
    if !generics.params.is_empty() {
        let message = format!(
            "{what} is found by its name alone, so it cannot be generic: write one function for each type, which may \
             share a generic helper"
        );
        errors.at(generics, message);
    } else if let Some(clause) = &generics.where_clause {
        errors.at(clause, format!("{what} cannot be generic: remove the `where` clause"));
    }
}

fn returns(kind: Kind, function: &Function, errors: &mut Errors) -> Option<Returns> {
    let what = kind.with_article();
    let ReturnType::Type(_, ty) = &function.sig.output else {
        errors.at(&function.sig.ident, format!("{what} returns a `Result`: add `-> Result<(), duroxide::Error>`"));
        return None;
    };
    let returns = ungrouped(ty);
    let arguments = match last_segment(returns) {
        Some(last) if last.ident == "Result" => type_arguments(last),
        _ => Vec::new(),
    };
    let (ok, err) = match arguments.as_slice() {
        [_] => (Place::of(returns), Place::of(returns)),
        [ok, err] => (Place::of(ok), Place::of(err)),
        _ => {
            errors.at(ty, format!("{what} returns a `Result` with its types: write `Result<T, E>`"));
            return None;
        }
    };
    let before = errors.count();
    for (argument, part) in arguments.iter().zip(["an output", "an error"]) {
        if let GenericArgument::Type(ty) = argument {
            Owned::check(part, ty, errors);
        }
    }
    if errors.count() == before {
        error_can_be_stored(returns, &arguments, errors);
    }
    (errors.count() == before).then(|| Returns { ty: Box::new(returns.clone()), ok, err })
}

/// Reports common error types that cannot be stored. The compiler would ask for a derive on them, which is not a remedy.
fn error_can_be_stored(returns: &Type, arguments: &[&GenericArgument], errors: &mut Errors) {
    let (wrong, found) = match arguments {
        [ok] => (returns, is_of(returns, UNSTORABLE).then_some(ok)),
        [ok, GenericArgument::Type(error)] => (error, is_unstorable(error).then_some(ok)),
        _ => return,
    };
    if let Some(ok) = found {
        let ok = ok.to_token_stream().to_string().replace(' ', "");
        let message = format!(
            "an error is stored, and this type cannot be: return `duroxide::Result<{ok}>`; `?` converts errors into its \
             error type, and `.map_err(duroxide::Error::from_boxed)?` converts boxed errors and those of `anyhow`"
        );
        errors.at(wrong, message);
    }
}

/// The modules whose error types do not implement serde's traits.
const UNSTORABLE: &[&str] = &["anyhow", "eyre", "color_eyre", "std::io", "io"];

fn is_unstorable(error: &Type) -> bool {
    let boxed = last_segment(error).filter(|last| last.ident == "Box").map(type_arguments).unwrap_or_default();
    let is_trait_object = |argument: &&GenericArgument| matches!(argument, GenericArgument::Type(Type::TraitObject(_)));
    boxed.iter().any(is_trait_object) || is_of(error, UNSTORABLE)
}

/// Returns true if the type is an item directly in one of these modules.
fn is_of(ty: &Type, modules: &[&str]) -> bool {
    let Type::Path(path) = ty else { return false };
    let names: Vec<_> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    names.split_last().is_some_and(|(_, front)| modules.contains(&front.join("::").as_str()))
}

fn type_arguments(segment: &PathSegment) -> Vec<&GenericArgument> {
    match &segment.arguments {
        PathArguments::AngleBracketed(list) => list.args.iter().collect(),
        _ => Vec::new(),
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// Removes the invisible delimiters that `macro_rules!` puts around a type.
fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        other => other,
    }
}
