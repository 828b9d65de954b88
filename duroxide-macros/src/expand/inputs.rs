//! The stored form of the inputs: none as `null`, one as its own JSON, several as an object keyed by parameter name.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};

use crate::expand::{Expansion, local, private, with_trait};
use crate::model::{Identity, Input};

/// The parts of the contract that concern the input.
pub(crate) struct Stored {
    /// The definition of the type, if it needs one.
    pub(crate) definition: TokenStream,
    pub(crate) ty: TokenStream,
    /// The functions of the contract that write and read it, if it is not stored by serde's traits.
    pub(crate) functions: TokenStream,
}

impl Expansion<'_> {
    /// Returns the stored input.
    pub(crate) fn stored_input(&self) -> Stored {
        let none = TokenStream::new;
        match self.inputs {
            [] => Stored { definition: none(), ty: quote!(()), functions: none() },
            [one] => Stored { definition: none(), ty: one.ty.to_token_stream(), functions: none() },
            several => Stored {
                definition: definition(self.identity, &self.contract(), several),
                ty: quote!(__Inputs),
                functions: functions(self.identity, several),
            },
        }
    }
}

/// Returns the struct of the inputs. Its implementations of serde's traits are for users; the library uses the functions
/// of the contract.
fn definition(identity: &Identity, contract: &TokenStream, inputs: &[Input]) -> TokenStream {
    let (private, handle) = (private(&identity.root), &identity.handle);
    let fields = inputs.iter().map(|Input { ident, ty, .. }| quote!(#ident: #ty));
    let (serializer, deserializer) = (local("serializer"), local("deserializer"));
    quote! {
        #[doc(hidden)]
        pub struct __Inputs { #(#fields),* }
        #[automatically_derived]
        impl #private::serde::Serialize for __Inputs {
            fn serialize<S: #private::serde::Serializer>(&self, #serializer: S) -> ::core::result::Result<S::Ok, S::Error> {
                #private::serialize_inputs(<#handle as #contract>::__write(self), #serializer)
            }
        }
        #[automatically_derived]
        impl<'de> #private::serde::Deserialize<'de> for __Inputs {
            fn deserialize<D: #private::serde::Deserializer<'de>>(
                #deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                #private::deserialize_inputs(#deserializer, <#handle as #contract>::__read)
            }
        }
    }
}

fn functions(identity: &Identity, inputs: &[Input]) -> TokenStream {
    let private = private(&identity.root);
    let keys = keys(inputs);
    let (input, payload, reader) = (local("input"), local("payload"), local("reader"));
    let values = inputs.iter().map(|Input { ident, ty, .. }| {
        let storable = with_trait(&private, ty, "Storable");
        quote!(#storable::__value(&#input.#ident))
    });
    let fields = inputs.iter().map(|Input { ident, ty, .. }| {
        let storable = with_trait(&private, ty, "Storable");
        quote!(#ident: #storable::__read_next(&mut #reader)?)
    });
    quote! {
        fn __write(#input: &Self::Input) -> #private::Encoded {
            #private::Encoded::of_inputs(&#keys, &[#(#values),*])
        }
        fn __read(#payload: &#private::Payload) -> ::core::result::Result<Self::Input, #private::ReadError> {
            let mut #reader = #private::InputReader::new(#payload, &#keys)?;
            ::core::result::Result::Ok(__Inputs { #(#fields),* })
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
