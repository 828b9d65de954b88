use duroxide::prelude::*;

#[event]
union Approval {
    by: u32,
}

fn main() {}
