//! Instances as JSON: the form, exports and imports.

mod exports;
mod form;
mod import;

pub use self::exports::Exports;
pub use self::form::InstanceExport;
