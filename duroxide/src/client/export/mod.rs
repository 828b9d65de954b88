//! Instances as JSON: the form, exports and imports.

mod exports;
mod form;
mod import;
#[cfg(test)]
mod tests;

pub use self::exports::Exports;
pub use self::form::InstanceExport;
