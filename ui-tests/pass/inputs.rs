//! No input, one, and up to eight; several are stored as an object keyed by name.
use duroxide::payload::Input as _;
use duroxide::prelude::*;

#[activity]
async fn none() -> Result<(), String> {
    Ok(())
}

#[activity]
async fn with_context(context: ActivityContext, count: u32) -> Result<u32, String> {
    let _ = context;
    Ok(count)
}

#[activity]
async fn several(
    _ctx: duroxide::ActivityContext,
    mut a: u8,
    r#type: String,
    _spare: Option<bool>,
) -> Result<u8, String> {
    a += 1;
    Ok(a + u8::try_from(r#type.len()).unwrap_or(0))
}

#[activity]
#[allow(clippy::too_many_arguments)]
async fn eight(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> Result<u8, String> {
    Ok(a + b + c + d + e + f + g + h)
}

// Without the underscore these would not be identifiers.
#[allow(clippy::just_underscores_and_digits)]
#[activity]
async fn odd(_1: u8, _type: u8, __: u8) -> Result<(), String> {
    Ok(())
}

// Parameters named like the function itself, or like names of the expansion.
#[activity]
async fn input(input: u8, ctx: u8, client: u8) -> Result<u8, String> {
    Ok(input + ctx + client)
}

#[orchestration]
async fn all(ctx: OrchestrationContext) -> Result<u8, String> {
    let fail = |_| String::new();
    none::call(&ctx).await.map_err(|_| String::new())?;
    with_context::call(&ctx, 1).await.map_err(|_| String::new())?;
    several::call(&ctx, 1, "x".into(), None).await.map_err(fail)?;
    input::call(&ctx, 1, 2, 3).await.map_err(|_| String::new())?;
    eight::call(&ctx, 1, 2, 3, 4, 5, 6, 7, 8).await.map_err(|_| String::new())
}

#[orchestration]
async fn order(ctx: OrchestrationContext, id: String, client: u8) -> Result<u8, String> {
    if client == 0 {
        return order::continue_as_new(&ctx, id, 1).await;
    }
    order::call(&ctx, id, client).await.map_err(|_| String::new())
}

async fn start(client: &Client, id: &str) -> Result<Handle<order>, duroxide::ClientError> {
    order::start(client, id, id.to_owned(), 0).await
}

fn main() {
    let _ = start;
    let _ = all;
    assert_eq!(<none as Activity>::PARAMETERS, Some([].as_slice()));
    assert_eq!(<several as Activity>::PARAMETERS, Some(["a", "type", "spare"].as_slice()));
    assert_eq!(<odd as Activity>::PARAMETERS, Some(["_1", "_type", "__"].as_slice()));
    let json = r#"{"a":1,"type":"xy","spare":true}"#;
    let input =
        <several as Activity>::Input::__read(&duroxide::Payload::from_json_bytes(json)).ok().expect("keyed by name");
    let _ = input.__write();
}
