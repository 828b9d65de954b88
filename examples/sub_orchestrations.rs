//! Orchestrations that call orchestrations: children, with an id or without, and detached starts.

use std::time::Duration;

use duroxide::prelude::*;

#[activity]
async fn reserve(item: String) -> Result<String, String> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("  asked for {item}");
    if item.contains("castle") { Err("fully booked".to_owned()) } else { Ok(format!("{item}: reserved")) }
}

/// A child. It is an ordinary orchestration, which a client could start as well.
#[orchestration]
async fn book(ctx: OrchestrationContext, item: String, days_before: u64) -> Result<String, String> {
    tracing::info!("{} books {item} {days_before} days before", ctx.execution());
    // The error of the activity becomes the error of the child, which becomes the error of the call in the parent.
    reserve::call(&ctx, item).await.map_err(|error| error.to_string())
}

/// Continues after the trip is planned.
#[orchestration]
async fn ask_how_it_was(ctx: OrchestrationContext, trip: String) -> duroxide::Result<String> {
    ctx.sleep(Duration::from_millis(300)).await;
    Ok(format!("how was {trip}?"))
}

#[orchestration]
async fn plan_trip(ctx: OrchestrationContext, trip: String) -> duroxide::Result<Vec<String>> {
    // Two concurrent children. The first has a chosen id, by which a client can find it; the id of the second is
    // derived from that of its parent, and is never taken.
    let (flight, hotel) = join!(
        book::call(&ctx, format!("flight to {trip}"), 30).id(format!("{trip}-flight")),
        book::call(&ctx, format!("castle near {trip}"), 7),
    );

    // A failed child is an ordinary error: handle it, or return it with `?`.
    let hotel = match hotel {
        Ok(hotel) => hotel,
        Err(error) => {
            tracing::warn!("no castle: {error}; a hostel will do");
            book::call(&ctx, format!("hostel in {trip}"), 7).await?
        }
    };

    // Detached: this orchestration waits for the start, not for the end. A child would be cancelled if its parent ended
    // first, unless `.on_parent_close(..)` sets another policy.
    let survey = ask_how_it_was::call(&ctx, trip.clone()).detached().await?;
    tracing::info!("{survey} is independent");
    Ok(vec![flight?, hotel])
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    println!("planning a trip with three bookings and a survey");
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false).init();
    let runtime = Runtime::builder().in_memory().start().await?;
    let client = runtime.client();

    let trip = plan_trip::start(&client, "trip-1", "lisbon".to_owned()).await?;
    println!("the trip: {:?}", trip.result().await?);
    // A client gets a handle of the child by its id.
    println!("the flight: {}", book::handle(&client, "lisbon-flight").result().await?);

    let everything = client.list(&duroxide::Filter::default(), 100).await?;
    println!("all instances, newest first:");
    for instance in &everything.instances {
        println!("  {:14} {:10} {}", instance.execution.instance, instance.status, instance.name);
    }
    runtime.shutdown().await?;
    Ok(())
}
