//! The type of the same name: its methods, and the trait that callers link.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use crate::expand::{Expansion, inputs, local};
use crate::model::{Function, Identity, Place, Returns};

impl Expansion<'_> {
    /// Returns the type of the same name, with its methods and `impls`, and this section in its documentation.
    pub(crate) fn durable_type(
        &self,
        section: &TokenStream,
        methods: &TokenStream,
        impls: &TokenStream,
    ) -> TokenStream {
        let (Function { vis, .. }, Identity { handle, name, .. }) = (self.function, self.identity);
        let cfgs: Vec<_> = self.function.attrs_named("cfg").collect();
        let docs = self.function.attrs_named("doc");
        let hidden = (!self.function.is_contract()).then(|| quote!(#[doc(hidden)]));
        let allowed: Vec<_> = self.function.allowed_lints().collect();
        // A clash of names is reported at the function, while lints still see an item of the macro.
        let at_function = Span::call_site().located_at(self.function.sig.ident.span());
        let enumeration = quote_spanned!(at_function=> enum #handle {});
        quote! {
            #(#cfgs)*
            #(#docs)*
            #section
            #hidden
            #[allow(non_camel_case_types, dead_code, clippy::exhaustive_enums)]
            #(#allowed)*
            #vis #enumeration

            #(#cfgs)*
            #[allow(deprecated)]
            #(#allowed)*
            const _: () = {
                #[allow(dead_code, clippy::too_many_arguments)]
                impl #handle {
                    #[doc = "The recorded name."]
                    #vis const NAME: &'static ::core::primitive::str = #name;
                    #methods
                }
                #impls
            };
        }
    }

    /// Returns the method `call(&ctx, ..)`.
    pub(crate) fn call(&self, library_fn: &str, future: &str, doc: &str) -> TokenStream {
        let (private, handle) = (self.private(), &self.identity.handle);
        let (library_fn, future) = (format_ident!("{library_fn}"), format_ident!("{future}"));
        let contract = self.contract();
        let place = self.returns_at();
        let (output, error) =
            (place.cover(quote!(<#handle as #contract>::Output)), place.cover(quote!(<#handle as #contract>::Error)));
        let returns = place.cover(quote!(#private::#future<#output, #error>));
        let ctx = local("ctx");
        self.method(
            "call",
            doc,
            &quote!(#ctx: &#private::OrchestrationContext),
            &returns,
            |input| quote!(#private::#library_fn::<#handle>(#ctx, &#input)),
        )
    }

    /// Returns a method that takes `first` and the inputs, at the place of the user's function.
    pub(crate) fn method(
        &self,
        name: &str,
        doc: &str,
        first: &TokenStream,
        returns: &TokenStream,
        body: impl FnOnce(TokenStream) -> TokenStream,
    ) -> TokenStream {
        let (Function { vis, sig, .. }, inputs) = (self.function, self.inputs);
        // New calls are warned of; the handle of an instance that exists is not.
        let deprecated: Vec<_> =
            self.function.attrs_named("deprecated").filter(|_| matches!(name, "call" | "start")).collect();
        let name = Ident::new(name, sig.ident.span());
        let types = inputs.iter().map(|input| &input.ty);
        if self.stub {
            let (generics, _, clause) = sig.generics.split_for_impl();
            return quote! {
                #[doc = #doc]
                #[allow(unused_variables)]
                #vis fn #name #generics (#first #(, _: #types)*) -> #returns #clause { ::core::unreachable!() }
            };
        }
        let names = inputs.iter().map(|input| &input.ident);
        let body = body(inputs::pack(inputs));
        quote! {
            #[doc = #doc]
            #(#deprecated)*
            #[track_caller]
            #vis fn #name(#first #(, #names: #types)*) -> #returns { #body }
        }
    }

    /// Returns the implementation of the contract trait.
    pub(crate) fn contract_impl(&self, returns: &Returns, more: Option<TokenStream>) -> TokenStream {
        let (private, contract, handle) = (self.private(), self.contract(), &self.identity.handle);
        let name = &self.identity.name;
        let keys = inputs::keys(self.inputs);
        let (definition, input) = self.stored_input();
        let input = associated("Input", &input);
        let output = associated("Output", &part_of(&private, returns, returns.ok, "Ok"));
        let error = associated("Error", &part_of(&private, returns, returns.err, "Err"));
        quote! {
            #definition
            #[automatically_derived]
            impl #contract for #handle {
                const NAME: &'static ::core::primitive::str = #name;
                const PARAMETERS: ::core::option::Option<&'static [&'static ::core::primitive::str]> =
                    ::core::option::Option::Some(&#keys);
                #input
                #output
                #error
                #more
            }
        }
    }
}

/// Returns `type Name = ty;`, whose errors point at the type.
fn associated(name: &str, ty: &TokenStream) -> TokenStream {
    let (name, place) = (format_ident!("{name}"), Place::of(ty));
    let start = place.cover(quote!(type #name));
    quote_spanned!(place.end=> #start = #ty;)
}

/// Returns one of the two types of the returned `Result`, even of an alias. Errors about it point at `place`.
pub(crate) fn part_of(private: &TokenStream, returns: &Returns, place: Place, which: &str) -> TokenStream {
    let (ty, which) = (&returns.ty, format_ident!("{which}"));
    place.cover(quote!(<#ty as #private::ResultTypes>::#which))
}
