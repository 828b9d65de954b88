//! The other attributes of the function and of its parameters.

use quote::ToTokens;
use syn::{Attribute, FnArg};

use crate::errors::Errors;
use crate::model::{Function, Kind};

/// The attributes that a contract passes on to its type, or that only concern lints and tools.
const OF_CONTRACTS: &[&str] = &[
    "doc",
    "cfg",
    "cfg_attr",
    "deprecated",
    "allow",
    "expect",
    "warn",
    "deny",
    "forbid",
    "rustfmt",
    "clippy",
    "rustc",
];

/// Reports and removes the attributes that cannot be on this function, and would otherwise expand next.
pub(crate) fn attributes(kind: Kind, function: &mut Function, errors: &mut Errors) {
    let is_contract = function.is_contract();
    for attr in function.attrs.extract_if(.., |attr| mistake(kind, is_contract, attr).is_some()) {
        if let Some(message) = mistake(kind, is_contract, &attr) {
            errors.at(attr, message);
        }
    }
    for arg in &mut function.sig.inputs {
        let FnArg::Typed(arg) = arg else { continue };
        for attr in arg.attrs.extract_if(.., |attr| attr.path().is_ident("serde")) {
            let message =
                "an input has no attributes of serde: put it into a struct with this attribute, and take the struct";
            errors.at(attr, message);
        }
    }
}

/// Returns the mistake of an attribute that cannot be on the function.
fn mistake(kind: Kind, is_contract: bool, attr: &Attribute) -> Option<String> {
    let (what, path) = (kind.with_article(), attr.path());
    let (first, last) = (path.segments.first()?.ident.to_string(), path.segments.last()?.ident.to_string());
    Some(match (last.as_str(), kind) {
        ("activity" | "orchestration", _) => {
            "a function has one attribute, `#[activity]` or `#[orchestration]`: remove the other one".to_owned()
        }
        ("main" | "test", _) => {
            let attr = path.to_token_stream().to_string().replace(' ', "");
            format!("{what} is called by the runtime: remove `#[{attr}]`, and call it from another function")
        }
        ("allow_nondeterminism", Kind::Orchestration) => {
            "this goes on a statement of the body; for the whole body write \
             `#[orchestration(allow = \"the reason\")]`"
                .to_owned()
        }
        ("allow_nondeterminism", Kind::Activity) => IN_AN_ACTIVITY.to_owned(),
        _ if is_contract && !OF_CONTRACTS.contains(&first.as_str()) => {
            let attr = path.to_token_stream().to_string().replace(' ', "");
            format!("`#[{attr}]` has no effect on a contract: put it on the function that has the code")
        }
        _ => return None,
    })
}

/// The mistake of a mark in an activity.
pub(super) const IN_AN_ACTIVITY: &str =
    "an activity is not replayed, so its code is not checked: remove `#[allow_nondeterminism]`";
