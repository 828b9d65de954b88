use duroxide::prelude::*;

#[event]
fn approval() {}

fn main() {}
