//! Paths in a list of tokens.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A path such as `tokio::time::sleep`, up to its generic arguments.
pub(crate) struct Path<'a> {
    tokens: &'a [TokenTree],
    rest: &'a [TokenTree],
    /// The position behind the path.
    pub(crate) end: usize,
}

impl<'a> Path<'a> {
    /// Returns the path that begins at this token. Methods and fields are not paths.
    pub(crate) fn at(tokens: &'a [TokenTree], at: usize) -> Option<Self> {
        let start = at;
        let at = if is_colons(tokens, at) { at + 2 } else { at };
        if !matches!(tokens.get(at), Some(TokenTree::Ident(_))) || (at == start && follows_dot(tokens, at)) {
            return None;
        }
        let mut end = at + 1;
        while is_colons(tokens, end) && matches!(tokens.get(end + 2), Some(TokenTree::Ident(_))) {
            end += 3;
        }
        Some(Self { tokens: &tokens[start..end], rest: &tokens[end..], end })
    }

    /// Returns the names, without `r#`.
    pub(crate) fn segments(&self) -> Vec<String> {
        let names = self.tokens.iter().filter_map(|token| match token {
            TokenTree::Ident(ident) => Some(ident.to_string()),
            _ => None,
        });
        names.map(|name| name.trim_start_matches("r#").to_owned()).collect()
    }

    pub(crate) fn tokens(&self) -> TokenStream {
        self.tokens.iter().cloned().collect()
    }

    /// Returns the body of the macro invocation, if the path is that of a macro.
    pub(crate) fn macro_body(&self) -> Option<&'a Group> {
        match self.rest {
            [TokenTree::Punct(bang), TokenTree::Group(body), ..] if bang.as_char() == '!' => Some(body),
            _ => None,
        }
    }

    /// Returns true if arguments follow, of a function or a macro.
    pub(crate) fn is_called(&self) -> bool {
        let is_function = match self.rest.first() {
            Some(TokenTree::Group(arguments)) => arguments.delimiter() == Delimiter::Parenthesis,
            _ => is_colons(self.rest, 0),
        };
        is_function || self.macro_body().is_some()
    }
}

pub(crate) fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at| is_punct(tokens.get(at), ':');
    is_colon(at)
        && is_colon(at + 1)
        && matches!(&tokens[at], TokenTree::Punct(first) if first.spacing() == Spacing::Joint)
}

pub(crate) fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == c)
}

/// Returns true if this is a field or method, `x.name`, and not the end of a range, `0..name`.
fn follows_dot(tokens: &[TokenTree], at: usize) -> bool {
    let is_dot = |back: usize| at.checked_sub(back).is_some_and(|at| is_punct(tokens.get(at), '.'));
    is_dot(1) && !is_dot(2)
}
