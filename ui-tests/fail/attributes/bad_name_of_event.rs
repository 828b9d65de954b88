use duroxide::prelude::*;

#[event(name = "a\tb")]
struct Approval {
    by: String,
}

fn main() {}
