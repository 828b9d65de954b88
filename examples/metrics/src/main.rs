//! Serves the metrics of a runtime on `http://127.0.0.1:9464/metrics`, as text for Prometheus.
//!
//! ```text
//! cargo run -p metrics-example
//! curl -s http://127.0.0.1:9464/metrics | grep duroxide_orchestration
//! ```

use std::io;
use std::sync::Arc;

use duroxide::client::StoreMetrics;
use duroxide::prelude::*;
use duroxide::telemetry::{self, METRICS};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Fails now and then, so that there are retries to be seen.
#[activity(retry(max_attempts = 5, initial_interval = "100ms"))]
async fn charge(ctx: ActivityContext, order: u32) -> duroxide::Result<u32> {
    match (order + ctx.attempt()) % 3 {
        0 => Err(duroxide::Error::new("the gateway is busy")),
        _ => Ok(order * 100),
    }
}

#[orchestration]
async fn checkout(ctx: OrchestrationContext, order: u32) -> duroxide::Result<u32> {
    ctx.sleep(seconds(1)).await;
    Ok(charge::call(&ctx, order).await?)
}

#[tokio::main]
async fn main() -> duroxide::Result<()> {
    tracing_subscriber::fmt().init();
    // First the recorder, then the runtime: the runtime keeps the handles that it makes.
    let recorder = install()?;
    let runtime = Runtime::builder().in_memory().start().await?;
    let listener = TcpListener::bind("127.0.0.1:9464").await?;
    println!("metrics on http://{}/metrics", listener.local_addr()?);
    let page = Page { store: StoreMetrics::new(runtime.client()), recorder };
    tokio::spawn(serve(listener, Arc::new(page)));

    for order in 0.. {
        checkout::start(&runtime.client(), format!("order-{order}"), order).await?;
        tokio::time::sleep(seconds(1)).await;
    }
    Ok(())
}

/// Installs the recorder of Prometheus, with the buckets that suit each histogram.
fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)?;
    }
    let recorder = builder.install_recorder()?;
    telemetry::describe();
    Ok(recorder)
}

/// The page that Prometheus scrapes.
struct Page {
    store: StoreMetrics,
    recorder: PrometheusHandle,
}

impl Page {
    async fn text(&self) -> String {
        // Only one process of a store reports its gauges: they are those of the whole store.
        if let Err(error) = self.store.update().await {
            eprintln!("the store cannot be read: {error}");
        }
        self.recorder.run_upkeep();
        self.recorder.render()
    }
}

/// Answers each request with the page. A web framework would do this in a program that has one.
async fn serve(listener: TcpListener, page: Arc<Page>) -> io::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        let page = page.clone();
        tokio::spawn(async move { answer(connection, &page).await });
    }
}

async fn answer(mut connection: TcpStream, page: &Page) -> io::Result<()> {
    let (reader, mut writer) = connection.split();
    let mut lines = BufReader::new(reader).lines();
    // The head of a request ends with an empty line.
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let text = page.text().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
    writer.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let recorder = install().expect("a recorder");
        let runtime = Runtime::builder().in_memory().start().await.expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Arc::new(Page { store: StoreMetrics::new(runtime.client()), recorder })));
        let paid = checkout::start(&runtime.client(), "order-1", 1).await.expect("a start");
        checkout::start(&runtime.client(), "order-2", 2).delay(hours(1)).await.expect("a start");
        assert_eq!(paid.result().await.expect("a result"), 100);

        assert_shows(
            address,
            &[
                "duroxide_active_orchestrations{name=\"checkout\",version=\"none\",state=\"running\"} 1",
                "duroxide_client_requests_total{operation=\"start\",outcome=\"ok\"} 2",
                "duroxide_nodes 1",
                "# TYPE duroxide_provider_operation_duration_seconds histogram",
                "# HELP duroxide_turn_duration_seconds Time that a turn has run",
            ],
        )
        .await;
        // A node counts a commit once it has the answer, which may be after the client has the result.
        runtime.shutdown().await.expect("a shutdown");
        assert_shows(
            address,
            &[
                "duroxide_orchestration_starts_total{name=\"checkout\",version=\"1.0.0\"} 1",
                "duroxide_orchestration_ends_total{name=\"checkout\",version=\"1.0.0\",outcome=\"completed\"} 1",
                "duroxide_activity_outcomes_total{name=\"charge\",outcome=\"completed\"} 1",
            ],
        )
        .await;
    }

    async fn assert_shows(address: SocketAddr, lines: &[&str]) {
        let mut connection = TcpStream::connect(address).await.expect("a connection");
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request");
        let mut text = String::new();
        connection.read_to_string(&mut text).await.expect("an answer");
        for line in lines {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
