//! Contracts of one function without its code are compared with each other.
use duroxide::prelude::*;
use duroxide::{ErrorCode, Registry};

mod shop {
    use duroxide::prelude::*;

    #[activity]
    pub async fn ship(order: u32, express: bool) -> Result<String, String>;

    #[activity]
    pub async fn weigh(order: u32) -> Result<u32, String>;
}

mod billing {
    use duroxide::prelude::*;

    #[activity]
    pub async fn ship(order: u32, insured: bool) -> Result<String, String>;

    #[activity]
    pub async fn weigh(parcel: u32) -> Result<u32, String>;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let start = Runtime::builder().registry(Registry::empty()).in_memory().start().await;
    let error = start.err().expect("the start is refused");
    let [(code, problem)] = error.problems() else { panic!("{error}") };
    assert_eq!(*code, ErrorCode::ContractMismatch);
    for part in ["`ship`", "(order, express)", "(order, insured)", "contracts_differ.rs:9", "contracts_differ.rs:19"] {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    let _ = (shop::ship::NAME, shop::weigh::NAME, billing::ship::NAME, billing::weigh::NAME);
}
