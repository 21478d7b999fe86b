//! Keeping the tables small: what is counted is summed up. Of several hosts one works at a time.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    host::Host,
    store::{stats, tidy},
};

/// How often it is looked whether there is anything to do.
const INTERVAL: Duration = Duration::from_secs(5);
/// Rows in one transaction.
const COUNTS_MAX: i64 = 10_000;

/// Goes on until the host stops.
pub async fn run(host: Arc<Host>) {
    loop {
        sleep(INTERVAL).await;
        if let Err(error) = sum_up(&host).await {
            tracing::debug!(%error, "counts can't be summed up now");
        }
    }
}

/// Folds what was counted since the last time.
pub async fn sum_up(host: &Host) -> sqlx::Result<()> {
    loop {
        let mut transaction = host.pool.begin().await?;
        if !tidy::lock(&mut *transaction).await? {
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
