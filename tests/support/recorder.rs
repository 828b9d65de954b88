//! A recorder of metrics whose values are read without a change, and can be waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tokio::sync::watch;

/// The values of metrics, as they were recorded.
#[derive(Default)]
pub struct Recorded {
    series: Mutex<BTreeMap<Labels, Arc<Series>>>,
    changed: Arc<watch::Sender<()>>,
    /// True if gauges and histograms are not recorded: the values of a histogram are kept one by one.
    counters_alone: bool,
}

/// The name of a metric, and its labels, sorted by their names.
type Labels = (String, Vec<(String, String)>);

/// The values of one metric with one value of each label.
struct Series {
    values: Mutex<Values>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Default)]
struct Values {
    count: u64,
    gauge: f64,
    histogram: Vec<f64>,
}

impl Recorded {
    /// Returns a recorder of counters.
    pub fn counters() -> Self {
        Self { counters_alone: true, ..Self::default() }
    }

    /// Returns the sum of the counters that have these labels, among others.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.with(name, labels).iter().map(|(_, series)| series.lock().count).sum()
    }

    /// Returns the sums of the counters of a metric, by the values of a label. Those of zero are left out.
    pub fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((_, labels), series) in self.with(name, &[]) {
            let count = series.lock().count;
            if let Some((_, value)) = labels.into_iter().find(|(of, _)| of == label).filter(|_| count > 0) {
                *sums.entry(value).or_default() += count;
            }
        }
        sums
    }

    /// Returns the sum of the gauges with these labels; `None` if there is none.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found = self.with(name, labels);
        (!found.is_empty()).then(|| found.iter().map(|(_, series)| series.lock().gauge).sum())
    }

    /// Returns the values of the histograms with these labels.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.with(name, labels).iter().flat_map(|(_, series)| series.lock().histogram.clone()).collect()
    }

    /// Waits until the values are so.
    ///
    /// # Panics
    /// If they are not so within a minute.
    pub async fn until(&self, mut are_so: impl FnMut(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = tokio::time::timeout(Duration::from_secs(60), changed.wait_for(|()| are_so(self)));
        wait.await.expect("the values change").expect("the sender lives");
    }

    fn with(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(Labels, Arc<Series>)> {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |(of, having): &Labels| {
            let has_label = |(name, value): &(&str, &str)| having.iter().any(|(n, v)| n == name && v == value);
            of == name && labels.iter().all(has_label)
        };
        all.iter().filter(|(labels, _)| has(labels)).map(|(labels, series)| (labels.clone(), series.clone())).collect()
    }

    fn series(&self, key: &Key) -> Arc<Series> {
        let mut labels: Vec<_> = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        labels.sort_unstable();
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Series { values: Mutex::default(), changed: self.changed.clone() });
        all.entry((key.name().to_owned(), labels)).or_insert_with(made).clone()
    }
}

impl Series {
    fn lock(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Values)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if self.counters_alone { Gauge::noop() } else { Gauge::from_arc(self.series(key)) }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if self.counters_alone { Histogram::noop() } else { Histogram::from_arc(self.series(key)) }
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.change(|values| values.count += value);
    }

    fn absolute(&self, value: u64) {
        self.change(|values| values.count = value);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.change(|values| values.gauge += value);
    }

    fn decrement(&self, value: f64) {
        self.change(|values| values.gauge -= value);
    }

    fn set(&self, value: f64) {
        self.change(|values| values.gauge = value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.change(|values| values.histogram.push(value));
    }
}
