//! `/healthz`: the process works. `/readyz`: it can do its job, and what keeps it from doing all of it.

use std::sync::{Arc, atomic::Ordering};

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::host::Host;

/// The process works.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always `ok`.
    status: &'static str,
}

/// Whether requests should come here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready`, or `degraded` (some webhooks do not work), both with 200; `stopping` or `unavailable` (nothing can be
    /// stored), both with 503.
    status: &'static str,
    /// Everything that is wrong, in words.
    reasons: Vec<String>,
    /// What was looked at; nothing while the host is stopping.
    checks: Vec<Check>,
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct Check {
    /// `database`, `queue`, `packs_folder`, `packs`, `overrides`, `master_key` or `secrets`
    check: &'static str,
    /// `ok`, `degraded`, or `failed`: then nothing can be stored
    status: &'static str,
    reasons: Vec<String>,
}

/// Whether the process works.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Alive)))]
pub(super) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether requests should come here, and what does not work.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Readiness, description = "`ready` or `degraded`"),
        (status = 503, body = Readiness, description = "`stopping` or `unavailable`")))]
pub(super) async fn readyz(State(host): State<Arc<Host>>) -> (StatusCode, Json<Readiness>) {
    if host.stopping.load(Ordering::Relaxed) {
        let reasons = vec!["this host is stopping".to_owned()];
        let stopping = Readiness { status: "stopping", reasons, checks: Vec::new() };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(stopping));
    }
    let checks = vec![
        database(&host).await,
        Check::new("queue", queue(&host)),
        Check::new("packs_folder", packs_folder(&host)),
        Check::new("packs", packs(&host)),
        Check::new("overrides", overrides(&host)),
        Check::new("master_key", master_key(&host)),
        Check::new("secrets", secrets(&host)),
    ];
    let is = |status: &str| checks.iter().any(|check| check.status == status);
    let (code, status) = if is("failed") {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    } else {
        (StatusCode::OK, if is("degraded") { "degraded" } else { "ready" })
    };
    let reasons = checks.iter().flat_map(|check| check.reasons.iter().cloned()).collect();
    (code, Json(Readiness { status, reasons, checks }))
}

impl Check {
    fn new(check: &'static str, reasons: Vec<String>) -> Self {
        let status = if reasons.is_empty() { "ok" } else { "degraded" };
        Self { check, status, reasons }
    }
}

async fn database(host: &Host) -> Check {
    match host.database_answers().await {
        Ok(()) => Check::new("database", Vec::new()),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            let reasons = vec!["the database is away".to_owned()];
            Check { status: "failed", ..Check::new("database", reasons) }
        }
    }
}

/// Half full is on the way to 503.
fn queue(host: &Host) -> Vec<String> {
    let (waiting, config) = (host.ingest.waiting(), &host.config);
    let half =
        waiting.deliveries > config.queue_deliveries_max / 2 || waiting.bytes > config.queue_bytes_max / 2;
    let told = || format!("more than half of the queue is full: {} deliveries wait", waiting.deliveries);
    half.then(told).into_iter().collect()
}

fn packs_folder(host: &Host) -> Vec<String> {
    let watching = host.watching.load();
    let folder = watching.folder_fault.iter().map(|fault| format!("{fault}; what runs keeps running"));
    let told =
        watching.fault.iter().map(|fault| format!("changes in the packs folder are polled for: {fault}"));
    folder.chain(told).collect()
}

fn packs(host: &Host) -> Vec<String> {
    let mut reasons = Vec::new();
    for standing in &host.registry.load().loaded.standings {
        let Some(refused) = &standing.refused else { continue };
        let (name, faults) = (&standing.entry.name, refused.report.faults.len());
        let runs =
            standing.live.as_ref().map(|live| format!("; version {} keeps running", live.pack.version));
        let what = if runs.is_some() { "has a newer version that is refused" } else { "is refused" };
        let plural = if faults == 1 { "" } else { "s" };
        reasons.push(format!("pack {name} {what}: {faults} fault{plural}{}", runs.unwrap_or_default()));
    }
    reasons
}

fn overrides(host: &Host) -> Vec<String> {
    let registry = host.registry.load();
    registry
        .override_faults()
        .map(|(owner, _)| format!("override of {owner} does not fit its pack"))
        .collect()
}

fn master_key(host: &Host) -> Vec<String> {
    let fault = host.master_key_fault.load();
    let told = |fault| format!("the file of the master key can't be read, the one before counts: {fault}");
    fault.iter().map(told).collect()
}

fn secrets(host: &Host) -> Vec<String> {
    host.missing_secrets().iter().map(|name| format!("secret missing: {name}")).collect()
}
