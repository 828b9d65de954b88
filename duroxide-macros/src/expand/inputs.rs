//! The stored form of the inputs: none as `null`, one as its own JSON, several as an object keyed by parameter name.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};

use crate::expand::{Expansion, local, with_trait};
use crate::model::Input;

impl Expansion<'_> {
    /// Returns the definition of the stored input, if it needs one, and its type.
    pub(crate) fn stored_input(&self) -> (TokenStream, TokenStream) {
        match self.inputs {
            [] => (TokenStream::new(), quote!(())),
            [one] => (TokenStream::new(), one.ty.to_token_stream()),
            several => (self.object(several), quote!(__Inputs)),
        }
    }

    /// Returns the struct of several inputs. It has no derive, since a derive for each function would take most of the time
    /// in which a user's program compiles.
    fn object(&self, inputs: &[Input]) -> TokenStream {
        let (private, vis, keys) = (&self.private(), &self.function.vis, keys(inputs));
        let (payload, reader) = (local("payload"), local("reader"));
        // A mock reads the fields, so they are visible where the function is.
        let fields = inputs.iter().map(|Input { ident, ty, .. }| quote!(#vis #ident: #ty));
        let values = inputs.iter().map(|Input { ident, ty, .. }| {
            let storable = with_trait(private, ty, "Storable");
            quote!(#storable::__value(&self.#ident))
        });
        let read = inputs.iter().map(|Input { ident, ty, .. }| {
            let storable = with_trait(private, ty, "Storable");
            quote!(#ident: #storable::__read_next(&mut #reader)?)
        });
        quote! {
            #[doc(hidden)]
            #[allow(clippy::exhaustive_structs)]
            pub struct __Inputs { #(#fields),* }
            // An error about another type must not name this one.
            #[diagnostic::do_not_recommend]
            #[automatically_derived]
            impl #private::Input for __Inputs {
                fn __write(&self) -> #private::Encoded {
                    #private::Encoded::of_inputs(&#keys, &[#(#values),*])
                }
                fn __read(#payload: &#private::Payload) -> ::core::result::Result<Self, #private::ReadError> {
                    let mut #reader = #private::InputReader::new(#payload, &#keys)?;
                    ::core::result::Result::Ok(Self { #(#read),* })
                }
            }
        }
    }
}

/// Returns the list of the keys.
pub(crate) fn keys(inputs: &[Input]) -> TokenStream {
    let keys = inputs.iter().map(|input| &input.key);
    quote!([#(#keys),*])
}

/// Returns the stored input, made of the parameters of `call`.
pub(crate) fn pack(inputs: &[Input]) -> TokenStream {
    match inputs {
        [] => quote!(()),
        [one] => one.ident.to_token_stream(),
        several => {
            let names = several.iter().map(|input| &input.ident);
            quote!(__Inputs { #(#names),* })
        }
    }
}

/// Returns one input of a stored one.
pub(crate) fn unpack(stored: &Ident, inputs: &[Input], index: usize) -> TokenStream {
    match inputs {
        [_] => stored.to_token_stream(),
        several => {
            let name = &several[index].ident;
            quote!(#stored.#name)
        }
    }
}
