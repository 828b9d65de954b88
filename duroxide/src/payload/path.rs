//! Paths of parts of a value, such as `order.items[3].price`.

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PathStep {
    /// A field or a variant: its name is part of the source code.
    Field(String),
    /// An element of a list.
    Index(usize),
    /// An entry of a map, by position: its key is user data and may be a secret.
    Entry(usize),
}

/// The numbers of steps that are shown at both ends of a long path.
const FIRST: usize = 12;
const LAST: usize = 4;

/// Returns a path as text, from its steps in order; empty for the value as a whole.
pub(super) fn show<'a>(steps: impl DoubleEndedIterator<Item = &'a PathStep> + ExactSizeIterator) -> String {
    let left_out = steps.len().saturating_sub(FIRST + LAST);
    steps.enumerate().fold(String::new(), |path, (at, step)| match step {
        _ if left_out > 0 && at == FIRST => format!("{path}..({left_out} more).."),
        _ if at > FIRST && at < FIRST + left_out => path,
        PathStep::Field(name) if path.is_empty() || path.ends_with('.') => path + name,
        PathStep::Field(name) => format!("{path}.{name}"),
        PathStep::Index(index) => format!("{path}[{index}]"),
        PathStep::Entry(index) => format!("{path}{{{index}}}"),
    })
}
