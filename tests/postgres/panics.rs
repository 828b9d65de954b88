//! Panics on the thread of the provider, as that of a waker of the program.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use duroxide::provider::*;
use duroxide::{InstanceId, Timestamp};
use duroxide_postgres::PostgresProvider;
use tokio::sync::Notify;

use crate::schema;

/// A hang would take forever.
const ENOUGH: Duration = Duration::from_secs(60);

/// A waker that panics.
#[derive(Default)]
struct Panics(Notify);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
        panic!("as the test wants");
    }
}

fn start(name: &str) -> StartRequest {
    let new = NewInstance::new(InstanceId::new(name).expect("a good id"), "flow", MessageRow::new("start"));
    StartRequest { new, if_exists: IfExists::Attach, lease: None, time: Timestamp::from_micros(1), resent: false }
}

/// Submits a start that must succeed.
async fn submit(provider: &PostgresProvider, start: StartRequest) {
    let submitted = provider.submit(vec![Submission::Start(start)]).await.expect("submit").remove(0);
    assert!(submitted.expect("started").written);
}

/// Runs a request while a waker that panics waits for work.
async fn with_panic<T>(provider: &PostgresProvider, waker: &Arc<Panics>, request: impl Future<Output = T>) -> T {
    let mut work = provider.wakeups().subscribe();
    let mut changed = pin!(work.changed());
    let waker = waker.clone().into();
    assert!(matches!(changed.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
    request.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_continue_after_a_panic() {
    let Some(schema) = schema("panics") else { return };
    let (provider, other) = (schema.connect(), schema.connect());
    let waker = Arc::new(Panics::default());
    let test = async {
        // A waker may also be woken by the task that listens, which begins with a signal.
        let unanswered = loop {
            let start = start(&duroxide::id::NodeId::new().to_string());
            let submission = vec![Submission::Start(start.clone())];
            if with_panic(&provider, &waker, provider.submit(submission)).await.is_err() {
                break start;
            }
        };
        submit(&provider, StartRequest { resent: true, ..unanswered }).await;
        // A notification of another process.
        let waker = Arc::new(Panics::default());
        with_panic(&provider, &waker, async {
            submit(&other, start("elsewhere")).await;
            waker.0.notified().await;
        })
        .await;
        let mut work = provider.wakeups().subscribe();
        submit(&other, start("later")).await;
        work.changed().await.expect("the provider is open");
    };
    tokio::time::timeout(ENOUGH, test).await.expect("in time");
}
