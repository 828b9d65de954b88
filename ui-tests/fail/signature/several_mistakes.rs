use duroxide::prelude::*;

#[orchestration(vresion = "1.0.0", name = 5)]
fn checkout(order: &str, (a, b): (u8, u8)) -> u32 {
    rand::random()
}

mod rand {
    pub fn random() -> u32 {
        4
    }
}

fn main() {}
