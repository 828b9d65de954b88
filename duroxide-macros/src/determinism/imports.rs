//! The names that a body imports and defines.

use std::collections::{HashMap, HashSet};

use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::{Ident, ItemUse, UseTree};

use crate::determinism::path::is_punct;

/// The limit of chains of `use a as b; use b as c;`.
const LONGEST_CHAIN: usize = 8;

/// The full paths of imported names, and the names of local items. Globs are not resolved.
#[derive(Clone, Default)]
pub(crate) struct Imports {
    paths: HashMap<String, Vec<String>>,
    /// The functions, closures, modules and macros that the body defines.
    own: HashSet<String>,
}

impl Imports {
    /// Adds the imports and definitions that are directly among the tokens of a block.
    pub(crate) fn with_items_in(&self, tokens: &[TokenTree]) -> Self {
        let mut all = self.clone();
        all.own.extend((0..tokens.len()).filter_map(|at| defined(tokens, at)));
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
            self.own.remove(&name);
            self.paths.insert(name, path);
        }
    }

    /// Resolves a path with the imports of the body. Returns `None` for a path in the user's own crate.
    pub(crate) fn resolve(&self, written: &[String]) -> Option<Vec<String>> {
        let mut path = written.to_vec();
        for _ in 0..LONGEST_CHAIN {
            if self.own.contains(&path[0]) {
                return None;
            }
            let Some(import) = self.paths.get(&path[0]) else { break };
            path.splice(..1, import.iter().cloned());
        }
        let own = ["crate", "self", "super", "Self"].contains(&path[0].as_str());
        (!own).then_some(path)
    }
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Returns the name of the function, module, macro or closure that is defined at this token.
fn defined(tokens: &[TokenTree], at: usize) -> Option<String> {
    let ident = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(text(ident)),
        _ => None,
    };
    match ident(at)?.as_str() {
        "fn" | "mod" => ident(at + 1),
        "macro_rules" => ident(at + 2),
        "let" => {
            let name = at + if ident(at + 1)? == "mut" { 2 } else { 1 };
            let is_closure = is_punct(tokens.get(name + 1), '=')
                && (is_punct(tokens.get(name + 2), '|') || ident(name + 2).is_some_and(|word| word == "move"));
            ident(name).filter(|_| is_closure)
        }
        _ => None,
    }
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
