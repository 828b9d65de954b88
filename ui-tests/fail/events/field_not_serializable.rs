use duroxide::prelude::*;

struct Person;

#[derive(serde::Serialize)]
struct Sum(u32);

#[event]
struct Approval {
    by: Person,
    of: String,
}

#[event]
enum Verdict {
    Yes(Sum),
    No { why: Vec<Person> },
}

fn main() {}
