//! `#[orchestration]`

use proc_macro2::TokenStream;
use quote::quote;

use crate::args;
use crate::check;
use crate::determinism;
use crate::errors::Errors;
use crate::expand::{Expansion, local, parse};
use crate::fallback;
use crate::model::{Function, Kind, Shape};

const DEFAULT_VERSION: &str = "1.0.0";

pub(crate) fn orchestration(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut args = args::Orchestration::parse(args, &mut errors);
    let expanded = match parse(item, &mut errors) {
        Err(item) => item,
        Ok(mut function) => {
            check::attributes(Kind::Orchestration, &mut function, &mut errors);
            check::allow(args.allowed.as_ref(), &function, &mut errors);
            let identity = check::identity(std::mem::take(&mut args.common), &function, &mut errors);
            let checked = check::signature(Kind::Orchestration, &function, None, &mut errors);
            body(&mut function, args.allowed.is_some(), &mut errors);
            match checked {
                Err(partial) => fallback::function(Kind::Orchestration, &function, &identity, &partial),
                Ok(shape) => {
                    let inputs = &shape.inputs;
                    let kind = Kind::Orchestration;
                    let expansion = Expansion { kind, function: &function, identity: &identity, inputs, stub: false };
                    let check = expansion.context_check(&shape);
                    let expanded = expand(&expansion, &shape, args.version.as_deref());
                    quote!(#expanded #check)
                }
            }
        }
    };
    let errors = errors.into_tokens();
    quote!(#expanded #errors)
}

/// Checks that the body is deterministic, and removes the opt-out marks.
fn body(function: &mut Function, allowed: bool, errors: &mut Errors) {
    if let Some(body) = &mut function.body {
        *body = if allowed {
            determinism::without_marks(body)
        } else {
            determinism::check(body, errors);
            determinism::checked(body)
        };
    }
}

fn expand(expansion: &Expansion<'_>, shape: &Shape, version: Option<&str>) -> TokenStream {
    let more = version.map(|version| quote!(const VERSION: &'static ::core::primitive::str = #version;));
    let contract = expansion.contract_impl(&shape.returns, more);
    let methods = methods(expansion, version);
    let section = expansion.doc_section([format!("this code is version `{}`", version.unwrap_or(DEFAULT_VERSION))]);
    if expansion.function.is_contract() {
        let entry = expansion.contract_entry("orchestration");
        return expansion.durable_type(&section, &methods, &quote!(#contract #entry));
    }
    let (private, handle) = (expansion.private(), &expansion.identity.handle);
    let (run, entry) = (expansion.run(shape), expansion.entry("orchestration"));
    let handler = quote! {
        #[automatically_derived]
        impl #private::OrchestrationFn for #handle { #run }
        #entry
    };
    let function = expansion.function(&section);
    let durable_type = expansion.durable_type(&section, &methods, &quote!(#contract #handler));
    quote!(#function #durable_type)
}

pub(crate) fn methods(expansion: &Expansion<'_>, version: Option<&str>) -> TokenStream {
    let (private, handle, vis) = (expansion.private(), &expansion.identity.handle, &expansion.function.vis);
    let version = version.unwrap_or(DEFAULT_VERSION);
    let call = expansion.call("call_orchestration", "ChildCall", "Runs the orchestration as a child of another one.");
    let (ctx, client, id) = (local("ctx"), local("client"), local("id"));
    let instance = quote!(#client: &#private::Client, #id: impl ::core::convert::AsRef<::core::primitive::str>);
    let start = expansion.method(
        "start",
        "Starts an instance with this id.",
        &instance,
        &quote!(#private::StartCall<#handle>),
        |input| quote!(#private::start::<#handle>(#client, #id, &#input)),
    );
    let again = expansion.method(
        "continue_as_new",
        "Ends this execution and begins the next one with an empty history: `return` the awaited result.",
        &quote!(#ctx: &#private::OrchestrationContext),
        &quote!(#private::ContinueAsNew<
            ::core::result::Result<<#handle as #private::Orchestration>::Output, <#handle as #private::Orchestration>::Error>
        >),
        |input| quote!(#private::continue_as_new::<#handle>(#ctx, &#input)),
    );
    quote! {
        #[doc = "The version of this code."]
        #vis const VERSION: &'static ::core::primitive::str = #version;
        #call
        #start
        #[doc = "Returns the handle of an instance, which may not exist yet."]
        #vis fn handle(#instance) -> #private::Handle<#handle> { #private::handle::<#handle>(#client, #id) }
        #again
    }
}
