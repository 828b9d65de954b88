//! The attribute macros of `duroxide`.
