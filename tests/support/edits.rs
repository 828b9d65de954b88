//! Damages texts by a few random edits.

use proptest::prelude::*;

/// An edit of a text. Positions count modulo the length of the text.
#[derive(Debug, Clone)]
enum Edit {
    Byte(usize, u8),
    Cut(usize, usize),
    Twice(usize, usize),
    Insert(usize, &'static str),
    Swap(usize, usize),
}

/// Insertions that are hard for parsers.
const WORDS: &[&str] = &[
    "18446744073709551616",
    "18446744073709551615",
    "-9223372036854775808",
    "-1",
    "0",
    "1e999",
    "null",
    "{}",
    "[]",
    "\"\"",
    "\"",
    "}",
    "]",
    ")",
    "(",
    ",",
    ":",
    "=",
    "\n",
    "\t",
    "\\u0000",
    "\u{0}",
    "é",
    "::",
    "#",
    "'",
    "_",
    "\"1h 1h\"",
    "[[[[[[[[[[[[[[[[",
];

/// Returns a strategy that picks one of the texts, and makes up to seven edits.
pub fn damaged(texts: Vec<String>) -> impl Strategy<Value = String> {
    (proptest::sample::select(texts), proptest::collection::vec(edit(), 0..8)).prop_map(|(text, edits)| {
        let edited = edits.iter().fold(text.into_bytes(), apply);
        String::from_utf8_lossy(&edited).into_owned()
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let (at, length) = (any::<usize>(), 1..64_usize);
    prop_oneof![
        (at, any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        (any::<usize>(), length.clone()).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<usize>(), length).prop_map(|(at, length)| Edit::Twice(at, length)),
        (any::<usize>(), proptest::sample::select(WORDS)).prop_map(|(at, word)| Edit::Insert(at, word)),
        (any::<usize>(), any::<usize>()).prop_map(|(line, other)| Edit::Swap(line, other)),
    ]
}

fn apply(mut text: Vec<u8>, edit: &Edit) -> Vec<u8> {
    let place = |at: usize| at % text.len().max(1);
    let range = |at, length: usize| place(at).min(text.len())..place(at).saturating_add(length).min(text.len());
    match *edit {
        Edit::Byte(at, byte) => {
            let at = place(at);
            if let Some(old) = text.get_mut(at) {
                *old = byte;
            }
        }
        Edit::Cut(at, length) => drop(text.drain(range(at, length))),
        Edit::Twice(at, length) => {
            let part = text[range(at, length)].to_vec();
            text.splice(range(at, 0), part);
        }
        Edit::Insert(at, word) => drop(text.splice(range(at, 0), word.bytes())),
        Edit::Swap(line, other) => {
            let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
            let count = lines.len();
            lines.swap(line % count, other % count);
            return lines.join(&b'\n');
        }
    }
    text
}
