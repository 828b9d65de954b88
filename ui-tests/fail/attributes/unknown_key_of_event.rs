use duroxide::prelude::*;

#[event(version = "1.0.0")]
struct Approval {
    by: String,
}

fn main() {}
