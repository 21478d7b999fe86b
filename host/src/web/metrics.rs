//! `/metrics`: counters and durations for Prometheus.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use tokio::time::timeout;

use super::auth::{Caller, Read};
use crate::{
    host::Host,
    mapping::Mapping,
    metrics::{OfMapper, Snapshot},
    pack::{STATES, Trigger},
    store::quarantine,
};

/// Where senders can reach it: names of packs are not for everybody.
pub(super) async fn guarded(_: Caller<Read>, host: State<Arc<Host>>) -> Response {
    open(host).await
}

/// On an address of its own.
pub(super) async fn open(State(host): State<Arc<Host>>) -> Response {
    let registry = host.registry.load();
    host.metrics.retain_owners(|owner_ref| registry.knows(owner_ref));
    match host.metrics.text(snapshot(&host, open_in_quarantine(&host).await)) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// How long a scrape waits for the database; then the gauge of the quarantine is left out.
const QUARANTINE_WAIT: Duration = Duration::from_secs(1);

/// Open requests in the quarantine by trigger, of all hosts; none while the database does not answer.
async fn open_in_quarantine(host: &Host) -> Vec<(String, i64)> {
    let counted = timeout(QUARANTINE_WAIT, quarantine::count_open(&host.pool)).await;
    counted.ok().and_then(Result::ok).unwrap_or_default()
}

fn snapshot(host: &Host, quarantine: Vec<(String, i64)>) -> Snapshot {
    let (registry, watching) = (host.registry.load(), host.watching.load());
    let loaded = &registry.loaded;
    let here = loaded.standings.iter().map(|standing| {
        let version = standing.live.as_ref().map(|live| live.pack.version.clone());
        let reference = standing.reference().unwrap_or(&standing.entry.name).to_owned();
        (reference, version.unwrap_or_default(), standing.state())
    });
    let gone = loaded.gone().map(|(reference, removed)| {
        (reference.clone(), removed.version.clone().unwrap_or_default(), "removed")
    });
    let mappers = host.sandbox.activity();
    Snapshot {
        packs: here.chain(gone).collect(),
        states: &STATES,
        faults: loaded.refused().map(|refused| refused.report.faults.len()).sum(),
        changing: watching.changing.len(),
        told: watching.mode == "events",
        endpoints: registry.endpoint_count(),
        override_faults: registry.override_faults().count(),
        secrets_missing: secrets_missing(host),
        quarantine,
        store_writable: host.ingest.write_fault().is_none(),
        queue: host.ingest.waiting(),
        pool_connections: host.pool.size() as usize,
        pool_idle: host.pool.num_idle(),
        mapper_workers: mappers.workers,
        mapper_workers_busy: mappers.busy,
        mapper_queue: mappers.waiting,
        mapper_queue_bytes: mappers.waiting_bytes,
        mappers: registry.triggers().filter_map(|trigger| of_mapper(trigger)).collect(),
    }
}

/// Names, whatever is wrong with their secrets.
fn secrets_missing(host: &Host) -> usize {
    let problems = host.secret_problems();
    problems.iter().map(|(problem, _)| problem.name.as_str()).collect::<BTreeSet<_>>().len()
}

fn of_mapper(trigger: &Trigger) -> Option<OfMapper> {
    let Mapping::Wasm(mapper) = &trigger.mapping else { return None };
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let (calls, failures) = (load(&mapper.record.calls), load(&mapper.record.failures));
    Some(OfMapper { trigger: trigger.reference.clone(), calls, failures })
}
