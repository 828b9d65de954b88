use duroxide::prelude::*;

use std::borrow::Cow;

#[activity]
async fn charge(cards: Option<&[u8]>, name: Cow<'_, str>) -> Result<(), String> {
    Ok(())
}

fn main() {}
