use duroxide::prelude::*;

struct Shop;

impl Shop {
    #[activity]
    async fn charge(&self, order: u32) -> Result<u32, String> {
        Ok(order)
    }
}

fn main() {}
