//! Column lists: the columns of a SELECT are named once, and read by name.
//!
//! [`columns`] declares a module with the SQL text of the list and one position per column:
//!
//! ```text
//! columns! {
//!     /// An event `e`.
//!     pub(super) mod event { ID = "e.id", TIME = "e.time" }
//! }
//!
//! sql.rows(concat!("SELECT ", event::list!(), " FROM duroxide_events e"), [], |row| {
//!     Ok((natural(row, event::ID)?, time(row, event::TIME)?))
//! })
//! ```
//!
//! The positions are counted by the compiler, so a column that is added in the middle shifts no other one. A wrong name
//! does not compile, and a column that is never read is a warning. `row.get("time")` would be safe as well, but it
//! compares the name with all names of the statement for each value that is read.
//!
//! A second list may follow in the same SELECT: its positions begin at the `COUNT` of the first one.

/// Declares a list of columns. The items of its module: the macro `list!`, which is the SQL text as a literal; a
/// constant for the position of each column; and `COUNT`, the number of columns.
macro_rules! columns {
    (
        $(#[$doc:meta])*
        $vis:vis mod $name:ident { $first:ident = $first_sql:literal $(, $column:ident = $sql:literal)* $(,)? }
    ) => {
        $(#[$doc])*
        $vis mod $name {
            macro_rules! list {
                () => { concat!($first_sql $(, ", ", $sql)*) };
            }
            pub(in crate::sqlite) use list;

            #[allow(clippy::upper_case_acronyms, non_camel_case_types, reason = "named like the constants")]
            enum Position { $first, $($column,)* COUNT }

            pub(in crate::sqlite) const $first: usize = Position::$first as usize;
            $(pub(in crate::sqlite) const $column: usize = Position::$column as usize;)*
            #[allow(dead_code, reason = "most lists stand alone")]
            pub(in crate::sqlite) const COUNT: usize = Position::COUNT as usize;
        }
    };
}
pub(super) use columns;

#[cfg(test)]
mod tests {
    super::columns! {
        mod pair { LEFT = "1 AS l", RIGHT = "2 AS r" }
    }

    #[test]
    fn positions_are_those_of_the_text() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let select = concat!("SELECT ", pair::list!(), ", 3");
        let read = |row: &rusqlite::Row<'_>| Ok([row.get(pair::LEFT)?, row.get(pair::RIGHT)?, row.get(pair::COUNT)?]);
        assert_eq!(connection.query_row(select, [], read), Ok([1, 2, 3]));
    }
}
