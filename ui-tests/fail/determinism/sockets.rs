use duroxide::prelude::*;

#[orchestration]
async fn checkout(ctx: OrchestrationContext) -> Result<(), String> {
    drop(ctx);
    let _ = std::net::TcpStream::connect("127.0.0.1:1");
    Ok(())
}

fn main() {}
