//! The derives of serde that `#[event]` adds. They apply serde's own derives to a copy of the type, whose fields are read
//! and written through `Storable`. So a field without the traits of serde is one error at its type, in place of the four
//! that serde's derives report.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Field, Fields, Index, Member, Type, Visibility};

use crate::expand::{local, with_trait};

/// The attribute that names the module of all generated paths, as in `#[__private_path(::duroxide::__private)]`.
const PATH: &str = "__private_path";

/// Returns the lints that judge names and types of the user a second time.
fn lints() -> TokenStream {
    quote!(deprecated, nonstandard_style, clippy::all, clippy::pedantic)
}

/// Returns the attribute that the derives below need.
pub(crate) fn path_attribute(private: &TokenStream) -> TokenStream {
    let name = Ident::new(PATH, Span::call_site());
    quote!(#[#name(#private)])
}

/// Returns true if a copy of the type is read and written as the type is: it has no attribute of serde, none that is not
/// known yet, and no representation that forbids references to fields; and no type of a field contains `Self`. Without a
/// field there is nothing to copy.
pub(crate) fn suits(item: &DeriveInput) -> bool {
    let variants: Vec<_> = match &item.data {
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.attrs).collect(),
        Data::Struct(_) | Data::Union(_) => Vec::new(),
    };
    let shapes = shapes(&item.data);
    let fields: Vec<_> = shapes.iter().flat_map(|(_, fields)| fields.iter()).collect();
    let is_free = |attr: &Attribute| !["serde", "cfg_attr", "repr"].iter().any(|name| attr.path().is_ident(name));
    item.attrs.iter().chain(variants).all(is_free)
        && fields.iter().all(|field| field.attrs.iter().all(is_free) && !names_self(field.ty.to_token_stream()))
        && !fields.is_empty()
}

