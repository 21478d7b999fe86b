//! `/healthz`: the process works. `/readyz`: it can do its job, and what keeps it from doing all of it.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use serde_json::{Value, json};

use crate::host::Host;

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// 503 when nothing can be stored; `degraded` (and 200) when some pack or secret is missing.
pub(super) async fn readyz(State(host): State<Arc<Host>>) -> (StatusCode, Json<Value>) {
    let mut reasons: Vec<String> = Vec::new();
    let refused = host.registry.load();
    for pack in &refused.loaded.refused {
        let name = pack.folder.file_name().unwrap_or_default().to_string_lossy();
        reasons.push(format!("pack {name} is refused: {} faults", pack.report.faults.len()));
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
