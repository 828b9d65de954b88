use duroxide::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Receipt(std::marker::PhantomData<*const ()>);

#[activity]
fn charge() -> Result<Receipt, String> {
    Err(String::new())
}

fn main() {}
