//! See `tests/support/stored.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| support::stored::message(text));
