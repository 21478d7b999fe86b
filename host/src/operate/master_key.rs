//! Another master key, and what is sealed sealed anew.

use std::sync::Arc;

use serde_json::json;
use sqlx::{Postgres, Transaction};

use super::{Actor, Denied, Trail, commit};
use crate::{
    host::{Host, secret_seal},
    store::{changes, endpoints, secrets},
};

/// What is sealed with the newest key now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resealed {
    pub endpoint_keys: usize,
    pub secrets: usize,
    /// Sealed with a key that this host has not.
    pub unreadable: usize,
}

/// Makes another master key, seals everything with it, and forgets the ones before but for the last: hosts that have
/// not read the file yet still seal with that.
pub async fn rotate(host: &Arc<Host>, actor: &Actor) -> Result<Resealed, Denied> {
    if host.master_key.is_given() {
        return Err(Denied::Conflict(
            "The master key was given by a setting: put a new one in front of it, with a comma between, start the hosts \
             again, and reseal."
                .to_owned(),
        ));
    }
    let mut transaction = host.pool.begin().await?;
    // Of hosts that share the file and are asked at once, one after the other.
    changes::lock_rotation(&mut *transaction).await?;
    host.reread_master_key().await.map_err(told)?;
    let master_key = host.master_key.clone();
    written(move || master_key.renew()).await?;
    let resealed = sealed_anew(host, &mut transaction).await?;
    finish(host, actor, transaction, "master_key.rotate", resealed).await?;
    if resealed.unreadable == 0 {
        // The file is one for all who share it: nobody may write to it meanwhile.
        let mut transaction = host.pool.begin().await?;
        changes::lock_rotation(&mut *transaction).await?;
        let master_key = host.master_key.clone();
        written(move || master_key.retire()).await?;
        transaction.commit().await?;
    }
    Ok(resealed)
}

/// Seals everything with the first of the keys that are there: after a key was put in front by hand.
pub async fn reseal(host: &Arc<Host>, actor: &Actor) -> Result<Resealed, Denied> {
    let mut transaction = host.pool.begin().await?;
    changes::lock_rotation(&mut *transaction).await?;
    host.reread_master_key().await.map_err(told)?;
    let resealed = sealed_anew(host, &mut transaction).await?;
    finish(host, actor, transaction, "master_key.reseal", resealed).await?;
    Ok(resealed)
}

async fn written(write: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Result<(), Denied> {
    let writing = tokio::task::spawn_blocking(write).await;
    writing.map_err(|error| Denied::Internal(error.into()))?.map_err(told)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn told(error: anyhow::Error) -> Denied {
    Denied::Conflict(format!("The file of the master key is not as it should be: {error:#}."))
}

async fn sealed_anew(host: &Host, transaction: &mut Transaction<'_, Postgres>) -> Result<Resealed, Denied> {
    let (master_key, now) = (&host.master_key, host.clock.now());
    let mut resealed = Resealed::default();
    let (mut ids, mut seals) = (Vec::new(), Vec::new());
    for row in endpoints::lock_sealed(&mut **transaction).await? {
        let Some(plain) = master_key.open(&row.key_sealed, &row.owner_ref) else {
            resealed.unreadable += 1;
            continue;
        };
        ids.push(row.key_id);
        seals.push(master_key.seal(&plain, &row.owner_ref)?);
    }
    endpoints::reseal(&mut **transaction, &ids, &seals).await?;
    resealed.endpoint_keys = ids.len();
    let (mut ids, mut seals) = (Vec::new(), Vec::new());
    for row in secrets::lock_all(&mut **transaction).await? {
        let Some(plain) = master_key.open(&row.value_sealed, secret_seal(&row.name)) else {
            // One whose time is over is nobody's loss.
            resealed.unreadable += usize::from(row.expires_at.is_none_or(|at| at > now));
            continue;
        };
        ids.push(row.id);
        seals.push(master_key.seal(&plain, secret_seal(&row.name))?);
    }
    secrets::reseal(&mut **transaction, &ids, &seals).await?;
    resealed.secrets = ids.len();
    Ok(resealed)
}

async fn finish(
    host: &Arc<Host>,
    actor: &Actor,
    transaction: Transaction<'_, Postgres>,
    action: &'static str,
    resealed: Resealed,
) -> Result<(), Denied> {
    let Resealed { endpoint_keys, secrets, unreadable } = resealed;
    let detail = json!({"endpoint_keys": endpoint_keys, "secrets": secrets, "unreadable": unreadable});
    commit(host, transaction, actor, Trail { action, subject: "master key", detail }).await
}
