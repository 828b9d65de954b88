//! The code through which the runtime finds the function and calls it.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};

use crate::expand::{Expansion, inputs, local, place, with_trait};
use crate::model::{Kind, Param, Place, Shape, first_doc_line};

impl Expansion<'_> {
    /// Returns `run`, which unpacks the input and calls the user's function.
    pub(crate) fn run(&self, shape: &Shape) -> TokenStream {
        let private = self.private();
        let ident = &self.function.sig.ident;
        let context = format_ident!("{}", self.kind.context());
        let (ctx, input) = (local("_ctx"), local("_input"));
        let states = shape.params.iter().enumerate().filter_map(|(i, param)| match param {
            Param::State(ty) => {
                let name = local(&format!("state_{i}"));
                let state = with_trait(&private, ty, "ProgramState");
                Some(quote!(let #name = #state::__get(&#ctx);))
            }
            _ => None,
        });
        let arguments = shape.params.iter().enumerate().map(|(i, param)| match param {
            Param::Context => match self.renamed_context(shape) {
                Some(of) => quote!(#of(#ctx)),
                None => ctx.to_token_stream(),
            },
            Param::Transaction(_) => local("tx").to_token_stream(),
            Param::State(_) => local(&format!("state_{i}")).to_token_stream(),
            Param::Input(index) => inputs::unpack(&input, &shape.inputs, *index),
        });
        let result = self.returns_at().cover(quote!(::core::result::Result<Self::Output, Self::Error>));
        // An error about a future that is not `Send` points at the function.
        let returns = match self.function.is_blocking() {
            true => result,
            false => quote_spanned! {ident.span()=>
                impl ::core::future::Future<Output = #result> + ::core::marker::Send
            },
        };
        let source = match self.function.is_blocking() {
            true => quote!(BlockingTransactionSource),
            false => quote!(TransactionSource),
        };
        let transaction = shape.transaction().map(|ty| {
            let (tx, of) = (local("tx"), with_trait(&private, ty, "ActivityTransaction"));
            quote!(#tx: &mut <#of::Source as #private::#source>::Tx<'_>,)
        });
        quote_spanned! {ident.span()=>
            fn run(#ctx: #private::#context, #transaction #input: Self::Input) -> #returns {
                #(#states)*
                #ident(#(#arguments),*)
            }
        }
    }

    /// Returns the function that makes the context of a renamed type; `None` if the type has its own name.
    fn renamed_context(&self, shape: &Shape) -> Option<TokenStream> {
        let (private, ty) = (self.private(), shape.renamed_context.as_ref()?);
        let is_context = match self.kind {
            Kind::Activity => quote!(#private::IsActivityContext),
            Kind::Orchestration => quote!(#private::IsOrchestrationContext),
        };
        Some(Place::of(ty).cover(quote!(<#ty as #is_context>::of)))
    }

    /// Returns the check of a renamed context for a contract, which has no code that uses it.
    pub(crate) fn context_check(&self, shape: &Shape) -> Option<TokenStream> {
        let of = self.renamed_context(shape).filter(|_| self.function.is_contract())?;
        let (private, ty, context) = (self.private(), &shape.renamed_context, format_ident!("{}", self.kind.context()));
        let cfgs = self.function.attrs_named("cfg");
        Some(quote!(#(#cfgs)* const _: fn(#private::#context) -> #ty = #of;))
    }

    /// Returns the entry by which the registry finds the function.
    pub(crate) fn entry(&self, constructor: &str) -> TokenStream {
        let (private, handle, place) = (self.private(), &self.identity.handle, self.place());
        let annotated = quote!(#private::Annotated);
        let constructor = format_ident!("{constructor}");
        quote! {
            #[automatically_derived]
            impl #annotated for #handle {
                const DESCRIPTOR: #private::Descriptor =
                    #private::Descriptor::#constructor::<#handle>(#place);
            }
            #private::inventory::submit! { <#handle as #annotated>::DESCRIPTOR }
        }
    }

    /// Returns the entry by which a function without a body is compared with its code.
    pub(crate) fn contract_entry(&self, constructor: &str) -> TokenStream {
        let (private, handle, place) = (self.private(), &self.identity.handle, self.place());
        let constructor = format_ident!("{constructor}");
        quote!(#private::inventory::submit! { #private::Contract::#constructor::<#handle>(#place) })
    }

    /// Returns the place of the function in the source.
    fn place(&self) -> TokenStream {
        place(&self.private(), self.function.sig.ident.span(), &first_doc_line(&self.function.attrs))
    }
}
