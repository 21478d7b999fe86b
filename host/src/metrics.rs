//! What is counted and timed, in the words of Prometheus.

mod requests;
mod snapshot;

use std::{sync::Arc, time::Duration};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::{Registry, Unit};

use self::requests::Requests;
pub use self::{
    requests::InFlight,
    snapshot::{OfMapper, OfQueue, Snapshot},
};
use crate::{fault::Fault, model::Outcome, steps::Steps};

/// Counted for as long as the host runs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    batch_sizes: Histogram,
    batches: Histogram,
    batches_failed: Counter,
    store_failures: Family<OfFault, Counter>,
    log_rows_dropped: Counter,
    connections: Gauge,
    connections_refused: Counter,
    traces: Family<OfTraces, Counter>,
    pack_changes: Family<Changed, Counter>,
    pack_loads: Histogram,
    pack_swaps: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTraces {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFault {
    fault: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Changed {
    change: &'static str,
}

/// What can become of a change in the packs folder.
pub const CHANGES: [&str; 6] = ["loaded", "changed", "moved", "refused", "mended", "removed"];

/// What can become of a trace: taken by the collector, not taken, no room in the queue, more than are allowed a second.
const TRACES: [&str; 4] = ["sent", "failed", "dropped", "over_limit"];

/// Milliseconds to a minute: from a pack that is all YAML to one with a mapper in Python.
const LOAD_SECONDS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 60.0];
/// A commit on a fast disk to a statement's time limit.
const BATCH_SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
const BATCH_DELIVERIES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hookpack");
        let requests = Arc::new(Requests::default());
        registry.register_collector(Box::new(requests.clone()));

        let (batch_sizes, batches) = (Histogram::new(BATCH_DELIVERIES), Histogram::new(BATCH_SECONDS));
        let help = "Deliveries that were stored in one transaction";
        registry.register("batch_deliveries", help, batch_sizes.clone());
        let help = "From the first statement of a batch of deliveries to its commit";
        registry.register_with_unit("batch_duration", help, Unit::Seconds, batches.clone());
        let (batches_failed, log_rows_dropped) = (Counter::default(), Counter::default());
        let help = "Batches that the database did not take; most are tried again";
        registry.register("batches_failed", help, batches_failed.clone());
        let store_failures = Family::<OfFault, Counter>::default();
        for fault in Fault::ALL {
            drop(store_failures.get_or_create(&OfFault { fault: fault.as_str() }));
        }
        let help = "Writes that the database did not take, by what kept it from it";
        registry.register("store_failures", help, store_failures.clone());
        let help = "Rows of the request log that were given up because too many waited";
        registry.register("log_rows_dropped", help, log_rows_dropped.clone());

        let (connections, connections_refused) = (Gauge::default(), Counter::default());
        registry.register("connections", "Open connections", connections.clone());
        let help = "Connections that were closed at once: their source address had all that it may have";
        registry.register("connections_refused", help, connections_refused.clone());

        let traces = Family::<OfTraces, Counter>::default();
        for outcome in TRACES {
            drop(traces.get_or_create(&OfTraces { outcome }));
        }
        registry.register("traces", "What became of traces of requests", traces.clone());

        let pack_changes = Family::<Changed, Counter>::default();
        for change in CHANGES {
            // From the start: what is 0 and what is not there are two things.
            drop(pack_changes.get_or_create(&Changed { change }));
        }
        let (pack_loads, pack_swaps) = (Histogram::new(LOAD_SECONDS), Histogram::new(LOAD_SECONDS));
        registry.register("pack_changes", "What became of changes in the packs folder", pack_changes.clone());
        let (help, unit) = ("Reading one pack and making it ready", Unit::Seconds);
        registry.register_with_unit("pack_load", help, unit.clone(), pack_loads.clone());
        let help = "Putting loaded packs to work: keys, secrets, the swap";
        registry.register_with_unit("pack_swap", help, unit, pack_swaps.clone());
        Self {
            registry,
            requests,
            batch_sizes,
            batches,
            batches_failed,
            store_failures,
            log_rows_dropped,
            connections,
            connections_refused,
            traces,
            pack_changes,
            pack_loads,
            pack_swaps,
        }
    }
}

impl Metrics {
    /// A request is under way, for as long as what this returns is kept.
    pub fn request_begins(&self) -> InFlight<'_> {
        self.requests.begin()
    }

    /// A request has ended; `owner_ref` is empty when it was for nobody.
    pub fn request_ended(&self, owner_ref: &str, outcome: Outcome, took: Duration, steps: &Steps) {
        self.requests.ended(owner_ref, outcome, took, steps);
    }

    /// Forgets the requests of triggers and packs that are not there any more.
    pub fn retain_owners(&self, is_there: impl Fn(&str) -> bool) {
        self.requests.retain(is_there);
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch has some hundred deliveries")]
    pub fn batch_stored(&self, deliveries: usize, took: Duration) {
        self.batch_sizes.observe(deliveries as f64);
        self.batches.observe(took.as_secs_f64());
    }

    pub fn batch_failed(&self) {
        self.batches_failed.inc();
    }

    pub fn store_failed(&self, fault: Fault) {
        self.store_failures.get_or_create(&OfFault { fault: fault.as_str() }).inc();
    }

    pub fn log_rows_dropped(&self, rows: usize) {
        self.log_rows_dropped.inc_by(rows as u64);
    }

    /// So many connections have come, or gone.
    pub fn connections_open(&self, more: i64) {
        self.connections.inc_by(more);
    }

    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub fn trace(&self, outcome: &'static str, count: usize) {
        self.traces.get_or_create(&OfTraces { outcome }).inc_by(count as u64);
    }

    pub fn pack_change(&self, change: &'static str) {
        self.pack_changes.get_or_create(&Changed { change }).inc();
    }

    pub fn pack_load(&self, took: Duration) {
        self.pack_loads.observe(took.as_secs_f64());
    }

    pub fn pack_swap(&self, took: Duration) {
        self.pack_swaps.observe(took.as_secs_f64());
    }

    /// All of it, with how things are now, in the text format of `OpenMetrics`.
    pub fn text(&self, now: Snapshot) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &now.registry())?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}
