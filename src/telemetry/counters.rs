//! Counters that many threads raise at once without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::text::Text;

/// Durations sorted into buckets whose upper bounds are in seconds.
pub(super) struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// One per bound.
    buckets: [AtomicU64; N],
    over: AtomicU64,
    nanos: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            over: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound);
        bucket.map_or(&self.over, |index| &self.buckets[index]).fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum::<u64>() + self.over.load(Relaxed)
    }

    /// The samples of the family `name`; `labels` is empty or like `action="CreateKey"`.
    pub(super) fn write(&self, name: &str, labels: &str, text: &mut Text) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            sum += bucket.load(Relaxed);
            text.sample(&format!("{name}_bucket"), &format!("{{{labels}{comma}le=\"{bound}\"}}"), sum);
        }
        sum += self.over.load(Relaxed);
        let outer = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        text.sample(&format!("{name}_bucket"), &format!("{{{labels}{comma}le=\"+Inf\"}}"), sum);
        text.sample(&format!("{name}_sum"), &outer, self.nanos.load(Relaxed) as f64 / 1e9);
        text.sample(&format!("{name}_count"), &outer, sum);
    }
}
