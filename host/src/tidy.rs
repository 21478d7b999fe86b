//! Keeping the tables small: what is counted is summed up, what is too old is forgotten. Of several hosts one works at a
//! time, in small transactions with pauses between them, so that nobody waits for it.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::{
    host::Host,
    store::{audit, events, kept_requests, quarantine, requests, secrets, stats, tidy},
};

/// How often counts are summed up, and old rows are looked for.
const SUM_INTERVAL: Duration = Duration::from_secs(5);
const FORGET_INTERVAL: Duration = Duration::from_mins(1);
/// Rows in one transaction.
const COUNTS_MAX: i64 = 10_000;
const ROWS_MAX: i64 = 1000;
/// Between two of them, at least; else as long as the last one took.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Goes on until the host stops.
pub async fn run(host: Arc<Host>) {
    tokio::join!(go_on_summing_up(&host), go_on_forgetting(&host));
}

async fn go_on_summing_up(host: &Host) {
    let mut failed = false;
    loop {
        sleep(SUM_INTERVAL).await;
        let summed = sum_up(host).await;
        // Said once: it may stay so for long.
        if let Err(error) = &summed
            && !failed
        {
            tracing::warn!(%error, "counts can't be summed up: their table grows");
        }
        failed = summed.is_err();
    }
}

async fn go_on_forgetting(host: &Host) {
    let mut failed = false;
    loop {
        sleep(FORGET_INTERVAL).await;
        let forgotten = forget(host).await;
        if let Err(Stuck { kept, error }) = &forgotten
            && !failed
        {
            tracing::warn!(what = ?kept, %error, "what is too old can't be forgotten: its table grows");
        }
        failed = forgotten.is_err();
    }
}

/// What could not be cleared, and why.
#[derive(Debug)]
pub struct Stuck {
    kept: Kept,
    error: sqlx::Error,
}

/// Folds what was counted since the last time.
pub async fn sum_up(host: &Host) -> sqlx::Result<()> {
    loop {
        let mut transaction = host.pool.begin().await?;
        if !tidy::lock(&mut *transaction, "counts").await? {
            // Another host is at it.
            return Ok(());
        }
        let folded = stats::fold(&mut *transaction, COUNTS_MAX).await?;
        transaction.commit().await?;
        if folded < COUNTS_MAX {
            return Ok(());
        }
    }
}

/// What is kept for some time.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Requests,
    Quarantine,
    Events,
    /// Requests beside their events.
    Raw,
    Audit,
    Counts,
    /// Of keys that are gone.
    KeyCounts,
    /// Versions whose grace time is over.
    Secrets,
}

/// Deletes every row whose time is over; where one table can't be cleared the others are, and it is told.
pub async fn forget(host: &Host) -> Result<(), Stuck> {
    let mut stuck = Ok(());
    let (config, now) = (&host.config, host.clock.now());
    let ago = |days: Option<NonZeroU32>| Some(now - time::Duration::days(days?.get().into()));
    for (kept, before) in [
        (Kept::Requests, ago(config.request_log_days)),
        (Kept::Quarantine, ago(config.quarantine_days)),
        (Kept::Events, ago(config.event_days)),
        (Kept::Raw, ago(config.kept_request_days)),
        (Kept::Audit, ago(config.audit_days)),
        (Kept::Counts, ago(config.stats_days)),
        (Kept::KeyCounts, Some(now)),
        (Kept::Secrets, Some(now)),
    ] {
        let Some(before) = before else { continue };
        match forget_all(host, kept, before).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(what = ?kept, rows, "what was too old is forgotten"),
            Err(error) => stuck = stuck.and(Err(Stuck { kept, error })),
        }
    }
    stuck
}

async fn forget_all(host: &Host, kept: Kept, before: OffsetDateTime) -> sqlx::Result<u64> {
    let mut forgotten = 0;
    loop {
        let began = Instant::now();
        let mut transaction = host.pool.begin().await?;
        if !tidy::lock(&mut *transaction, "retention").await? {
            // Another host is at it.
            return Ok(forgotten);
        }
        let rows = match kept.forget_some(&mut transaction, before).await {
            Ok(rows) => rows,
            Err(error) => {
                // Now, with the lock: what comes next wants it.
                transaction.rollback().await?;
                return Err(error);
            }
        };
        transaction.commit().await?;
        forgotten += rows;
        if rows < ROWS_MAX.unsigned_abs() {
            return Ok(forgotten);
        }
        sleep(began.elapsed().max(PAUSE_MIN)).await;
    }
}

impl Kept {
    async fn forget_some(self, db: &mut PgConnection, before: OffsetDateTime) -> sqlx::Result<u64> {
        match self {
            Self::Requests => requests::forget(db, before, ROWS_MAX).await,
            Self::Quarantine => quarantine::forget(db, before, ROWS_MAX).await,
            Self::Events => events::forget(db, before, ROWS_MAX).await,
            Self::Raw => kept_requests::forget(db, before, ROWS_MAX).await,
            Self::Audit => audit::forget(db, before, ROWS_MAX).await,
            Self::Counts => stats::forget(db, before.date(), ROWS_MAX).await,
            Self::KeyCounts => stats::forget_keys(db, ROWS_MAX).await,
            Self::Secrets => secrets::forget_ended(db, before).await,
        }
    }
}
