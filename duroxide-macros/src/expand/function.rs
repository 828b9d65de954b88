//! The function itself: as the user wrote it, behind a check that it is not called directly by an orchestration.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{ToTokens, quote};

use crate::expand::Expansion;
use crate::model::{Function, Kind};

impl Expansion<'_> {
    /// Returns the function, with this section in its documentation. The allowed lints are those that the rules of this
    /// framework violate, and one that takes the braces of a body for a block within it.
    pub(crate) fn function(&self, section: &TokenStream) -> TokenStream {
        let Function { attrs, vis, sig, body } = self.function;
        let body = body.as_ref().map(|body| self.checked(body));
        // The check shows the place of its caller.
        let tracked = self.function.is_blocking() && self.function.attrs_named("track_caller").next().is_none();
        let tracked = tracked.then(|| quote!(#[track_caller]));
        quote! {
            #(#attrs)*
            #section
            #[allow(
                unused_braces,
                clippy::too_many_arguments,
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
        let (private, handle, recorded) = (self.private(), &self.identity.handle, &self.identity.name);
        let name = handle.to_string();
        let statements = match (self.kind, self.function.is_blocking()) {
            (Kind::Orchestration, _) => {
                let id = quote!(#private::TypeId::of::<#handle>());
                quote!(#private::begin_orchestration(#recorded, #name, #id).await; #body)
            }
            (Kind::Activity, false) => quote!(#private::begin_activity(#recorded, #name).await; #body),
            (Kind::Activity, true) => {
                // The places of panics in a closure are their own, not that of the caller of the function.
                let returns = &self.function.sig.output;
                quote!(#private::begin_blocking_activity(#recorded, #name); (move || #returns #body)())
            }
        };
        // At the place of the body: lints skip a function whose end is in a macro.
        let mut checked = Group::new(Delimiter::Brace, statements);
        checked.set_span(body.span());
        checked.into_token_stream()
    }
}
