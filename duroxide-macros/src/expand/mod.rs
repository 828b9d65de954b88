//! What the attributes turn into: the item itself, a type of the same name, and the traits on it.

mod activity;
mod event;
mod inputs;
mod orchestration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};

pub(crate) use self::activity::{activity, methods as activity_methods};
pub(crate) use self::event::event;
pub(crate) use self::orchestration::{methods as orchestration_methods, orchestration};
use syn::ReturnType;

use crate::errors::Errors;
use crate::model::{Function, Identity, Input, Kind, Param, Place, Returns, Shape};

/// Parses the function; if it is none, the tokens go back to the compiler with the error.
fn parse(item: TokenStream, errors: &mut Errors) -> Result<Function, TokenStream> {
    syn::parse2(item.clone()).map_err(|error| {
        errors.push(error);
        item
    })
}

/// The parts of an expansion that activities and orchestrations share.
pub(crate) struct Expansion<'a> {
    pub(crate) kind: Kind,
    pub(crate) function: &'a Function,
    pub(crate) identity: &'a Identity,
    /// What `call` and `start` take.
    pub(crate) inputs: &'a [Input],
    /// A stand-in for a function that is wrong: it has the methods, but they do nothing.
    pub(crate) stub: bool,
}

impl Expansion<'_> {
    /// The module that all generated paths begin with.
    pub(crate) fn private(&self) -> TokenStream {
        private(&self.identity.root)
    }

    /// The function as the user wrote it. The lints are those that the rules of this framework make users break.
    pub(crate) fn function(&self) -> TokenStream {
        let function = self.function;
        quote! {
            #[allow(clippy::unused_async, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]
            #function
        }
    }

    /// The type of the same name, with its methods, and `impls` beside them.
    pub(crate) fn durable_type(&self, methods: &TokenStream, impls: &TokenStream) -> TokenStream {
        let (Function { vis, .. }, Identity { handle, name, .. }) = (self.function, self.identity);
        let cfgs: Vec<_> = self.function.attrs_named("cfg").collect();
        let docs = self.function.attrs_named("doc");
        let generated = match self.kind {
            Kind::Activity => format!("The durable side of the activity `{name}`: `{handle}::call(&ctx, ..)`."),
            Kind::Orchestration => format!(
                "The durable side of the orchestration `{name}`: `{handle}::start(&client, id, ..)`, and \
                 `{handle}::call(&ctx, ..)` as a child."
            ),
        };
        // Where another item of this name is reported to be in the way; still the macro's for lints.
        let at_function = Span::call_site().located_at(self.function.sig.ident.span());
        let enumeration = quote_spanned!(at_function=> enum #handle {});
        quote! {
            #(#cfgs)*
            #(#docs)*
            #[doc = ""]
            #[doc = #generated]
            #[allow(non_camel_case_types, dead_code, clippy::exhaustive_enums)]
            #vis #enumeration

            #(#cfgs)*
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

    /// `call(&ctx, ..)`
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
            |input| quote!(#private::#library_fn::<#handle>(#ctx, #input)),
        )
    }

    /// Where the return type is written.
    fn returns_at(&self) -> Place {
        match &self.function.sig.output {
            ReturnType::Type(_, ty) => Place::of(ty),
            ReturnType::Default => Place::of(&self.function.sig.ident),
        }
    }

    /// A method that takes `first` and the inputs, with the place of the user's function.
    pub(crate) fn method(
        &self,
        name: &str,
        doc: &str,
        first: &TokenStream,
        returns: &TokenStream,
        body: impl FnOnce(TokenStream) -> TokenStream,
    ) -> TokenStream {
        let (Function { vis, sig, .. }, inputs) = (self.function, self.inputs);
        let name = Ident::new(name, sig.ident.span());
        let types = inputs.iter().map(|input| &input.ty);
        if self.stub {
            let (generics, _, clause) = sig.generics.split_for_impl();
            return quote! {
                #[doc = #doc]
                #[allow(unused_variables)]
                #vis fn #name #generics (#first #(, _: #types)*) -> #returns #clause { ::core::unimplemented!() }
            };
        }
        let names = inputs.iter().map(|input| &input.ident);
        let body = body(inputs::pack(inputs));
        quote! {
            #[doc = #doc]
            #[track_caller]
            #vis fn #name(#first #(, #names: #types)*) -> #returns { #body }
        }
    }

    /// The trait that callers link: `Activity` or `Orchestration`.
    pub(crate) fn contract(&self) -> TokenStream {
        let private = self.private();
        match self.kind {
            Kind::Activity => quote!(#private::Activity),
            Kind::Orchestration => quote!(#private::Orchestration),
        }
    }

    /// The implementation of that trait for a function that is right.
    pub(crate) fn contract_impl(&self, returns: &Returns, more: Option<TokenStream>) -> TokenStream {
        let (private, contract, handle) = (self.private(), self.contract(), &self.identity.handle);
        let name = &self.identity.name;
        let keys = self.inputs.iter().map(|input| &input.key);
        let (definition, input) = inputs::stored(self.identity, &self.function.sig, self.inputs);
        let input = associated("Input", &input);
        let output = associated("Output", &part_of(&private, returns, returns.ok, "Ok"));
        let error = associated("Error", &part_of(&private, returns, returns.err, "Err"));
        quote! {
            #definition
            #[automatically_derived]
            impl #contract for #handle {
                const NAME: &'static ::core::primitive::str = #name;
                const PARAMETERS: ::core::option::Option<&'static [&'static ::core::primitive::str]> =
                    ::core::option::Option::Some(&[#(#keys),*]);
                #input
                #output
                #error
                #more
            }
        }
    }

    /// `run`, which takes the input apart and calls the user's function.
    pub(crate) fn run(&self, shape: &Shape) -> TokenStream {
        let private = self.private();
        let ident = &self.function.sig.ident;
        let context = format_ident!("{}", self.kind.context());
        let (ctx, input) = (local("_ctx"), local("_input"));
        let states = shape.params.iter().enumerate().filter_map(|(i, param)| match param {
            Param::State(ty) => {
                let name = local(&format!("state_{i}"));
                Some(quote!(let #name = #private::state::<#ty>(&#ctx);))
            }
            _ => None,
        });
        let arguments = shape.params.iter().enumerate().map(|(i, param)| match param {
            Param::Context => ctx.to_token_stream(),
            Param::State(_) => local(&format!("state_{i}")).to_token_stream(),
            Param::Input(index) => inputs::unpack(&input, &shape.inputs, *index),
        });
        let result = self.returns_at().cover(quote!(::core::result::Result<Self::Output, Self::Error>));
        // A future that is not `Send` is the function's fault.
        let returns = match self.function.is_blocking() {
            true => result,
            false => quote_spanned! {ident.span()=>
                impl ::core::future::Future<Output = #result> + ::core::marker::Send
            },
        };
        quote_spanned! {ident.span()=>
            fn run(#ctx: #private::#context, #input: Self::Input) -> #returns {
                #(#states)*
                #ident(#(#arguments),*)
            }
        }
    }

    /// The entry by which the registry finds the function.
    pub(crate) fn entry(&self, constructor: &str) -> TokenStream {
        let (private, handle) = (self.private(), &self.identity.handle);
        let constructor = format_ident!("{constructor}");
        let doc = self.function.first_doc_line();
        // At the user's function, so that the place is its line.
        let line = quote_spanned!(self.function.sig.ident.span()=> ::core::line!());
        let file = quote_spanned!(self.function.sig.ident.span()=> ::core::file!());
        quote! {
            #private::inventory::submit! {
                #private::Descriptor::#constructor::<#handle>(#private::Place {
                    crate_name: ::core::env!("CARGO_PKG_NAME"),
                    module: ::core::module_path!(),
                    file: #file,
                    line: #line,
                    doc: #doc,
                })
            }
        }
    }
}

/// A name that cannot meet one of the user's.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// `type Name = ty;`, such that errors about the whole of it point at the type, too.
fn associated(name: &str, ty: &TokenStream) -> TokenStream {
    let (name, place) = (format_ident!("{name}"), Place::of(ty));
    let start = place.cover(quote!(type #name));
    quote_spanned!(place.end=> #start = #ty;)
}

/// `#[derive(..)]` of traits of serde. Some errors of a derive sit on its name, so that is put where the fault is.
pub(crate) fn serde_derive(private: &TokenStream, traits: &[&str], place: Place) -> TokenStream {
    let paths = traits.iter().map(|name| {
        let name = format_ident!("{name}");
        // All of it, since `::` of two places is at neither.
        let path = quote!(#private::serde::#name).into_iter().map(|mut token| {
            token.set_span(place.start);
            token
        });
        place.cover(path.collect())
    });
    quote!(#[derive(#(#paths),*)])
}

pub(crate) fn private(root: &syn::Path) -> TokenStream {
    quote!(#root::__private)
}

/// One of the two types of the returned `Result`, also when that is an alias. Errors about it point at `place`.
pub(crate) fn part_of(private: &TokenStream, returns: &Returns, place: Place, which: &str) -> TokenStream {
    let (ty, which) = (&returns.ty, format_ident!("{which}"));
    place.cover(quote!(<#ty as #private::ResultTypes>::#which))
}

#[cfg(test)]
mod tests;
