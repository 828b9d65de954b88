mod shop {
    use duroxide::prelude::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Order;

    #[activity]
    pub async fn charge(order: Order) -> Result<(), String> {
        drop(order);
        Ok(())
    }
}

fn main() {}
