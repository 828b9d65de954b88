use duroxide::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order(std::marker::PhantomData<*const ()>);

#[activity]
async fn charge(order: Order) -> Result<(), String> {
    drop(order);
    Ok(())
}

fn main() {}
