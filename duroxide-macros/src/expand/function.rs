//! The function itself: as the user wrote it, behind a check that it is not called directly by an orchestration.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{quote, quote_spanned};

use crate::expand::Expansion;
use crate::model::{Function, Kind};

impl Expansion<'_> {
    /// Returns the function. The allowed lints are those that the rules of this framework violate.
    pub(crate) fn function(&self) -> TokenStream {
        let Function { attrs, vis, sig, body } = self.function;
        let body = body.as_ref().map(|body| self.checked(body));
        // The check shows the place of its caller.
        let tracked = self.function.is_blocking() && self.function.attrs_named("track_caller").next().is_none();
        let tracked = tracked.then(|| quote!(#[track_caller]));
        quote! {
            #(#attrs)*
            #[allow(
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

    /// Returns the body with the check before it.
    fn checked(&self, body: &Group) -> TokenStream {
        let (private, handle) = (self.private(), &self.identity.handle);
        let name = handle.to_string();
        let (inner_attributes, rest) = split(body.stream());
        let statements = match (self.kind, self.function.is_blocking()) {
            (Kind::Orchestration, _) => quote!(#private::begin_orchestration::<#handle>(#name).await; #rest),
            (Kind::Activity, false) => quote!(#private::begin_activity::<#handle>(#name).await; #rest),
            (Kind::Activity, true) => {
                // The places of panics in a closure are their own, not that of the caller of the function.
                let (returns, body) = (&self.function.sig.output, block(body, rest));
                quote_spanned! {self.function.sig.ident.span()=>
                    #private::begin_blocking_activity::<#handle>(#name);
                    (move || #returns #body)()
                }
            }
        };
        let body = block(body, quote!(#inner_attributes #statements));
        quote!(#body)
    }
}

/// Returns a block at the place of the body.
fn block(body: &Group, statements: TokenStream) -> Group {
    let mut block = Group::new(Delimiter::Brace, statements);
    block.set_span(body.span());
    block
}

/// Splits the inner attributes, such as `#![allow(..)]`, from the statements of a body.
fn split(body: TokenStream) -> (TokenStream, TokenStream) {
    let mut rest: Vec<TokenTree> = body.into_iter().collect();
    let is = |token: &TokenTree, sign| matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign);
    let attributes =
        rest.chunks(3).take_while(|token| matches!(token, [hash, bang, _] if is(hash, '#') && is(bang, '!')));
    let statements = rest.split_off(3 * attributes.count());
    (rest.into_iter().collect(), statements.into_iter().collect())
}
