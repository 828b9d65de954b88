use duroxide::prelude::*;

#[allow(non_camel_case_types)]
struct order {
    id: u32,
}

#[activity]
async fn order(id: u32) -> Result<u32, String> {
    Ok(id)
}

fn main() {}
