//! `/metrics`: counters and durations for Prometheus.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::auth::{Caller, Read};
use crate::{host::Host, metrics::Snapshot, pack::STATES};

/// Where senders can reach it: names of packs are not for everybody.
pub(super) async fn guarded(_: Caller<Read>, host: State<Arc<Host>>) -> Response {
    open(host).await
}

/// On an address of its own.
pub(super) async fn open(State(host): State<Arc<Host>>) -> Response {
    match host.metrics.text(snapshot(&host)) {
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

fn snapshot(host: &Host) -> Snapshot {
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
    Snapshot {
        packs: here.chain(gone).collect(),
        states: &STATES,
        faults: loaded.refused().map(|refused| refused.report.faults.len()).sum(),
        changing: watching.changing.len(),
        told: watching.mode == "events",
    }
}
