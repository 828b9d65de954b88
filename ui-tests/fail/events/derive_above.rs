use duroxide::prelude::*;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[event]
struct Approval {
    by: String,
}

fn main() {}
