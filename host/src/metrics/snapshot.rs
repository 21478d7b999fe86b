//! How things are at the moment of asking.

use prometheus_client::registry::Registry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

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
    /// Keys that open something.
    pub endpoints: usize,
    pub override_faults: usize,
    pub secrets_missing: usize,
    /// Open requests in the quarantine by trigger.
    pub quarantine: Vec<(String, i64)>,
    /// Whether the last write of a writer worked.
    pub store_writable: bool,
    pub queue: OfQueue,
    pub pool_connections: usize,
    pub pool_idle: usize,
    pub mapper_workers: usize,
    pub mapper_workers_busy: usize,
    pub mapper_queue: usize,
    pub mapper_queue_bytes: usize,
    pub mappers: Vec<OfMapper>,
}

/// What waits for a writer.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfQueue {
    pub deliveries: usize,
    pub bytes: usize,
    pub log_rows: usize,
}

/// How the mapper of a trigger has done since it was loaded.
#[derive(Debug)]
pub struct OfMapper {
    pub trigger: String,
    pub calls: u64,
    pub failures: u64,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTrigger {
    trigger: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Snapshot {
    pub(super) fn registry(self) -> Registry {
        let mut registry = Registry::with_prefix("hookpack");
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version of this host", build);

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
        for (name, help, number) in [
            ("pack_faults", "Faults of packs that were refused", self.faults),
            ("packs_changing", "Entries of the packs folder that are being changed", self.changing),
            (
                "packs_watched",
                "1: the system tells of changes in the packs folder; 0: it is looked at again and again",
                usize::from(self.told),
            ),
            ("endpoints", "Keys of webhooks that open something", self.endpoints),
            ("override_faults", "Overrides of operators that do not fit their pack", self.override_faults),
            (
                "secrets_missing",
                "Secrets that policies name and can't use: missing, not granted or not usable as declared",
                self.secrets_missing,
            ),
            (
                "store_writable",
                "1: the last write to the database worked; 0: nothing can be stored",
                usize::from(self.store_writable),
            ),
            ("queue_deliveries", "Deliveries that wait for a writer", self.queue.deliveries),
            ("queue_bytes", "Bytes of the deliveries that wait for a writer", self.queue.bytes),
            ("queue_log_rows", "Rows of the request log that wait for a writer", self.queue.log_rows),
            ("pool_connections", "Open connections of the API's pool", self.pool_connections),
            ("pool_idle", "Those of them that nobody uses", self.pool_idle),
            ("mapper_workers", "Threads for mappers", self.mapper_workers),
            ("mapper_workers_busy", "Those of them that work", self.mapper_workers_busy),
            ("mapper_queue_deliveries", "Deliveries that wait for a mapper's worker", self.mapper_queue),
            ("mapper_queue_bytes", "Bytes of payload that wait for one", self.mapper_queue_bytes),
        ] {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        }

        let quarantine = Family::<OfTrigger, Gauge>::default();
        for (trigger, open) in self.quarantine {
            quarantine.get_or_create(&OfTrigger { trigger }).set(open);
        }
        let help = "Open requests in the quarantine, of all hosts on this database";
        registry.register("quarantine_open", help, quarantine);

        let (calls, failures) =
            (Family::<OfTrigger, Counter>::default(), Family::<OfTrigger, Counter>::default());
        for OfMapper { trigger, calls: called, failures: failed } in self.mappers {
            let labels = OfTrigger { trigger };
            calls.get_or_create(&labels).inc_by(called);
            failures.get_or_create(&labels).inc_by(failed);
        }
        registry.register("mapper_calls", "Calls of a trigger's mapper since it was loaded", calls);
        let help = "Those of them that failed by the mapper's own fault";
        registry.register("mapper_failures", help, failures);
        registry
    }
}
