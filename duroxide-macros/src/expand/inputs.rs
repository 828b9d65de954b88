//! How the inputs are stored: none as `null`, one as it is, several as an object keyed by parameter name.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::Signature;

use crate::expand::{private, serde_derive};
use crate::model::{Identity, Input, Place};

/// The type of the stored input, and its definition if it has one of its own.
pub(crate) fn stored(identity: &Identity, sig: &Signature, inputs: &[Input]) -> (TokenStream, TokenStream) {
    match inputs {
        [] => (TokenStream::new(), quote!(())),
        [one] => (TokenStream::new(), one.ty.to_token_stream()),
        several => (object(&private(&identity.root), sig, several), quote!(__Inputs)),
    }
}

fn object(private: &TokenStream, sig: &Signature, inputs: &[Input]) -> TokenStream {
    let serde = quote!(#private::serde).to_string();
    let fields = inputs.iter().map(|Input { ident, ty, .. }| quote!(#ident: #ty));
    let derives = serde_derive(private, &["Serialize", "Deserialize"], Place::of(&sig.inputs));
    quote! {
        #[doc(hidden)]
        #derives
        #[serde(crate = #serde)]
        pub struct __Inputs { #(#fields),* }
    }
}

/// The stored input, made of the parameters of `call`.
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

/// One input out of what was stored.
pub(crate) fn unpack(stored: &Ident, inputs: &[Input], index: usize) -> TokenStream {
    match inputs {
        [_] => stored.to_token_stream(),
        several => {
            let name = &several[index].ident;
            quote!(#stored.#name)
        }
    }
}
