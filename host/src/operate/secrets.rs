//! Secrets: values go in and never come out; versions overlap for a grace time, so that senders can follow.

use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Actor, Denied, Trail, commit, lock_sealing};
use crate::{
    host::{Host, secret_seal},
    pack,
    registry::Registry,
    secret::{self, Origin, SecretValue},
    store::secrets,
};

const ROTATE: &str = "secret.rotate";
/// A secret file may be as large.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// What a version that was replaced may live on for.
const GRACE_MAX: Duration = Duration::days(365);

/// The version that was made, and until when the ones before it count.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub version: i32,
    /// `None`: there were none, or they ended at once.
    pub old_until: Option<OffsetDateTime>,
}

/// Makes `value` the newest version of a name; those before it live on for `grace`.
pub async fn set(
    host: &Arc<Host>,
    actor: &Actor,
    name: &str,
    value: &SecretValue,
    grace: Duration,
) -> Result<Set, Denied> {
    put(host, actor, name, value, grace, "secret.set").await
}

/// Makes up a value in the shape that the policies want which name it, and sets it. It is shown by the caller, once.
pub async fn rotate(
    host: &Arc<Host>,
    actor: &Actor,
    name: &str,
    grace: Duration,
) -> Result<(SecretValue, Set), Denied> {
    let value = SecretValue::new(fitting(&host.registry.load(), name)?);
    let set = put(host, actor, name, &value, grace, ROTATE).await?;
    Ok((value, set))
}

/// Forgets every stored version; what the environment or a file provides counts again.
pub async fn remove(host: &Arc<Host>, actor: &Actor, name: &str) -> Result<(), Denied> {
    let mut transaction = host.pool.begin().await?;
    secrets::lock_name(&mut *transaction, name).await?;
    let versions = secrets::delete(&mut *transaction, name).await?;
    if versions == 0 {
        return Err(Denied::NotFound(format!("stored secret {name}")));
    }
    let trail = Trail { action: "secret.remove", subject: name, detail: json!({"versions": versions}) };
    commit(host, transaction, actor, trail).await?;
    refreshed(host).await
}

async fn put(
    host: &Arc<Host>,
    actor: &Actor,
    name: &str,
    value: &SecretValue,
    grace: Duration,
    action: &'static str,
) -> Result<Set, Denied> {
    let now = host.clock.now();
    check(name, value, grace)?;
    let mut transaction = host.pool.begin().await?;
    let db = &mut *transaction;
    secrets::lock_name(&mut *db, name).await?;
    let until = now + grace;
    lock_sealing(host, db).await?;
    let mut before = secrets::count(&mut *db, name, now).await?;
    if grace.is_positive() && before == 0 {
        before = keep_provided(db, host, name, now, until).await?;
    }
    secrets::end(&mut *db, name, until).await?;
    let versions_max = host.config.secret_versions_max;
    if grace.is_positive() && usize::try_from(before).unwrap_or(usize::MAX) >= versions_max {
        return Err(Denied::Conflict(format!(
            "{versions_max} versions of `{name}` are in force, and more are not allowed (secret_versions_max): wait for \
             the end of a grace time, or set it with a grace time of 0."
        )));
    }
    let sealed = host.master_key.seal(value.bytes(), secret_seal(name))?;
    let version = secrets::add(&mut *db, name, &sealed, now, None).await?;
    if !grace.is_positive() {
        secrets::forget_older(&mut *db, name, version).await?;
    }
    let old_until = (before > 0 && grace.is_positive()).then_some(until);
    let detail = json!({"version": version, "grace_seconds": grace.whole_seconds()});
    match commit(host, transaction, actor, Trail { action, subject: name, detail }).await {
        // A value that was made up must be shown all the same.
        Err(Denied::NotInForce) if action == ROTATE => {}
        done => done?,
    }
    refreshed(host).await?;
    Ok(Set { version, old_until })
}

