//! Orchestrations that call orchestrations: children, with an id or without, and starts that answer to nobody.

use std::time::Duration;

use duroxide::prelude::*;

#[activity]
async fn reserve(what: String) -> Result<String, String> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("  asked for {what}");
    if what.contains("castle") { Err("fully booked".to_owned()) } else { Ok(format!("{what}: reserved")) }
}

/// A child. It is an orchestration as any other: it could be started from outside just as well.
#[orchestration]
async fn book(ctx: OrchestrationContext, what: String, days_before: u64) -> Result<String, String> {
    tracing::info!("{} books {what} {days_before} days before", ctx.execution());
    // The error of the activity becomes the error of the child, which becomes the error of the call in the parent.
    reserve::call(&ctx, what).await.map_err(|error| error.to_string())
}

/// Goes on after the trip has been planned.
#[orchestration]
async fn ask_how_it_was(ctx: OrchestrationContext, trip: String) -> duroxide::Result<String> {
    ctx.sleep(Duration::from_millis(300)).await;
    Ok(format!("how was {trip}?"))
}

#[orchestration]
async fn plan_trip(ctx: OrchestrationContext, trip: String) -> duroxide::Result<Vec<String>> {
    // Two children side by side. The first is given a name, under which everybody can find it; the second gets one that
    // is made of its parent's, and is never taken.
    let (flight, hotel) = join!(
        book::call(&ctx, format!("flight to {trip}"), 30).id(format!("{trip}-flight")),
        book::call(&ctx, format!("castle near {trip}"), 7),
    );

    // A child that fails is an error like any other: handle it, or hand it on with `?`.
    let hotel = match hotel {
        Ok(hotel) => hotel,
        Err(error) => {
            tracing::warn!("no castle: {error}; a hostel will do");
            book::call(&ctx, format!("hostel in {trip}"), 7).await?
        }
    };

    // Detached: its start is sure, its end is no concern of this orchestration. A child would be cancelled when its parent
    // ends before it, unless `.on_parent_close(..)` says otherwise.
    let survey = ask_how_it_was::call(&ctx, trip.clone()).detached().await?;
    tracing::info!("{survey} goes on by itself");
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
    // The child with a name has a handle of its own.
    println!("the flight: {}", book::handle(&client, "lisbon-flight").result().await?);

    let everything = client.list(&duroxide::Filter::default(), 100).await?;
    println!("all instances, newest first:");
    for instance in &everything.instances {
        println!("  {:14} {:10} {}", instance.execution.instance, instance.status, instance.name);
    }
    runtime.shutdown().await
}
