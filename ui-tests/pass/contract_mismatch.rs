//! A contract and its code in one program are compared when a runtime starts.
use duroxide::prelude::*;

mod contracts {
    use duroxide::prelude::*;

    #[activity]
    pub async fn ship(order: u32, express: bool) -> Result<String, String>;

    #[activity]
    pub async fn weigh(order: u32) -> Result<u32, String>;
}

mod code {
    use duroxide::prelude::*;

    #[activity]
    pub async fn ship(_ctx: ActivityContext, order: u32, State(prefix): State<String>) -> Result<String, String> {
        Ok(format!("{prefix}{order}"))
    }

    #[activity]
    pub fn weigh(number: u32) -> Result<u32, String> {
        Ok(number)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let start = Runtime::builder().in_memory().state(String::new()).start().await;
    let error = start.err().expect("the start is refused");
    assert_eq!(error.problems().len(), 1, "{error}");
    let text = error.to_string();
    assert!(text.contains("DUR0043") && text.contains("(order, express)") && text.contains("takes (order)"), "{text}");
    let _ = (contracts::ship::NAME, contracts::weigh::NAME, code::ship::NAME, code::weigh::NAME);
}