/// What counted so far came from elsewhere, and no longer counts once a version is stored: for the grace time it is
/// stored as well. How many values that are.
async fn keep_provided(
    db: &mut PgConnection,
    host: &Host,
    name: &str,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<i64, Denied> {
    // As it is now: another host may have forgotten it just before.
    host.load_stored_secrets().await?;
    let (_, values) = host.sources.find(name, &host.stored.load());
    // The oldest first: versions count upwards.
    for value in values.iter().rev() {
        let sealed = host.master_key.seal(value.bytes(), secret_seal(name))?;
        secrets::add(&mut *db, name, &sealed, now, Some(until)).await?;
    }
    Ok(i64::try_from(values.len()).unwrap_or(i64::MAX))
}

fn check(name: &str, value: &SecretValue, grace: Duration) -> Result<(), Denied> {
    if !pack::is_ref(name) {
        return Err(Denied::BadRequest(format!(
            "`{}` can't be the name of a secret: a letter, then letters, digits, `_` and `-`, all small, 63 at most.",
            name.escape_debug()
        )));
    }
    if value.bytes().is_empty() || value.bytes().len() > VALUE_BYTES_MAX {
        return Err(Denied::BadRequest(format!("`value` has 1 to {VALUE_BYTES_MAX} bytes.")));
    }
    if grace.is_negative() || grace > GRACE_MAX {
        let most = GRACE_MAX.whole_seconds();
        return Err(Denied::BadRequest(format!("`grace_seconds` is 0 to {most}.")));
    }
    Ok(())
}

/// A fresh value that every policy can use which names it.
fn fitting(registry: &Registry, name: &str) -> Result<String, Denied> {
    let random = secret::random::<32>()?;
    let mut text: Option<(String, &str)> = None;
    let conflict = |told: String| Err(Denied::Conflict(told));
    for (owner_ref, policy) in registry.policies() {
        if !policy.secrets.iter().any(|own| own == name) {
            continue;
        }
        let own = match policy.verify.shared_secret(&random) {
            Ok(own) => own,
            Err(reason) => return conflict(format!("`{name}` can't be made up for {owner_ref}: {reason}.")),
        };
        match &text {
            Some((other, other_ref)) if *other != own => {
                return conflict(format!(
                    "{owner_ref} and {other_ref} want `{name}` in different forms: set it."
                ));
            }
            _ => text = Some((own, owner_ref)),
        }
    }
    Ok(text.map_or_else(|| hex::encode(random), |(text, _)| text))
}

/// Secrets of names that no pack had wanted before are looked up as well.
async fn refreshed(host: &Arc<Host>) -> Result<(), Denied> {
    let host = host.clone();
    let refreshed = tokio::task::spawn_blocking(move || host.refresh_secrets()).await;
    refreshed.map_err(|error| Denied::Internal(error.into()))
}

/// What is known of a secret; never its value.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: String,
    pub origin: Option<Origin>,
    /// Values that are in force.
    pub values: usize,
    /// Triggers and packs whose policies name it.
    pub used_by: Vec<String>,
}

/// Every secret that a policy names or the database keeps, in the order of their names.
pub async fn known(host: &Arc<Host>) -> Result<Vec<Known>, Denied> {
    let host = host.clone();
    // Files are read: that may wait for a disk.
    let looking = tokio::task::spawn_blocking(move || {
        let (registry, stored) = (host.registry.load(), host.stored.load());
        let mut names: Vec<String> = registry.secret_names().map(str::to_owned).collect();
        names.extend(stored.0.iter().map(|secret| secret.name.clone()));
        names.sort();
        names.dedup();
        let mut users = registry.secret_users();
        let known = |name: String| {
            let (origin, values) = host.sources.find(&name, &stored);
            Known { used_by: users.remove(&name).unwrap_or_default(), origin, values: values.len(), name }
        };
        names.into_iter().map(known).collect()
    });
    looking.await.map_err(|error| Denied::Internal(error.into()))
}
