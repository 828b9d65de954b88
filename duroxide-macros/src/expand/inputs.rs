//! The stored form of the inputs: none as `null`, one as its own JSON, several as an object keyed by parameter name.

use crate::expand::{private, serde_derive};
use crate::model::{Function, Identity, Input, Place};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};

/// Returns the definition of the stored input, if it needs one, and its type.
pub(crate) fn stored(identity: &Identity, function: &Function, inputs: &[Input]) -> (TokenStream, TokenStream) {
    match inputs {
        [] => (TokenStream::new(), quote!(())),
        [one] => (TokenStream::new(), one.ty.to_token_stream()),
        several => (object(&private(&identity.root), function, several), quote!(__Inputs)),
    }
}

fn object(private: &TokenStream, function: &Function, inputs: &[Input]) -> TokenStream {
    let serde = quote!(#private::serde).to_string();
    let Function { vis, sig, .. } = function;
    // A mock reads the fields, so they are visible where the function is.
    let fields = inputs.iter().map(|Input { ident, ty, .. }| quote!(#vis #ident: #ty));
    let derives = serde_derive(private, &["Serialize", "Deserialize"], Place::of(&sig.inputs));
    quote! {
        #[doc(hidden)]
        #[allow(clippy::exhaustive_structs)]
        #derives
        #[serde(crate = #serde)]
        pub struct __Inputs { #(#fields),* }
    }
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
