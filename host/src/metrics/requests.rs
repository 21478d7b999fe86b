//! Requests, counted and timed while they pass: atomics, and one short look under a lock that all may hold.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry::Unit;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::{
    model::Outcome,
    steps::{Step, Steps},
};

/// Counted for as long as the host runs.
#[derive(Debug, Default)]
pub(super) struct Requests {
    counts: RwLock<HashMap<String, Arc<Counts>>>,
    in_flight: AtomicUsize,
    whole: Times,
    steps: [Times; Step::ALL.len()],
}

/// How the requests of one trigger ended.
#[derive(Debug, Default)]
struct Counts([AtomicU64; Outcome::ALL.len()]);

/// 10 µs to 10 s, in nanoseconds.
const BOUNDS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Durations by their size.
#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Requests);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Requests {
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    pub(super) fn ended(&self, owner_ref: &str, outcome: Outcome, took: Duration, steps: &Steps) {
        self.count(owner_ref, outcome);
        self.whole.observe(took);
        for (step, took) in steps.reached() {
            self.steps[step as usize].observe(took);
        }
    }

    fn count(&self, owner_ref: &str, outcome: Outcome) {
        let add = |counts: &Counts| counts.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(counts) = self.counts.read().unwrap_or_else(PoisonError::into_inner).get(owner_ref) {
            add(counts);
            return;
        }
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        add(counts.entry(owner_ref.to_owned()).or_default());
    }

    /// Forgets the triggers that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|owner_ref, _| owner_ref.is_empty() || is_there(owner_ref));
    }

    fn sorted(&self) -> Vec<(String, Arc<Counts>)> {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<_> =
            counts.iter().map(|(owner_ref, counts)| (owner_ref.clone(), counts.clone())).collect();
        counts.sort_by(|(one, _), (other, _)| one.cmp(other));
        counts
    }
}

impl Times {
    fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64());
        let bounds = bounds.chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests by the trigger or pack that they were for and how they ended";
        let mut counters = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (trigger, counts) in self.sorted() {
            for outcome in Outcome::ALL {
                let count = counts.0[outcome as usize].load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [("trigger", trigger.as_str()), ("outcome", outcome.word())];
                    let mut counter = counters.encode_family(&labels)?;
                    counter.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
                }
            }
        }
        let help = "Requests that are under way";
        let mut gauge = encoder.encode_descriptor("requests_in_flight", help, None, MetricType::Gauge)?;
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        gauge.encode_gauge(&i64::try_from(in_flight).unwrap_or(i64::MAX))?;
        let help = "From a request's head to its answer";
        let unit = Some(&Unit::Seconds);
        let whole = encoder.encode_descriptor("request_duration", help, unit, MetricType::Histogram)?;
        self.whole.encode(whole)?;
        let help = "Each step of a request, of those that reached it";
        let mut steps = encoder.encode_descriptor("request_step", help, unit, MetricType::Histogram)?;
        for step in Step::ALL {
            self.steps[step as usize].encode(steps.encode_family(&[("step", step.word())])?)?;
        }
        Ok(())
    }
}
