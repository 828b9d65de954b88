//! The traits without the attributes.
use duroxide::prelude::*;

enum Add {}

impl Activity for Add {
    const NAME: &'static str = "add";
    type Input = (u8, u8);
    type Output = u8;
    type Error = String;
}

impl ActivityFn for Add {
    async fn run(_: ActivityContext, (a, b): (u8, u8)) -> Result<u8, String> {
        Ok(a + b)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Ping;

impl Event for Ping {
    const NAME: &'static str = "ping";
}

fn main() {
    let options = <Add as Activity>::options();
    assert_eq!((Add::NAME, options.start_to_close), ("add", None));
    let _ = Ping;
}
