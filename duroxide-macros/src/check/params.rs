//! The parameters: context, state and inputs.

use std::collections::HashSet;

use quote::format_ident;
use syn::ext::IdentExt;
use syn::{FnArg, GenericArgument, Ident, Pat, PatType, Type};

use crate::check::owned::Owned;
use crate::check::transaction;
use crate::check::{last_segment, type_arguments, ungrouped};
use crate::errors::Errors;
use crate::model::{Function, Input, Kind, Param};

const MOST_INPUTS: usize = 8;

/// Sorts the parameters into context, state and inputs.
pub(crate) struct Params<'a> {
    kind: Kind,
    function: &'a Function,
    errors: &'a mut Errors,
    pub(crate) params: Vec<Param>,
    pub(crate) inputs: Vec<Input>,
    /// The patterns of the inputs, in the same order.
    patterns: Vec<&'a Pat>,
    has_context: bool,
    /// The key `transactional`, if the activity runs in a transaction.
    transactional: Option<&'a Ident>,
    /// The type of a context that was recognised by the name of its parameter.
    pub(crate) renamed_context: Option<Box<Type>>,
}

impl<'a> Params<'a> {
    pub(crate) fn new(
        kind: Kind,
        function: &'a Function,
        transactional: Option<&'a Ident>,
        errors: &'a mut Errors,
    ) -> Self {
        let (params, inputs, patterns) = (Vec::new(), Vec::new(), Vec::new());
        let (has_context, renamed_context) = (false, None);
        Self { kind, function, errors, params, inputs, patterns, has_context, transactional, renamed_context }
    }

    pub(crate) fn add(&mut self, arg: &'a FnArg) {
        let what = self.kind.with_article();
        match arg {
            FnArg::Receiver(receiver) => self.errors.at(
                receiver,
                format!(
                    "{what} is a free function: move it out of the `impl`, and take `self` as an input or as `State`"
                ),
            ),
            FnArg::Typed(arg) => {
                if let Some(cfg) = arg.attrs.iter().find(|attr| attr.path().is_ident("cfg")) {
                    self.errors.at(
                        cfg,
                        "inputs are stored, so they must be the same in every build: put `cfg` on the function",
                    );
                }
                if self.takes_transaction(&arg.ty) {
                    return;
                }
                match role(&arg.ty) {
                    Role::Context { of, borrowed } => self.context(arg, of, borrowed),
                    Role::State(ty) => self.state(arg, ty),
                    Role::Input if self.is_at_front() && is_renamed_context(arg) => {
                        self.renamed_context = Some(arg.ty.clone());
                        self.context(arg, self.kind, false);
                    }
                    Role::Input => self.input(arg),
                }
            }
        }
    }

    /// Takes the first parameter of a transactional activity, if it is a transaction. Returns false for any other.
    fn takes_transaction(&mut self, ty: &Type) -> bool {
        let is_first = self.kind == Kind::Activity && self.params.is_empty();
        let transaction = Some(ty).filter(|_| is_first).and_then(transaction::of);
        let Some((transaction, is_mutable)) =
            transaction.filter(|(_, mutable)| *mutable || self.transactional.is_some())
        else {
            return false;
        };
        if !is_mutable {
            self.errors.at(ty, "a transaction is taken mutably: write `tx: &mut Tx<'_>`");
        } else if self.transactional.is_none() {
            self.errors
                .at(ty, "an activity that takes a transaction commits with it: write `#[activity(transactional)]`");
        } else if self.function.is_contract() {
            let message = "a contract lists only inputs: leave the transaction to the function that has the code";
            self.errors.at(ty, message);
        }
        self.params.push(Param::Transaction(Box::new(transaction)));
        true
    }

    /// Returns true if the context may come next.
    fn is_at_front(&self) -> bool {
        self.params.iter().all(|param| matches!(param, Param::Transaction(_)))
    }

    fn context(&mut self, arg: &PatType, of: Kind, borrowed: bool) {
        let (what, wanted) = (self.kind.with_article(), self.kind.context());
        if of != self.kind {
            self.errors.at(&arg.ty, format!("{what} has an `{wanted}`: write `ctx: {wanted}`"));
        } else if self.kind == Kind::Activity && self.function.is_contract() {
            self.errors.at(arg, "a contract lists only inputs: leave the context to the function that has the code");
        } else if self.has_context {
            self.errors.at(arg, "a function takes one context: remove this second one");
        } else if !self.is_at_front() {
            self.errors.at(arg, format!("the context goes first: move `ctx: {wanted}` to the front"));
        } else if borrowed {
            self.errors.at(&arg.ty, format!("the context is taken by value: write `ctx: {wanted}`"));
        }
        self.has_context |= of == self.kind || self.kind == Kind::Orchestration;
        self.params.push(Param::Context);
    }

