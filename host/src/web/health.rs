//! `/healthz`: the process works. `/readyz`: it can do its job, and what keeps it from doing all of it.

use std::sync::{Arc, atomic::Ordering};

use axum::{Json, extract::State};
use http::StatusCode;
use serde_json::{Value, json};

use crate::host::Host;

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// 503 when nothing can be stored; `degraded` (and 200) when some pack or secret is missing.
pub(super) async fn readyz(State(host): State<Arc<Host>>) -> (StatusCode, Json<Value>) {
    if host.stopping.load(Ordering::Relaxed) {
        let stopping = json!({"status": "stopping", "reasons": ["this host is stopping"]});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(stopping));
    }
    let mut reasons: Vec<String> = Vec::new();
    let watching = host.watching.load();
    reasons.extend(watching.folder_fault.iter().map(|fault| format!("{fault}; what runs keeps running")));
    reasons.extend(
        watching.fault.iter().map(|fault| format!("changes in the packs folder are polled for: {fault}")),
    );
    for standing in &host.registry.load().loaded.standings {
        let Some(refused) = &standing.refused else { continue };
        let (name, faults) = (&standing.entry.name, refused.report.faults.len());
        let runs =
            standing.live.as_ref().map(|live| format!("; version {} keeps running", live.pack.version));
        let what = if runs.is_some() { "has a newer version that is refused" } else { "is refused" };
        let plural = if faults == 1 { "" } else { "s" };
        reasons.push(format!("pack {name} {what}: {faults} fault{plural}{}", runs.unwrap_or_default()));
    }
    reasons.extend(
        host.registry
            .load()
            .override_faults()
            .map(|(owner, _)| format!("override of {owner} does not fit its pack")),
    );
    if let Some(fault) = &*host.master_key_fault.load() {
        reasons.push(format!("the file of the master key can't be read, the one before counts: {fault}"));
    }
    reasons.extend(host.missing_secrets().iter().map(|name| format!("secret missing: {name}")));
    if let Err(error) = host.database_answers().await {
        tracing::warn!(%error, "not ready");
        reasons.insert(0, "the database is away".to_owned());
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "unavailable", "reasons": reasons})));
    }
    let status = if reasons.is_empty() { "ready" } else { "degraded" };
    (StatusCode::OK, Json(json!({"status": status, "reasons": reasons})))
}
