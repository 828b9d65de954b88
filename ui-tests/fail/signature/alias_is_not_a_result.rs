use duroxide::prelude::*;

type Result<T> = Option<T>;

#[activity]
async fn charge() -> Result<u32> {
    Some(1)
}

fn main() {}
