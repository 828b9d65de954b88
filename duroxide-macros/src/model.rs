//! The model of an annotated function.

use proc_macro2::{Group, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Expr, ExprLit, Ident, Lit, Meta, Path, Signature, Token, Type, Visibility, token};

/// The attribute on the function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Activity,
    Orchestration,
}

impl Kind {
    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Activity => "an activity",
            Self::Orchestration => "an orchestration",
        }
    }

    pub(crate) fn context(self) -> &'static str {
        match self {
            Self::Activity => "ActivityContext",
            Self::Orchestration => "OrchestrationContext",
        }
    }
}

/// The annotated function. Its body is kept as written, so that an editor can complete code in a half-typed body.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// The body; `None` for a contract, which ends with `;`.
    pub(crate) body: Option<Group>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let starts = [input.peek(Token![fn]), input.peek(Token![async]), input.peek(Token![const])];
        if !starts.contains(&true) && !input.peek(Token![unsafe]) && !input.peek(Token![extern]) {
            let message = "this attribute goes on a function: `async fn name(..) -> Result<T, E>`";
            return Err(syn::Error::new(input.span(), message));
        }
        let sig = input.parse()?;
        if input.peek(Token![;]) {
            input.parse::<Token![;]>()?;
            return Ok(Self { attrs, vis, sig, body: None });
        }
        if !input.peek(token::Brace) {
            let message = "a function has its body in braces; a contract has `;` in its place";
            return Err(syn::Error::new(input.span(), message));
        }
        let body = input.parse()?;
        Ok(Self { attrs, vis, sig, body: Some(body) })
    }
}

impl Function {
    /// Returns true if the function has no body, because its code is in another binary.
    pub(crate) fn is_contract(&self) -> bool {
        self.body.is_none()
    }

    pub(crate) fn is_blocking(&self) -> bool {
        self.sig.asyncness.is_none()
    }

    /// Returns the name without `r#`.
    pub(crate) fn name(&self) -> String {
        self.sig.ident.unraw().to_string()
    }

    /// Returns the lints that the user allows or expects in the function, as attributes for the generated items.
    pub(crate) fn allowed_lints(&self) -> impl Iterator<Item = TokenStream> {
        ["allow", "expect"].into_iter().flat_map(|name| self.attrs_named(name)).filter_map(|attr| {
            let lints = &attr.meta.require_list().ok()?.tokens;
            Some(quote!(#[allow(#lints)]))
        })
    }

    /// Returns the attributes of this name, such as `doc` or `cfg`, which the generated items carry too.
    pub(crate) fn attrs_named(&self, name: &str) -> impl Iterator<Item = &Attribute> {
        self.attrs.iter().filter(move |attr| attr.path().is_ident(name))
    }
}

/// Returns the first line of an item's documentation, or an empty text.
pub(crate) fn first_doc_line(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter(|attr| attr.path().is_ident("doc")).filter_map(doc_text);
    lines
        .flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        tokens.extend(match body {
            Some(body) => quote!(#(#attrs)* #vis #sig #body),
            None => quote!(#(#attrs)* #vis #sig;),
        });
    }
}

fn doc_text(attr: &Attribute) -> Option<String> {
    match &attr.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The role of one parameter of the function.
pub(crate) enum Param {
    Context,
    /// `&mut Tx<'_>`, the transaction of a transactional activity, with its `Tx<'static>`.
    Transaction(Box<Type>),
    /// `State<T>`, with its `T`.
    State(Box<Type>),
    /// The input at this index.
    Input(usize),
}

/// One input, which a caller passes.
pub(crate) struct Input {
    /// The parameter of `call` and `start`, and the field of the stored object.
    pub(crate) ident: Ident,
    /// The key in the stored object.
    pub(crate) key: String,
    pub(crate) ty: Type,
}

/// The `Result` that the function returns.
pub(crate) struct Returns {
    pub(crate) ty: Box<Type>,
    /// The target of trait errors about the output.
    pub(crate) ok: Place,
    /// The target of trait errors about the error.
    pub(crate) err: Place,
}

/// The spans of the first and the last of some tokens.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) start: Span,
    pub(crate) end: Span,
}

impl Place {
    pub(crate) fn of(tokens: impl ToTokens) -> Self {
        let mut spans = tokens.into_token_stream().into_iter().map(|token| token.span());
        let start = spans.next().unwrap_or_else(Span::call_site);
        Self { start, end: spans.last().unwrap_or(start) }
    }

    /// Moves the tokens to this place, so that errors about them point here.
    pub(crate) fn cover(self, tokens: TokenStream) -> TokenStream {
        let mut tokens: Vec<_> = tokens.into_iter().collect();
        if let Some(first) = tokens.first_mut() {
            first.set_span(self.start);
        }
        if let Some(last) = tokens.last_mut() {
            last.set_span(self.end);
        }
        tokens.into_iter().collect()
    }
}

/// A valid signature.
pub(crate) struct Shape {
    pub(crate) params: Vec<Param>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) returns: Returns,
    /// The type of a context that was recognised by the name of its parameter: another name of the context, or a mistake.
    pub(crate) renamed_context: Option<Box<Type>>,
}

impl Shape {
    /// Returns the type of the transaction that the function takes.
    pub(crate) fn transaction(&self) -> Option<&Type> {
        self.params.iter().find_map(|param| match param {
            Param::Transaction(ty) => Some(&**ty),
            _ => None,
        })
    }

    /// Returns the types that the function takes as `State<T>`.
    pub(crate) fn states(&self) -> impl Iterator<Item = &Type> {
        self.params.iter().filter_map(|param| match param {
            Param::State(ty) => Some(&**ty),
            _ => None,
        })
    }
}

/// The valid parts of a wrong signature, so that its callers still compile.
pub(crate) struct PartialShape {
    pub(crate) inputs: Vec<Input>,
    pub(crate) returns: Option<Returns>,
}

/// The names of the generated type.
pub(crate) struct Identity {
    /// `::duroxide`, or the path in `crate = path`.
    pub(crate) root: Path,
    /// The generated type, which carries `call` and the like.
    pub(crate) handle: Ident,
    /// The recorded name.
    pub(crate) name: String,
}
