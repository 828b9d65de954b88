//! What the attributes turn into: the item itself, a type of the same name, and the traits on it.

mod activity;
mod durable_type;
mod event;
mod handler;
mod inputs;
mod orchestration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::ReturnType;

pub(crate) use self::activity::{activity, methods as activity_methods};
pub(crate) use self::durable_type::part_of;
pub(crate) use self::event::event;
pub(crate) use self::orchestration::{methods as orchestration_methods, orchestration};
use crate::errors::Errors;
use crate::model::{Function, Identity, Input, Kind, Place};

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
            #[allow(
                clippy::unused_async,
                clippy::needless_pass_by_value,
                clippy::unnecessary_wraps,
                clippy::missing_const_for_fn
            )]
            #function
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

    /// Where the return type is written.
    fn returns_at(&self) -> Place {
        match &self.function.sig.output {
            ReturnType::Type(_, ty) => Place::of(ty),
            ReturnType::Default => Place::of(&self.function.sig.ident),
        }
    }
}

/// A name that cannot meet one of the user's.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
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

#[cfg(test)]
mod tests;
