//! Stored histories: any text is accepted, or refused with an error. See `tests/support/stored.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| support::stored::history(text));
