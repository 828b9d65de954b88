//! `#[event]`

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, Item, ItemEnum, ItemStruct, Path, Token};

use crate::args::Common;
use crate::check::default_root;
use crate::errors::Errors;
use crate::expand::{event_serde, place, private};
use crate::literal;
use crate::model::first_doc_line;

pub(crate) fn event(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = Common::parse_event(args, &mut errors);
    let expanded = match syn::parse2(item.clone()) {
        Ok(
            Item::Struct(ItemStruct { attrs, ident, generics, .. })
            | Item::Enum(ItemEnum { attrs, ident, generics, .. }),
        ) => {
            if generics.params.is_empty() {
                expand(args, &attrs, &ident, &item, &mut errors)
            } else {
                let message =
                    "an event is found by its name alone, so its type cannot be generic: write one for each payload";
                errors.at(generics, message);
                item
            }
        }
        Ok(other) => {
            errors.at(first_token(&other), "`#[event]` goes on a struct or an enum: the payload of the event");
            item
        }
        Err(error) => {
            errors.push(error);
            item
        }
    };
    let errors = errors.into_tokens();
    quote!(#expanded #errors)
}

fn first_token(item: &Item) -> TokenStream {
    item.to_token_stream().into_iter().take(1).collect()
}

fn expand(args: Common, attrs: &[Attribute], ident: &Ident, item: &TokenStream, errors: &mut Errors) -> TokenStream {
    let name = args.name.unwrap_or_else(|| {
        let name = ident.unraw().to_string();
        if let Err(message) = literal::name(&name) {
            errors.at(ident, message);
        }
        name
    });
    let private = private(&args.root.unwrap_or_else(default_root));
    let derives = serde_derives(&private, attrs, item);
    let cfgs: Vec<_> = attrs.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
    let place = place(&private, ident.span(), &first_doc_line(attrs));
    quote! {
        #derives
        #item
        #(#cfgs)*
        #[automatically_derived]
        #[allow(deprecated)]
        impl #private::Event for #ident {
            const NAME: &'static ::core::primitive::str = #name;
        }
        #(#cfgs)*
        #[allow(deprecated)]
        const _: () = {
            #private::inventory::submit! { #private::EventType::new::<#ident>(#name, #place) }
        };
    }
}

/// Returns the missing derives of serde. A derive above `#[event]` has expanded before, and is not seen here: then the
/// compiler reports the second implementation at `#[event]`, and names the module of this derive.
fn serde_derives(private: &TokenStream, attrs: &[Attribute], item: &TokenStream) -> Option<TokenStream> {
    let there: Vec<String> = attrs.iter().filter(|attr| attr.path().is_ident("derive")).flat_map(derived).collect();
    let missing = ["Serialize", "Deserialize"].into_iter().filter(|name| !there.iter().any(|there| there == name));
    let missing: Vec<_> = missing.map(|name| format_ident!("{name}")).collect();
    if missing.is_empty() {
        return None;
    }
    if syn::parse2(item.clone()).is_ok_and(|item| event_serde::suits(&item)) {
        let path = event_serde::path_attribute(private);
        return Some(quote!(#[derive(#(#private::derived_unless_below_event::#missing),*)] #path));
    }
    let serde = quote!(#private::serde).to_string();
    let location = (!attrs.iter().any(names_serde_crate)).then(|| quote!(#[serde(crate = #serde)]));
    Some(quote!(#[derive(#(#private::derived_unless_below_event::with_attributes::#missing),*)] #location))
}

/// Returns the names in `#[derive(..)]`, without their paths.
fn derived(attr: &Attribute) -> Vec<String> {
    let paths = attr.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).unwrap_or_default();
    paths.iter().filter_map(|path| path.segments.last()).map(|last| last.ident.to_string()).collect()
}

fn names_serde_crate(attr: &Attribute) -> bool {
    let is_crate = |token: proc_macro2::TokenTree| token.to_string() == "crate";
    attr.path().is_ident("serde")
        && attr.meta.require_list().is_ok_and(|list| list.tokens.clone().into_iter().any(is_crate))
}
