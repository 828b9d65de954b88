use duroxide::prelude::*;

#[event]
struct Approval<T> {
    by: T,
}

fn main() {}
