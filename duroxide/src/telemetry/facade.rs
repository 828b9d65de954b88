//! The handles of the `metrics` facade; without the feature, types of the same names that do nothing.

#[cfg(feature = "metrics")]
pub(crate) use metrics::{Counter, Gauge, Histogram};

#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{Counter, Gauge, Histogram};

type Labels<'a> = &'a [(&'static str, &'a str)];

/// Returns the counter with this name and these labels.
pub(crate) fn counter(name: &'static str, labels: Labels<'_>) -> Counter {
    #[cfg(feature = "metrics")]
    return metrics::counter!(name, owned(labels));
    #[cfg(not(feature = "metrics"))]
    disabled::make(name, labels, Counter)
}

/// Returns the gauge with this name and these labels.
pub(crate) fn gauge(name: &'static str, labels: Labels<'_>) -> Gauge {
    #[cfg(feature = "metrics")]
    return metrics::gauge!(name, owned(labels));
    #[cfg(not(feature = "metrics"))]
    disabled::make(name, labels, Gauge)
}

/// Returns the histogram with this name and these labels.
pub(crate) fn histogram(name: &'static str, labels: Labels<'_>) -> Histogram {
    #[cfg(feature = "metrics")]
    return metrics::histogram!(name, owned(labels));
    #[cfg(not(feature = "metrics"))]
    disabled::make(name, labels, Histogram)
}

#[cfg(feature = "metrics")]
fn owned(labels: Labels<'_>) -> Vec<metrics::Label> {
    labels.iter().map(|(key, value)| metrics::Label::new(*key, (*value).to_owned())).collect()
}

#[cfg(not(feature = "metrics"))]
mod disabled {
    #[derive(Clone)]
    pub(crate) struct Counter;
    pub(crate) struct Gauge;
    #[derive(Clone)]
    pub(crate) struct Histogram;

    pub(super) fn make<T>(_: &'static str, _: super::Labels<'_>, handle: T) -> T {
        handle
    }

    impl Counter {
        pub(crate) fn increment(&self, _: u64) {}
    }

    impl Gauge {
        pub(crate) fn set(&self, _: f64) {}
    }

    impl Histogram {
        pub(crate) fn record(&self, _: f64) {}
    }
}
