//! The expansions of the attributes: the item itself, a type of the same name, and its traits.

mod activity;
mod docs;
mod durable_type;
mod event;
mod event_serde;
mod function;
mod handler;
mod inputs;
mod orchestration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{ReturnType, Type};

pub(crate) use self::activity::{activity, methods as activity_methods};
pub(crate) use self::durable_type::part_of;
pub(crate) use self::event::event;
pub(crate) use self::event_serde::{deserialize as event_deserialize, serialize as event_serialize};
pub(crate) use self::orchestration::{methods as orchestration_methods, orchestration};
use crate::errors::Errors;
use crate::model::{Function, Identity, Input, Kind, Place};

/// Parses the function. For another item, reports the error and returns the tokens unchanged.
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
    /// The parameters of `call` and `start`.
    pub(crate) inputs: &'a [Input],
    /// True for a wrong function: its type has the methods, but they do nothing.
    pub(crate) stub: bool,
}

impl Expansion<'_> {
    /// Returns the module of all generated paths.
    pub(crate) fn private(&self) -> TokenStream {
        private(&self.identity.root)
    }

    /// Returns the trait that callers link: `Activity` or `Orchestration`.
    pub(crate) fn contract(&self) -> TokenStream {
        let private = self.private();
        match self.kind {
            Kind::Activity => quote!(#private::Activity),
            Kind::Orchestration => quote!(#private::Orchestration),
        }
    }

    /// Returns the place of the return type.
    fn returns_at(&self) -> Place {
        match &self.function.sig.output {
            ReturnType::Type(_, ty) => Place::of(ty),
            ReturnType::Default => Place::of(&self.function.sig.ident),
        }
    }
}

/// Returns a name that cannot clash with one of the user's.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Returns `<ty as Trait>`. If the type does not have the trait, the error points at the type.
fn with_trait(private: &TokenStream, ty: &Type, name: &str) -> TokenStream {
    let (place, name) = (Place::of(ty), format_ident!("{name}"));
    let (open, rest) = (quote_spanned!(place.start=> <), quote_spanned!(place.end=> as #private::#name>));
    quote!(#open #ty #rest)
}

/// Returns the place of an item in the source. The span of its name makes this its line.
fn place(private: &TokenStream, name: Span, doc: &str) -> TokenStream {
    let line = quote_spanned!(name=> ::core::line!());
    let file = quote_spanned!(name=> ::core::file!());
    quote! {
        #private::Place {
            crate_name: ::core::env!("CARGO_PKG_NAME"),
            module: ::core::module_path!(),
            file: #file,
            line: #line,
            doc: #doc,
        }
    }
}

pub(crate) fn private(root: &syn::Path) -> TokenStream {
    quote!(#root::__private)
}

#[cfg(test)]
mod tests;
