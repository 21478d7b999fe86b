//! `/healthz`: the process works. `/readyz`: it can do its job, and what keeps it from doing all of it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    extract::{FromRequestParts, State},
};
use http::{StatusCode, header, request::Parts};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{auth::Who, error::ApiError};
use crate::{
    host::Host,
    store::{self, Fault},
};

/// A database that takes longer to find a token or to tell its settings is away for this.
const DATABASE_WAIT: Duration = Duration::from_secs(2);
/// Bytes left on the disk of the private database, below which it is said before the disk is full.
const DISK_FREE_LOW: u64 = 64 << 20;
/// Bytes below which a private database that is away could not start: it writes a segment of its log first.
const DISK_FREE_NONE: u64 = 16 << 20;

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
    /// Everything that is wrong, in words. Only on `admin_listen`, and elsewhere with a token of all packs: they name
    /// packs and secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<String>>,
    /// What was looked at, where there are `reasons`; nothing while the host is stopping.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct Check {
    /// `database`, `durability`, `api`, `disk`, `queue`, `packs_folder`, `packs`, `overrides`, `master_key` or `secrets`
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

/// Whether the caller may see reasons, which name packs and secrets.
pub(super) struct SeesReasons(bool);

impl FromRequestParts<Arc<Host>> for SeesReasons {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, host: &Arc<Host>) -> Result<Self, ApiError> {
        // Then these pages are at that address only, which senders don't reach.
        if host.config.admin_listen.is_some() {
            return Ok(Self(true));
        }
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(Self(false));
        }
        match timeout(DATABASE_WAIT, Who::of(parts, host)).await {
            Ok(Ok(who)) => Ok(Self(who.needs_all_packs().is_ok())),
            // Without the database no token is known; the status is for everyone.
            Err(_) | Ok(Err(ApiError::Store(_) | ApiError::Unavailable(_))) => Ok(Self(false)),
            Ok(Err(refusal)) => Err(refusal),
        }
    }
}

/// Whether requests should come here, and what does not work.
///
/// Without a token only the status, unless this is on `admin_listen`.
#[utoipa::path(get, path = "/readyz", tag = "health", security((), ("token" = [])),
    responses((status = 200, body = Readiness, description = "`ready` or `degraded`"),
        (status = 503, body = Readiness, description = "`stopping` or `unavailable`")))]
pub(super) async fn readyz(
    State(host): State<Arc<Host>>,
    SeesReasons(sees_reasons): SeesReasons,
) -> (StatusCode, Json<Readiness>) {
    let (code, status, checks) = readiness(&host).await;
    let mut readiness = Readiness { status, reasons: None, checks: None };
    if sees_reasons {
        let mut reasons: Vec<String> =
            checks.iter().flat_map(|check| check.reasons.iter().cloned()).collect();
        if status == "stopping" {
            reasons.push("this host is stopping".to_owned());
        }
        readiness.reasons = Some(reasons);
        readiness.checks = Some(checks);
    }
    (code, Json(readiness))
}

async fn readiness(host: &Host) -> (StatusCode, &'static str, Vec<Check>) {
    if host.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping", Vec::new());
    }
    let disk_free = store::disk_free(&host.config);
    let (database, settings) = tokio::join!(
        database(host, disk_free),
        timeout(DATABASE_WAIT, store::session::durability(&host.pool))
    );
    let (durability, api) = match settings {
        Ok(Ok(settings)) => (settings.faults(), Vec::new()),
        // Deliveries have connections of their own.
        Ok(Err(error)) => (Vec::new(), vec![format!("the management API: {}", Fault::of(&error).message())]),
        Err(_) => (Vec::new(), vec![format!("the management API: {}", Fault::Away.message())]),
    };
    let checks = vec![
        database,
        Check::new("durability", durability),
        Check::new("api", api),
        Check::new("disk", disk(disk_free)),
        Check::new("queue", queue(host)),
        Check::new("packs_folder", packs_folder(host)),
        Check::new("packs", packs(host)),
        Check::new("overrides", overrides(host)),
        Check::new("master_key", master_key(host)),
        Check::new("secrets", secrets(host)),
    ];
    let is = |status: &str| checks.iter().any(|check| check.status == status);
    let (code, status) = if is("failed") {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    } else {
        (StatusCode::OK, if is("degraded") { "degraded" } else { "ready" })
    };
    (code, status, checks)
}

impl Check {
    fn new(check: &'static str, reasons: Vec<String>) -> Self {
        let status = if reasons.is_empty() { "ok" } else { "degraded" };
        Self { check, status, reasons }
    }
}

/// Whether a write of this host's writers works.
async fn database(host: &Host, disk_free: Option<u64>) -> Check {
    let Err(fault) = host.ingest.write_works().await else {
        return Check::new("database", Vec::new());
    };
    // A Postgres that finds no room for its log ends, and can't start again.
    let is_full = fault == Fault::Away && disk_free.is_some_and(|free| free < DISK_FREE_NONE);
    let fault = if is_full { Fault::DiskFull } else { fault };
    Check { status: "failed", ..Check::new("database", vec![fault.message().to_owned()]) }
}

fn disk(free: Option<u64>) -> Vec<String> {
    let low = free.filter(|free| *free < DISK_FREE_LOW);
    let reason =
        |free: u64| format!("the disk of the private database is nearly full: {} MiB are left", free >> 20);
    low.map(reason).into_iter().collect()
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
    host.secret_problems().iter().map(|(problem, owners)| problem.with_owners(owners)).collect()
}