    fn state(&mut self, arg: &PatType, ty: &Type) {
        if self.kind == Kind::Orchestration {
            let message = "an orchestration is replayed, on any node: take the value as an input, or use the state in an activity";
            self.errors.at(&arg.ty, message);
        } else if self.function.is_contract() {
            self.errors.at(arg, "a contract lists only inputs: leave the state to the function that has the code");
        }
        self.params.push(Param::State(Box::new(ty.clone())));
    }

    fn input(&mut self, arg: &'a PatType) {
        Owned::check("an input", &arg.ty, self.errors);
        if self.inputs.len() == MOST_INPUTS {
            let message =
                format!("more than {MOST_INPUTS} inputs: put them into a struct and take that as the only input");
            self.errors.at(arg, message);
        }
        let ident = stored_name(name_of(&arg.pat).cloned().unwrap_or_else(|| format_ident!("input")));
        let key = ident.unraw().to_string();
        self.params.push(Param::Input(self.inputs.len()));
        self.inputs.push(Input { ident, key, ty: (*arg.ty).clone() });
        self.patterns.push(&arg.pat);
    }

    pub(crate) fn finish(&mut self) {
        if let Some(key) = self.transactional
            && !self.params.iter().any(|param| matches!(param, Param::Transaction(_)))
        {
            let message = if self.function.is_contract() {
                "a contract lists only inputs: leave `transactional` to the function that has the code"
            } else {
                "a transactional activity takes its transaction first: `tx: &mut Tx<'_>`"
            };
            self.errors.at(key, message);
        }
        if self.kind == Kind::Orchestration && !self.has_context {
            let name = &self.function.sig.ident;
            let message = "an orchestration takes its context first: add `ctx: OrchestrationContext` (under another name, the \
                           type is recognised if the parameter is called `ctx`)";
            self.errors.at(name, message);
        }
        match (self.patterns.as_slice(), self.inputs.as_mut_slice()) {
            // A single input is stored without a name.
            ([pattern], [input]) if name_of(pattern).is_none() => "_".clone_into(&mut input.key),
            ([] | [_], _) => {}
            _ => self.names(),
        }
    }

    /// Checks that several inputs have different names, since they are stored as an object.
    fn names(&mut self) {
        let mut keys = HashSet::new();
        for (pattern, input) in self.patterns.iter().zip(&self.inputs) {
            if name_of(pattern).is_none() {
                let message = "several inputs are stored by name: give this one a name, and destructure it in the body";
                self.errors.at(pattern, message);
            } else if !keys.insert(&input.key) {
                let message = format!(
                    "two inputs would be stored as `{}` (leading underscores do not count): rename one",
                    input.key
                );
                self.errors.at(pattern, message);
            }
        }
    }
}

/// The role of a parameter, by its type.
enum Role<'a> {
    Context {
        of: Kind,
        borrowed: bool,
    },
    /// `State<T>`, with its `T`.
    State(&'a Type),
    Input,
}

fn role(ty: &Type) -> Role<'_> {
    let (ty, borrowed) = match ungrouped(ty) {
        Type::Reference(reference) => (ungrouped(&reference.elem), true),
        other => (other, false),
    };
    let Some(last) = last_segment(ty) else { return Role::Input };
    // `Arc<OrchestrationContext>`
    if let [GenericArgument::Type(inner)] = type_arguments(last).as_slice()
        && let Role::Context { of, .. } = role(inner)
    {
        return Role::Context { of, borrowed: true };
    }
    if last.ident == Kind::Activity.context() {
        return Role::Context { of: Kind::Activity, borrowed };
    }
    if last.ident == Kind::Orchestration.context() {
        return Role::Context { of: Kind::Orchestration, borrowed };
    }
    // A `State` without arguments is a type of the user's own.
    match type_arguments(last).as_slice() {
        [GenericArgument::Type(ty)] if last.ident == "State" && !borrowed => Role::State(ty),
        _ => Role::Input,
    }
}

/// Returns true if the type may be another name of the context, as in `ctx: Ctx`.
fn is_renamed_context(arg: &PatType) -> bool {
    let is_called_so = name_of(&arg.pat).is_some_and(|name| ["ctx", "_ctx", "cx", "_cx"].iter().any(|ctx| name == ctx));
    is_called_so && last_segment(ungrouped(&arg.ty)).is_some_and(|last| type_arguments(last).is_empty())
}

/// Returns the name that a pattern gives to the whole value.
fn name_of(pattern: &Pat) -> Option<&Ident> {
    match pattern {
        Pat::Ident(name) => Some(&name.ident),
        Pat::Paren(inner) => name_of(&inner.pat),
        _ => None,
    }
}

/// Returns the name under which an input is stored. A leading underscore, which only silences a lint, must not change
/// it.
fn stored_name(ident: Ident) -> Ident {
    let name = ident.unraw().to_string();
    match syn::parse_str::<Ident>(name.trim_start_matches('_')) {
        Ok(mut shorter) if shorter != name => {
            shorter.set_span(ident.span());
            shorter
        }
        _ => ident,
    }
}
