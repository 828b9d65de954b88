//! The function itself: as the user wrote it, behind a check that it is not called directly by an orchestration.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{ToTokens, quote};

use crate::expand::Expansion;
use crate::model::{Function, Kind};

impl Expansion<'_> {
    /// Returns the function. The allowed lints are those that the rules of this framework violate, and one that takes the
    /// braces of a body for a block within it.
    pub(crate) fn function(&self) -> TokenStream {
        let Function { attrs, vis, sig, body } = self.function;
        let body = body.as_ref().map(|body| self.checked(body));
        // The check shows the place of its caller.
        let tracked = self.function.is_blocking() && self.function.attrs_named("track_caller").next().is_none();
        let tracked = tracked.then(|| quote!(#[track_caller]));
        quote! {
            #(#attrs)*
            #[allow(
                unused_braces,
                clippy::unused_async,
                clippy::needless_pass_by_value,
                clippy::redundant_closure_call,
                clippy::unnecessary_wraps,
                clippy::missing_const_for_fn
            )]
            #tracked
            #vis #sig #body
        }
    }

    /// Returns the body with the check before it. The body stays the group of the user, so that errors in it are reported
    /// once, and inner attributes remain at its beginning.
    fn checked(&self, body: &Group) -> TokenStream {
        let (private, handle) = (self.private(), &self.identity.handle);
        let name = handle.to_string();
        let statements = match (self.kind, self.function.is_blocking()) {
            (Kind::Orchestration, _) => quote!(#private::begin_orchestration::<#handle>(#name).await; #body),
            (Kind::Activity, false) => quote!(#private::begin_activity::<#handle>(#name).await; #body),
            (Kind::Activity, true) => {
                // The places of panics in a closure are their own, not that of the caller of the function.
                let returns = &self.function.sig.output;
                quote!(#private::begin_blocking_activity::<#handle>(#name); (move || #returns #body)())
            }
        };
        // At the place of the body: lints skip a function whose end is in a macro.
        let mut checked = Group::new(Delimiter::Brace, statements);
        checked.set_span(body.span());
        checked.into_token_stream()
    }
}
