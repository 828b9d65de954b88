//! The times of all kinds of lists.

use std::time::{Duration, Instant};

use duroxide::history::{AwaitedKind, WaitsFilter};
use duroxide::id::Epoch;
use duroxide::provider::{Admin, Dimension, Filter, Page, Subject};
use duroxide::{Client, ErrorCode, InstanceStatus, Timestamp};
use semver::Version;

use super::parts;
use crate::measure::Times;

/// The figures of one kind of list.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Its title.
    pub question: &'static str,
    /// The median of its times, in milliseconds.
    pub ms: f64,
    /// The target of this time, in milliseconds.
    pub target_ms: f64,
    /// The number of instances in the answer.
    pub found: usize,
    /// The number of instances that were searched.
    pub searched: u64,
}

pub(super) const RUNS: usize = 21;

/// Reads each kind of list several times. The client has the provider of `admin`.
///
/// # Errors
/// An error of the provider.
pub async fn queries(admin: &dyn Admin, client: &Client) -> duroxide::Result<Vec<Measured>> {
    let status = |status| Filter { statuses: vec![status], ..Filter::default() };
    let label =
        |name: &str, value: &str| Filter { labels: [(name.to_owned(), value.to_owned())].into(), ..Filter::default() };
    let rare = || Filter { name: Some("rare".to_owned()), ..Filter::default() };
    let now = Timestamp::from(std::time::SystemTime::now());
    let hours = |n: u64| now - Duration::from_secs(n * 3600);
    let hour = Filter { created_from: Some(hours(241)), created_before: Some(hours(240)), ..Filter::default() };
    let lists = [
        ("newest", Filter::default(), 0.13),
        ("created before, 15 days ago", Filter { created_before: Some(hours(15 * 24)), ..Filter::default() }, 30.0),
        ("failed", status(InstanceStatus::Failed), 0.14),
        ("cancelled (few)", status(InstanceStatus::Cancelled), 0.17),
        ("terminated (none)", status(InstanceStatus::Terminated), 0.1),
        ("suspended", status(InstanceStatus::Suspended), 0.19),
        ("label of half of the instances", label("region", "eu"), 0.17),
        ("label of 20 instances", label("customer", "c77"), 0.07),
        ("rare name, running", Filter { statuses: vec![InstanceStatus::Running], ..rare() }, 3.4),
        ("rare name, failed", Filter { statuses: vec![InstanceStatus::Failed], ..rare() }, 0.35),
        ("rare name", rare(), 84.0),
        ("id prefix of many", Filter { id_prefix: Some("order-05".to_owned()), ..Filter::default() }, 84.0),
        ("id prefix of 100", Filter { id_prefix: Some("order-00050".to_owned()), ..Filter::default() }, 1.0),
        ("version", Filter { version: Some(Version::new(1, 0, 0)), ..Filter::default() }, 0.2),
        ("node (owns none)", Filter { node: Some(Epoch(1_000_000)), ..Filter::default() }, 0.1),
        ("changed within the last hour", Filter { updated_from: Some(hours(1)), ..Filter::default() }, 30.0),
        (
            "failed, label of half of the instances",
            Filter { statuses: vec![InstanceStatus::Failed], ..label("region", "us") },
            1.0,
        ),
        ("created within an hour, ten days ago", hour, 30.0),
        ("text in the id (none)", Filter { id_contains: Some("no such text".to_owned()), ..Filter::default() }, 560.0),
        (
            "who waits for event Approval",
            Filter { waits: Some(WaitsFilter::event("Approval")), ..Filter::default() },
            0.2,
        ),
        ("who waits for activities", Filter { waits: Some(AwaitedKind::Activity.into()), ..Filter::default() }, 3.4),
        ("cause of many", Filter { cause: Some("Gateway: status #".to_owned()), ..Filter::default() }, 10.0),
        ("suspended with DUR0001", Filter { suspension: Some(ErrorCode::Nondeterminism), ..Filter::default() }, 0.3),
    ];
    let mut measured = Vec::new();
    for (question, filter, target_ms) in lists {
        let page = Page::new(50);
        let mut times = Times::default();
        let (mut found, mut searched) = (0, 0);
        for _ in 0..RUNS {
            let begun = Instant::now();
            let answer = admin.list(&filter, &page).await?;
            times.push(begun.elapsed());
            (found, searched) = (answer.instances.len(), answer.searched);
        }
        measured.push(Measured { question, ms: times.percentile_ms(0.5), target_ms, found, searched });
    }
    measured.extend(groups(admin).await?);
    for (question, before, target_ms) in
        [("prune, nothing due", hours(90 * 24), 0.5), ("prune, nothing due, two days to search", hours(30 * 24), 30.0)]
    {
        let mut times = Times::default();
        for _ in 0..RUNS {
            let mut batch = Page::new(500);
            let begun = Instant::now();
            loop {
                let pruned = admin.prune(&Filter::default(), before, &batch).await?;
                batch.after = pruned.next;
                if batch.after.is_none() {
                    break;
                }
            }
            times.push(begun.elapsed());
        }
        measured.push(Measured { question, ms: times.percentile_ms(0.5), target_ms, found: 0, searched: 0 });
    }
    let mut times = Times::default();
    for _ in 0..RUNS {
        let begun = Instant::now();
        admin.nodes().await?;
        times.push(begun.elapsed());
    }
    measured.push(Measured { question: "nodes", ms: times.percentile_ms(0.5), target_ms: 3.5, found: 0, searched: 0 });
    measured.extend(parts::parts(admin, client).await?);
    Ok(measured)
}

/// Counts the open instances and the queues several times.
async fn groups(admin: &dyn Admin) -> duroxide::Result<Vec<Measured>> {
    let open = vec![InstanceStatus::Running, InstanceStatus::Suspended];
    let open = Filter { statuses: open, ..Filter::default() };
    let hour = Timestamp::from(std::time::SystemTime::now()) - Duration::from_secs(3600);
    let failed = Filter { statuses: vec![InstanceStatus::Failed], finished_from: Some(hour), ..Filter::default() };
    let counts = [
        ("groups: open, by name and waits", Subject::Instances, vec![Dimension::Name, Dimension::Waits], 200.0),
        ("groups: open, by cause", Subject::Instances, vec![Dimension::Cause], 200.0),
        ("groups: open, by name and status", Subject::Instances, vec![Dimension::Name, Dimension::Status], 39.0),
        ("groups: queues", Subject::Activities, vec![Dimension::Name, Dimension::Tag, Dimension::State], 100.0),
        ("groups: activities, by cause", Subject::Activities, vec![Dimension::Name, Dimension::Cause], 100.0),
        ("groups: timers, by minute", Subject::Timers, vec![Dimension::Minute], 100.0),
    ];
    let mut measured = Vec::new();
    let of_open = |of| if of == Subject::Instances { open.clone() } else { Filter::default() };
    let counts = counts.map(|(question, of, by, target_ms)| (question, of, of_open(of), by, target_ms));
    let failed = ("groups: failed in the last hour, by name", Subject::Instances, failed, vec![Dimension::Name], 11.0);
    for (question, of, filter, by, target_ms) in counts.into_iter().chain([failed]) {
        let (mut times, mut found) = (Times::default(), 0);
        for _ in 0..RUNS {
            let begun = Instant::now();
            found = admin.groups(of, &filter, &by, Page::DEFAULT_TIME_LIMIT).await?.groups.len();
            times.push(begun.elapsed());
        }
        measured.push(Measured { question, ms: times.percentile_ms(0.5), target_ms, found, searched: 0 });
    }
    Ok(measured)
}
