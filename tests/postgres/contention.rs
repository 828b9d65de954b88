//! Many requests for one instance that is locked.

use duroxide::provider::*;
use duroxide::{InstanceId, Timestamp};
use futures_util::future::join_all;

use crate::schema;

const REQUESTS: usize = 1000;

fn send(name: &str, n: usize) -> Vec<Submission> {
    let (to, time) = (InstanceId::new(name).expect("a good id"), Timestamp::from_micros(2));
    let message = MessageRow::new(format!("\"{n}\""));
    vec![Submission::Send(SendRequest { to, message, lease: None, time, resent: false })]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_waited_for_one_lock_are_written_together() {
    let Some(schema) = schema("contention") else { return };
    let provider = schema.connect();
    for name in ["locked", "free"] {
        let new = NewInstance::new(InstanceId::new(name).expect("a good id"), "flow", MessageRow::new("start"));
        let time = Timestamp::from_micros(1);
        let start = StartRequest { new, if_exists: IfExists::Error, lease: None, time, resent: false };
        provider.submit(vec![Submission::Start(start)]).await.expect("submit").remove(0).expect("started");
    }
    let url = support::postgres::server().expect("there is a server");
    let (user, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    user.batch_execute(&schema.within("BEGIN; SELECT 1 FROM live WHERE id = 'locked' FOR UPDATE")).await.expect("lock");
    let requests = join_all((0..REQUESTS).map(|n| provider.submit(send("locked", n))));
    tokio::pin!(requests);
    // The requests are put aside in their order, so all of them wait once the last one is answered.
    tokio::select! {
        biased;
        _ = &mut requests => panic!("the instance is locked"),
        last = async { provider.submit(send("free", 0)).await } => last.expect("submit").remove(0).map(drop).expect("sent"),
    }
    user.batch_execute("COMMIT").await.expect("commit");
    for sent in requests.await {
        sent.expect("submit").remove(0).expect("sent");
    }
    let count = "SELECT count(DISTINCT xmin::text)::integer, count(*)::integer FROM messages";
    let row = user.query_one(count, &[]).await.expect("query");
    let (transactions, messages): (i32, i32) = (row.get(0), row.get(1));
    assert_eq!(messages, i32::try_from(REQUESTS).expect("small") + 3);
    assert!(transactions < 20, "{transactions} transactions");
}
