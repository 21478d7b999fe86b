//! What is counted and timed, in the words of Prometheus.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::{Registry, Unit};

/// Counted for as long as the host runs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pack_changes: Family<Changed, Counter>,
    pack_loads: Histogram,
    pack_swaps: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Changed {
    change: &'static str,
}

/// How many packs are in each state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// One pack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Info {
    pack: String,
    version: String,
    state: &'static str,
}

/// How things are at the moment of asking.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Ref, version and state.
    pub packs: Vec<(String, String, &'static str)>,
    /// Every state, whether or not a pack is in it.
    pub states: &'static [&'static str],
    pub faults: usize,
    /// Entries of the packs folder that are being changed or read.
    pub changing: usize,
    /// Whether the system tells of changes in the packs folder.
    pub told: bool,
}

/// What can become of a change in the packs folder.
pub const CHANGES: [&str; 6] = ["loaded", "changed", "moved", "refused", "mended", "removed"];

/// Milliseconds to a minute: from a pack that is all YAML to one with a mapper in Python.
const LOAD_SECONDS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 60.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hookpack");
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
        Self { registry, pack_changes, pack_loads, pack_swaps }
    }
}

impl Metrics {
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

impl Snapshot {
    fn registry(self) -> Registry {
        let mut registry = Registry::with_prefix("hookpack");
        let packs = Family::<State, Gauge>::default();
        for state in self.states {
            packs.get_or_create(&State { state }).set(0);
        }
        let infos = Family::<Info, Gauge>::default();
        for (pack, version, state) in self.packs {
            packs.get_or_create(&State { state }).inc();
            infos.get_or_create(&Info { pack, version, state }).set(1);
        }
        registry.register("packs", "Packs by state", packs);
        registry.register("pack_info", "Each pack, its version and its state", infos);
        let gauge = |number: usize| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
            gauge
        };
        registry.register("pack_faults", "Faults of packs that were refused", gauge(self.faults));
        registry.register(
            "packs_changing",
            "Entries of the packs folder that are being changed",
            gauge(self.changing),
        );
        let help = "1: the system tells of changes in the packs folder; 0: it is looked at again and again";
        registry.register("packs_watched", help, gauge(usize::from(self.told)));
        registry
    }
}
