//! Refuses borrowed types: a stored value is read back, so its type must own it.

use quote::ToTokens;
use syn::visit::Visit;
use syn::{Lifetime, Type, TypeImplTrait, TypeReference};

use crate::errors::Errors;

/// Refuses types that borrow, as far as the tokens show.
pub(super) struct Owned<'a> {
    what: &'static str,
    errors: &'a mut Errors,
}

impl<'a> Owned<'a> {
    /// `what`: the role of the type, as in "an input".
    pub(super) fn check(what: &'static str, ty: &Type, errors: &'a mut Errors) {
        Self { what, errors }.visit_type(ty);
    }
}

impl<'ast> Visit<'ast> for Owned<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let owned = match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
            Type::Slice(slice) => format!("Vec<{}>", slice.elem.to_token_stream()),
            Type::Path(path) => path.to_token_stream().to_string().replace(' ', ""),
            _ => "the owned type".to_owned(),
        };
        let what = self.what;
        let verb = if what == "an input" { "take" } else { "return" };
        let message = format!("{what} is read back from storage, so it cannot borrow: {verb} `{owned}`");
        self.errors.at(reference, message);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            let what = self.what;
            let message =
                format!("{what} is read back from storage, so it cannot borrow: use `'static`, or an owned type");
            self.errors.at(lifetime, message);
        }
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let what = self.what;
        let message =
            format!("{what} has one type, so that it can be read back from storage: name that type instead of `impl`");
        self.errors.at(ty, message);
    }
}
