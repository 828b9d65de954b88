//! Annotated functions in modules, in function bodies, from `macro_rules!`, behind `cfg`, beside types and traits.
use duroxide::prelude::*;

mod outer {
    pub(crate) struct Hidden;

    pub(crate) mod inner {
        use super::Hidden;
        use duroxide::prelude::*;

        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct Order(pub(crate) u8);

        #[activity]
        pub(crate) async fn order(order: Order) -> Result<Order, String> {
            let Hidden = Hidden;
            Ok(order)
        }
    }
}

macro_rules! make {
    ($name:ident, $ty:ty, $ret:ty) => {
        #[activity]
        async fn $name(value: $ty) -> $ret {
            Ok(value)
        }
    };
}
make!(from_macro, u8, Result<u8, String>);

#[activity]
#[cfg(any())]
async fn absent(x: Absent) -> Result<Absent, Absent> {}

// Names that must not clash with the expansion.
#[allow(dead_code)]
struct Vec;
#[allow(dead_code)]
struct Option;
#[allow(dead_code)]
struct Order;

#[activity]
async fn order(a: u8, b: u8) -> Result<u8, String> {
    Ok(a + b)
}

mod usa {
    use duroxide::prelude::{ActivityContext, activity};

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) enum State {
        Ohio,
    }

    #[activity]
    pub(crate) async fn ship(_ctx: ActivityContext, to: State) -> Result<State, String> {
        let _ = State::Ohio;
        Ok(to)
    }
}

fn main() {
    #[activity]
    async fn local(State(n): State<u8>, a: u8, b: u8) -> Result<u8, String> {
        Ok(n + a + b)
    }
    #[orchestration]
    async fn caller(ctx: OrchestrationContext) -> Result<u8, String> {
        let a = local::call(&ctx, 1, 2).await.map_err(|_| String::new())?;
        let b = outer::inner::order::call(&ctx, outer::inner::Order(a)).await.map_err(|_| String::new())?;
        order::call(&ctx, 1, 2).await.map_err(|_| String::new())?;
        from_macro::call(&ctx, b.0).await.map_err(|_| String::new())
    }
    let _ = caller;
}
