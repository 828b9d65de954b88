use duroxide::prelude::*;

struct Person;

#[event]
struct Approval {
    by: Person,
}

fn main() {}
