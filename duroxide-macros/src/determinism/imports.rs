//! The `use` items of a body.

use std::collections::HashMap;

use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::{Ident, ItemUse, UseTree};

use crate::determinism::path::is_punct;

/// The limit of chains of `use a as b; use b as c;`.
const LONGEST_CHAIN: usize = 8;

/// The full paths of imported names. Globs are not resolved.
#[derive(Clone, Default)]
pub(crate) struct Imports(HashMap<String, Vec<String>>);

impl Imports {
    /// Adds the imports that are directly among the tokens of a block.
    pub(crate) fn with_items_in(&self, tokens: &[TokenTree]) -> Self {
        let mut all = self.clone();
        for at in 0..tokens.len() {
            if let Some(end) = end_of_use(tokens, at) {
                // The compiler reports an item that does not parse.
                if let Ok(item) = syn::parse2::<ItemUse>(tokens[at..end].iter().cloned().collect()) {
                    all.add(&mut Vec::new(), &item.tree);
                }
            }
        }
        all
    }

    fn add(&mut self, prefix: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(text(&path.ident));
                self.add(prefix, &path.tree);
                prefix.pop();
            }
            UseTree::Name(name) => self.bind(prefix, &name.ident, None),
            UseTree::Rename(rename) => self.bind(prefix, &rename.ident, Some(&rename.rename)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(prefix, tree)),
            _ => {}
        }
    }

    fn bind(&mut self, prefix: &[String], ident: &Ident, rename: Option<&Ident>) {
        let mut path = prefix.to_vec();
        if ident != "self" {
            path.push(text(ident));
        }
        let Some(last) = path.last().cloned() else { return };
        let name = rename.map_or(last, text);
        if path.as_slice() != [name.as_str()] {
            self.0.insert(name, path);
        }
    }

    /// Resolves a path with the imports of the body. Returns `None` for a path in the user's own crate.
    pub(crate) fn resolve(&self, written: &[String]) -> Option<Vec<String>> {
        let mut path = written.to_vec();
        for _ in 0..LONGEST_CHAIN {
            let Some(import) = self.0.get(&path[0]) else { break };
            path.splice(..1, import.iter().cloned());
        }
        let own = ["crate", "self", "super", "Self"].contains(&path[0].as_str());
        (!own).then_some(path)
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Returns the end of a `use` item that begins at this token.
pub(crate) fn end_of_use(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let is_use = matches!(tokens.get(at), Some(TokenTree::Ident(ident)) if *ident == "use");
    // `impl Trait + use<'a>` is not an item.
    if !is_use || is_punct(tokens.get(at + 1), '<') {
        return None;
    }
    let length = tokens[at..].iter().position(|token| is_punct(Some(token), ';'))?;
    Some(at + length + 1)
}