/// Expands `derive(Serialize)`.
pub(crate) fn serialize(item: TokenStream) -> TokenStream {
    let event = match Event::parse(item) {
        Ok(event) => event,
        Err(error) => return error.into_compile_error(),
    };
    let (private, ident) = (&event.private, &event.item.ident);
    let (serde, to) = (quote!(#private::serde), local("to"));
    let lints = lints();
    let parts = event.parts().map(|Part { name, ty, storable }| {
        quote! {
            struct #name<'__a>(&'__a #ty);
            #[automatically_derived]
            impl #serde::Serialize for #name<'_> {
                fn serialize<__S: #serde::Serializer>(&self, #to: __S) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #storable::__serialize(self.0, #to)
                }
            }
        }
    });
    let copy = event.copy("Serialize", &event.parts().next().map(|_| quote!(<'__a>)).unwrap_or_default());
    let arms = event.arms(&quote!(Self), &quote!(#ident), |name, field| (quote!(#field), quote!(#name(#field))));
    quote! {
        #[allow(#lints)]
        const _: () = {
            #(#parts)*
            #[automatically_derived]
            impl #serde::Serialize for #ident {
                fn serialize<__S: #serde::Serializer>(&self, #to: __S) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #copy
                    #serde::Serialize::serialize(&match self { #(#arms),* }, #to)
                }
            }
        };
    }
}

/// Expands `derive(Deserialize)`.
pub(crate) fn deserialize(item: TokenStream) -> TokenStream {
    let event = match Event::parse(item) {
        Ok(event) => event,
        Err(error) => return error.into_compile_error(),
    };
    let (private, ident) = (&event.private, &event.item.ident);
    let (serde, from, copied) = (quote!(#private::serde), local("from"), local("copied"));
    let lints = lints();
    let parts = event.parts().map(|Part { name, ty, storable }| {
        quote! {
            struct #name(#ty);
            #[automatically_derived]
            impl<'__de> #serde::Deserialize<'__de> for #name {
                fn deserialize<__D: #serde::Deserializer<'__de>>(#from: __D) -> ::core::result::Result<Self, __D::Error> {
                    #storable::__deserialize(#from).map(Self)
                }
            }
        }
    });
    let copy = event.copy("Deserialize", &TokenStream::new());
    let arms = event.arms(&quote!(#ident), &quote!(Self), |name, field| (quote!(#name(#field)), quote!(#field)));
    quote! {
        #[allow(#lints)]
        const _: () = {
            #(#parts)*
            #[automatically_derived]
            impl<'__de> #serde::Deserialize<'__de> for #ident {
                fn deserialize<__D: #serde::Deserializer<'__de>>(#from: __D) -> ::core::result::Result<Self, __D::Error> {
                    #copy
                    let #copied = #serde::Deserialize::deserialize(#from)?;
                    ::core::result::Result::Ok(match #copied { #(#arms),* })
                }
            }
        };
    }
}

/// A type below `#[event]`.
struct Event {
    item: DeriveInput,
    private: TokenStream,
}

/// A field of the copy: a struct of its own that holds the value, or a reference to it.
struct Part<'a> {
    name: Ident,
    ty: &'a Type,
    /// `<ty as Storable>`
    storable: TokenStream,
}

impl Event {
    fn parse(item: TokenStream) -> syn::Result<Self> {
        let item: DeriveInput = syn::parse2(item)?;
        let path = item.attrs.iter().find(|attr| attr.path().is_ident(PATH));
        let path = path.ok_or_else(|| syn::Error::new_spanned(&item.ident, "this derive is a part of `#[event]`"))?;
        let private = path.meta.require_list()?.tokens.clone();
        Ok(Self { item, private })
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let fields = shapes(&self.item.data).into_iter().flat_map(|(_, fields)| fields);
        fields.enumerate().map(|(index, Field { ty, .. })| {
            let storable = with_trait(&self.private, ty, "Storable");
            Part { name: part(index), ty, storable }
        })
    }

    /// Returns the copy, with serde's own derive. It has the name of the type, because serde's errors contain it. It is
    /// defined inside a function, where the types of the fields cannot resolve to it.
    fn copy(&self, derive: &str, generics: &TokenStream) -> TokenStream {
        let (private, ident) = (&self.private, &self.item.ident);
        let mut index = 0;
        let mut of_parts = |fields: &mut Fields| {
            for field in fields {
                let name = part(index);
                (field.attrs, field.vis) = (Vec::new(), Visibility::Inherited);
                field.ty = Type::Verbatim(quote!(#name #generics));
                index += 1;
            }
        };
        let definition = match self.item.data.clone() {
            Data::Struct(mut data) => {
                of_parts(&mut data.fields);
                let (fields, semi) = (&data.fields, data.semi_token);
                quote!(struct #ident #generics #fields #semi)
            }
            Data::Enum(mut data) => {
                for variant in &mut data.variants {
                    (variant.attrs, variant.discriminant) = (Vec::new(), None);
                    of_parts(&mut variant.fields);
                }
                let variants = &data.variants;
                quote!(enum #ident #generics { #variants })
            }
            // `#[event]` refuses it.
            Data::Union(_) => TokenStream::new(),
        };
        let (serde, derive) = (quote!(#private::serde).to_string(), format_ident!("{derive}"));
        quote! {
            #[derive(#private::serde::#derive)]
            #[serde(crate = #serde)]
            #definition
        }
    }

    /// Returns the arms of a `match` that turns one of the two types into the other. `field` returns the pattern and the
    /// value of a field, made of the name of its part and that of a variable.
    fn arms(
        &self,
        from: &TokenStream,
        to: &TokenStream,
        field: impl Fn(&Ident, &Ident) -> (TokenStream, TokenStream),
    ) -> Vec<TokenStream> {
        let mut index = 0;
        let arm = |(variant, fields): (Option<&Ident>, &Fields)| {
            let (mut patterns, mut values) = (Vec::new(), Vec::new());
            for (member, named) in fields.iter().enumerate() {
                let member = named.ident.clone().map_or_else(|| Member::Unnamed(Index::from(member)), Member::Named);
                let (pattern, value) = field(&part(index), &local(&format!("field{index}")));
                patterns.push(quote!(#member: #pattern));
                values.push(quote!(#member: #value));
                index += 1;
            }
            let variant = variant.map(|variant| quote!(::#variant));
            quote!(#from #variant { #(#patterns),* } => #to #variant { #(#values),* })
        };
        shapes(&self.item.data).into_iter().map(arm).collect()
    }
}

/// Returns the name of the part of a field.
fn part(index: usize) -> Ident {
    format_ident!("__Field{index}")
}

/// Returns the fields of a struct, or of each variant with its name.
fn shapes(data: &Data) -> Vec<(Option<&Ident>, &Fields)> {
    match data {
        Data::Struct(data) => vec![(None, &data.fields)],
        Data::Enum(data) => data.variants.iter().map(|variant| (Some(&variant.ident), &variant.fields)).collect(),
        Data::Union(_) => Vec::new(),
    }
}

/// Returns true if a type contains `Self`, which is another type in the struct of a part, or a macro, which may expand to it.
fn names_self(ty: TokenStream) -> bool {
    ty.into_iter().any(|token| match token {
        proc_macro2::TokenTree::Group(group) => names_self(group.stream()),
        token => matches!(&*token.to_string(), "Self" | "!"),
    })
}
