use duroxide::prelude::*;

#[activity]
struct Charge;

fn main() {}
