//! `#[activity]`

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};

use crate::args::{self, Retry};
use crate::check;
use crate::errors::Errors;
use crate::expand::{Expansion, docs, local, parse, with_trait};
use crate::fallback;
use crate::model::{Kind, Place, Shape};

pub(crate) fn activity(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut args = args::Activity::parse(args, &mut errors);
    let expanded = match parse(item, &mut errors) {
        Err(item) => item,
        Ok(mut function) => {
            check::attributes(Kind::Activity, &mut function, &mut errors);
            check::marks(&mut function, &mut errors);
            let identity = check::identity(std::mem::take(&mut args.common), &function, &mut errors);
            check::retry(args.retry.as_ref(), &function, &mut errors);
            match check::signature(Kind::Activity, &function, args.transactional.as_ref(), &mut errors) {
                Err(partial) => fallback::function(Kind::Activity, &function, &identity, &partial),
                Ok(shape) => {
                    let inputs = &shape.inputs;
                    let expansion = Expansion {
                        kind: Kind::Activity,
                        function: &function,
                        identity: &identity,
                        inputs,
                        stub: false,
                    };
                    expand(&expansion, &shape, &args)
                }
            }
        }
    };
    let errors = errors.into_tokens();
    quote!(#expanded #errors)
}

fn expand(expansion: &Expansion<'_>, shape: &Shape, args: &args::Activity) -> TokenStream {
    let contract = expansion.contract_impl(&shape.returns, options(expansion, args));
    let section = expansion.doc_section(docs::policy(args));
    if expansion.function.is_contract() {
        let entry = expansion.contract_entry("activity");
        return expansion.durable_type(&section, &methods(expansion), &quote!(#contract #entry));
    }
    let (function, handler) = (expansion.function(&section), handler(expansion, shape, args));
    let durable_type = expansion.durable_type(&section, &methods(expansion), &quote!(#contract #handler));
    quote!(#function #durable_type)
}

pub(crate) fn methods(expansion: &Expansion<'_>) -> TokenStream {
    expansion.call("call_activity", "ActivityCall", "Calls the activity from an orchestration.")
}

/// Returns the implementation, and its entry in the registry.
fn handler(expansion: &Expansion<'_>, shape: &Shape, args: &args::Activity) -> TokenStream {
    let (private, handle) = (expansion.private(), &expansion.identity.handle);
    let (trait_name, constructor) = match (shape.transaction().is_some(), expansion.function.is_blocking()) {
        (false, true) => (quote!(BlockingActivityFn), "blocking_activity"),
        (false, false) => (quote!(ActivityFn), "activity"),
        (true, true) => (quote!(BlockingTransactionalFn), "blocking_transactional_activity"),
        (true, false) => (quote!(TransactionalFn), "transactional_activity"),
    };
    let transaction = shape.transaction().map(|ty| quote!(type Transaction = #ty;));
    let (requires, is_retryable) = (requires(expansion, shape), is_retryable(args.retry.as_ref()));
    let (run, entry) = (expansion.run(shape), expansion.entry(constructor));
    quote! {
        #[automatically_derived]
        impl #private::#trait_name for #handle { #transaction #requires #is_retryable #run }
        #entry
    }
}

fn requires(expansion: &Expansion<'_>, shape: &Shape) -> Option<TokenStream> {
    let private = expansion.private();
    let states: Vec<_> = shape.states().map(|ty| with_trait(&private, ty, "ProgramState")).collect();
    (!states.is_empty()).then(|| {
        quote! {
            fn requires() -> #private::Vec<#private::StateType> {
                #private::Vec::from([#(#states::__type()),*])
            }
        }
    })
}

fn is_retryable(retry: Option<&Retry>) -> Option<TokenStream> {
    let condition = retry?.condition.as_ref()?;
    let (check, error) = (local("check"), local("error"));
    // The explicit type moves the error about a wrong signature to the condition.
    let coerced = quote_spanned! {Place::of(condition).start=>
        let #check: fn(&Self::Error) -> ::core::primitive::bool = #condition;
    };
    Some(quote! {
        fn is_retryable(#error: &Self::Error) -> ::core::primitive::bool {
            #coerced
            #check(#error)
        }
    })
}

fn options(expansion: &Expansion<'_>, args: &args::Activity) -> Option<TokenStream> {
    let (private, options) = (expansion.private(), local("options"));
    let timeout = args.timeout.map(|limit| assignment(&options, "start_to_close", &duration(limit)));
    let overall = args.schedule_to_close.map(|limit| assignment(&options, "schedule_to_close", &duration(limit)));
    let retry = args.retry.as_ref().map(|retry| assignment(&options, "retry", &policy(&private, retry)));
    (timeout.is_some() || overall.is_some() || retry.is_some()).then(|| {
        quote! {
            fn options() -> #private::ActivityOptions {
                let mut #options = <#private::ActivityOptions as ::core::default::Default>::default();
                #timeout
                #overall
                #retry
                #options
            }
        }
    })
}

fn assignment(options: &Ident, field: &str, value: &TokenStream) -> TokenStream {
    let field = format_ident!("{field}");
    quote!(#options.#field = ::core::option::Option::Some(#value);)
}

fn policy(private: &TokenStream, retry: &Retry) -> TokenStream {
    let attempts = retry.max_attempts.map(|n| setter("max_attempts", &n));
    let initial = retry.initial_interval.map(|pause| setter("initial_interval", &duration(pause)));
    let longest = retry.max_interval.map(|pause| setter("max_interval", &duration(pause)));
    let backoff = retry.backoff.map(|factor| setter("backoff", &factor));
    quote!(#private::RetryPolicy::new() #attempts #initial #longest #backoff)
}

fn setter(name: &str, value: &impl ToTokens) -> TokenStream {
    let name = format_ident!("{name}");
    quote!(.#name(#value))
}

fn duration(duration: Duration) -> TokenStream {
    // Never saturates: the parser limits durations to 64 bits of microseconds.
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    quote!(::core::time::Duration::from_micros(#micros))
}
