//! The expansion of a wrong function: the function as written, and a type with the methods that callers expect, so that
//! one mistake gives one message.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::FnArg;

use crate::expand::{Expansion, activity_methods, orchestration_methods, part_of};
use crate::model::{Function, Identity, Kind, PartialShape};

pub(crate) fn function(kind: Kind, function: &Function, identity: &Identity, partial: &PartialShape) -> TokenStream {
    // A method is inside of an `impl`, which cannot contain a type.
    if function.sig.inputs.iter().any(|arg| matches!(arg, FnArg::Receiver(_))) {
        return function.to_token_stream();
    }
    let expansion = Expansion { kind, function, identity, inputs: &partial.inputs, stub: true };
    let methods = match kind {
        Kind::Activity => activity_methods(&expansion),
        Kind::Orchestration => orchestration_methods(&expansion, None),
    };
    let durable_type =
        expansion.durable_type(&expansion.doc_section([]), &methods, &contract_impl(&expansion, partial));
    match function.is_contract() {
        true => durable_type,
        // A warning about unused variables would distract from the mistake.
        false => quote!(#[allow(unused)] #function #durable_type),
    }
}

fn contract_impl(expansion: &Expansion<'_>, partial: &PartialShape) -> TokenStream {
    let (private, contract, handle) = (expansion.private(), expansion.contract(), &expansion.identity.handle);
    let unit = || quote!(());
    let (output, error) = match &partial.returns {
        Some(returns) if expansion.function.sig.generics.params.is_empty() => {
            let part = |place, which| part_of(&private, returns, place, which);
            (part(returns.ok, "Ok"), part(returns.err, "Err"))
        }
        _ => (unit(), unit()),
    };
    let name = &expansion.identity.name;
    quote! {
        impl #contract for #handle {
            const NAME: &'static ::core::primitive::str = #name;
            type Input = ();
            type Output = #output;
            type Error = #error;
        }
    }
}
