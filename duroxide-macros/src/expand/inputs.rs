//! How the inputs are stored: none as `null`, one as it is, several as an object keyed by parameter name.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::Path;
use syn::ext::IdentExt;

use crate::expand::private;
use crate::model::Input;

/// The type of the stored input, and its definition if it has one of its own.
pub(crate) fn stored(root: &Path, inputs: &[Input]) -> (TokenStream, TokenStream) {
    match inputs {
        [] => (TokenStream::new(), quote!(())),
        [one] => (TokenStream::new(), one.ty.to_token_stream()),
        several => (object(root, several), quote!(__Inputs)),
    }
}

fn object(root: &Path, inputs: &[Input]) -> TokenStream {
    let private = private(root);
    let serde = quote!(#private::serde).to_string();
    let fields = inputs.iter().map(|Input { ident, key, ty }| {
        let rename = (ident.unraw() != key).then(|| quote!(#[serde(rename = #key)]));
        quote!(#rename #ident: #ty)
    });
    quote! {
        #[doc(hidden)]
        #[derive(#private::serde::Serialize, #private::serde::Deserialize)]
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
