//! A plain function runs on the blocking pool.
use duroxide::prelude::*;

#[activity(name = "hash-file", schedule_to_close = "1h 30m")]
fn hash(path: String, rounds: u32) -> Result<u64, String> {
    Ok(path.len() as u64 * u64::from(rounds))
}

#[orchestration]
async fn caller(ctx: OrchestrationContext) -> Result<u64, String> {
    hash::call(&ctx, "a".into(), 2).await.map_err(|_| String::new())
}

fn main() {
    let _ = caller;
    assert_eq!(hash("ab".into(), 2), Ok(4));
    assert_eq!(hash::NAME, "hash-file");
    assert_eq!(<hash as Activity>::options().schedule_to_close, Some(std::time::Duration::from_secs(5400)));
}
