//! Annotated functions of all kinds are added to a registry in the same way.
use duroxide::Registry;
use duroxide::prelude::*;

#[activity]
async fn charge(order: u32) -> Result<u32, String> {
    Ok(order)
}

#[activity(handle = Label)]
fn print_label(order: u32) -> Result<u32, String> {
    Ok(order)
}

mod shop {
    use duroxide::prelude::*;

    #[orchestration]
    pub async fn checkout(ctx: OrchestrationContext, order: u32) -> Result<u32, String> {
        drop(ctx);
        Ok(order)
    }
}

fn main() {
    let registry = Registry::empty().with::<charge>().with::<Label>().with::<shop::checkout>();
    let crates: Vec<_> = registry.entries().map(|entry| entry.place().crate_name).collect();
    assert_eq!(crates.len(), 3);
    assert!(crates.iter().all(|name| !name.is_empty()));
}
