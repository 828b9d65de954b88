use duroxide::Registry;
use duroxide::prelude::*;

#[activity]
async fn ship(order: u32) -> Result<u32, String>;

fn main() {
    let _ = Registry::empty().with::<ship>();
}
