//! The transaction that a transactional activity takes.

use syn::{GenericArgument, PathArguments, Type, parse_quote_spanned};

use crate::check::ungrouped;

/// Returns the type of a transaction, with the lifetime `'static`, if the parameter is `&mut Tx<'_>`; and true if it
/// is mutable.
pub(super) fn of(ty: &Type) -> Option<(Type, bool)> {
    let Type::Reference(reference) = ungrouped(ty) else { return None };
    let Type::Path(path) = ungrouped(&reference.elem) else { return None };
    let mut path = path.clone();
    let PathArguments::AngleBracketed(list) = &mut path.path.segments.last_mut()?.arguments else { return None };
    let mut has_lifetime = false;
    for argument in &mut list.args {
        if let GenericArgument::Lifetime(lifetime) = argument {
            has_lifetime = true;
            *lifetime = parse_quote_spanned!(lifetime.span()=> 'static);
        }
    }
    has_lifetime.then_some((Type::Path(path), reference.mutability.is_some()))
}
