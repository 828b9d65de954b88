use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) {
    let _ = order;
}

fn main() {}
