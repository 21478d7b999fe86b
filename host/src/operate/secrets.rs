//! Secrets: values go in and never come out; versions overlap for a grace time, so that senders can follow.

use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Actor, Denied, Trail, commit, lock_sealing};
use crate::{
    host::{Host, secret_seal},
    pack,
    policy_secrets::HostSecrets,
    registry::Registry,
    secret::{self, Origin, Owner, SecretValue, StoredGrant},
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
    check(name, value, grace)?;
    fits(&host.registry.load(), &host.secrets.load(), name, value)?;
    put(host, actor, name, value, grace, "secret.set").await
}

/// Whether every policy can use the value that may use a secret of this name. What can't be used would look present,
/// and every delivery would be refused.
fn fits(registry: &Registry, secrets: &HostSecrets, name: &str, value: &SecretValue) -> Result<(), Denied> {
    let users = registry.governed().filter(|governed| {
        let is_named = governed.policy.secrets.iter().any(|own| own == name);
        is_named && secrets.ownership.may_use(governed.pack_ref, name)
    });
    for governed in users {
        if let Err(usable) = governed.policy.verify.fits(value) {
            let owner_ref = governed.owner_ref;
            return Err(Denied::Unfit(format!(
                "This value can't be used as {owner_ref} declares. What it can use: {usable}."
            )));
        }
    }
    Ok(())
}

/// Makes up a value in the shape that the policies want which name it, and sets it. It is shown by the caller, once.
pub async fn rotate(
    host: &Arc<Host>,
    actor: &Actor,
    name: &str,
    grace: Duration,
) -> Result<(SecretValue, Set), Denied> {
    let value = SecretValue::new(fitting(&host.registry.load(), &host.secrets.load(), name)?);
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
    let found = host.sources.find(name, &host.stored.load());
    // What a sender brought to another pack is not the owner's.
    let ownership = &host.secrets.load().ownership;
    let (_, values) = found.of(if let Owner::Pack(pack_ref) = ownership.owner(name) { pack_ref } else { "" });
    // The oldest first: versions count upwards.
    for value in values.iter().rev() {
        let sealed = host.master_key.seal(value.bytes(), secret_seal(name))?;
        secrets::add(&mut *db, name, &sealed, now, Some(until)).await?;
    }
    Ok(i64::try_from(values.len()).unwrap_or(i64::MAX))
}

pub(super) fn check_name(name: &str) -> Result<(), Denied> {
    if pack::is_ref(name) {
        return Ok(());
    }
    Err(Denied::BadRequest(format!(
        "`{}` can't be the name of a secret: a letter, then letters, digits, `_` and `-`, all small, 63 at most.",
        name.escape_debug()
    )))
}

fn check(name: &str, value: &SecretValue, grace: Duration) -> Result<(), Denied> {
    check_name(name)?;
    if value.bytes().is_empty() || value.bytes().len() > VALUE_BYTES_MAX {
        return Err(Denied::BadRequest(format!("`value` has 1 to {VALUE_BYTES_MAX} bytes.")));
    }
    if value.is_blank() {
        return Err(Denied::BadRequest("`value` has nothing in it but blanks.".to_owned()));
    }
    if ends_in_line_break(value.bytes()) {
        return Err(Denied::BadRequest(
            "`value` ends in a line break, which would be a part of the secret: send it without.".to_owned(),
        ));
    }
    if grace.is_negative() || grace > GRACE_MAX {
        let most = GRACE_MAX.whole_seconds();
        return Err(Denied::BadRequest(format!("`grace_seconds` is 0 to {most}.")));
    }
    Ok(())
}

/// What `echo` adds. PEM ends so, and JSON may.
fn ends_in_line_break(value: &[u8]) -> bool {
    let is_document = value.windows(10).any(|part| part == b"-----BEGIN") || value.starts_with(b"{");
    !is_document && matches!(value.last(), Some(b'\n' | b'\r'))
}

/// A fresh value that every policy can use which may and names it.
fn fitting(registry: &Registry, secrets: &HostSecrets, name: &str) -> Result<String, Denied> {
    let random = secret::random::<32>()?;
    let mut text: Option<(String, &str)> = None;
    let conflict = |told: String| Err(Denied::Conflict(told));
    for governed in registry.governed() {
        let (owner_ref, policy) = (governed.owner_ref, governed.policy);
        let is_named = policy.secrets.iter().any(|own| own == name);
        if !is_named || !secrets.ownership.may_use(governed.pack_ref, name) {
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
    /// The pack that it belongs to by its name.
    pub owner: Option<String>,
    pub grants: Vec<Grant>,
    /// Packs that name it and may not use it.
    pub refused_packs: Vec<String>,
    /// What keeps policies from using it.
    pub problems: Vec<String>,
}

/// A pack that may use a secret which is not its own by its name.
#[derive(Clone, Debug)]
pub struct Grant {
    pub pack_ref: String,
    /// When an operator granted it; `None`: the configuration does.
    pub created_at: Option<OffsetDateTime>,
}

/// Every secret that a policy names, the database keeps or a grant names, in the order of their names.
pub async fn known(host: &Arc<Host>) -> Result<Vec<Known>, Denied> {
    let host = host.clone();
    // Files are read: that may wait for a disk.
    let looking = tokio::task::spawn_blocking(move || {
        let (registry, stored) = (host.registry.load(), host.stored.load());
        let mut users = registry.secret_users();
        let mut names: Vec<String> = users.keys().cloned().collect();
        names.extend(stored.versions.iter().map(|secret| secret.name.clone()));
        names.extend(stored.grants.iter().map(|grant| grant.name.clone()));
        names.extend(host.config.secret_grants.keys().cloned());
        names.sort();
        names.dedup();
        let problems = host.secret_problems();
        let known = |name: String| {
            let own = problems.iter().filter(|(problem, _)| problem.name == name);
            let own = own.map(|(problem, owners)| problem.with_owners(owners)).collect();
            known_of(&host, users.remove(&name).unwrap_or_default(), own, name)
        };
        names.into_iter().map(known).collect()
    });
    looking.await.map_err(|error| Denied::Internal(error.into()))
}

fn known_of(host: &Host, used_by: Vec<String>, problems: Vec<String>, name: String) -> Known {
    let secrets = host.secrets.load();
    let (origin, values) = host.sources.find(&name, &host.stored.load()).summary();
    let owner = match secrets.ownership.owner(&name) {
        Owner::Pack(pack_ref) => Some(pack_ref.to_owned()),
        Owner::NoPack | Owner::Several(_) => None,
    };
    Known {
        origin,
        values,
        used_by,
        owner,
        grants: grants(host, &name),
        refused_packs: secrets.refused_packs(&name),
        problems,
        name,
    }
}

/// The packs that a secret is granted to.
pub fn grants(host: &Host, name: &str) -> Vec<Grant> {
    let stored = host.stored.load();
    let stored = stored.grants.iter().filter(|grant| grant.name == name).cloned();
    let stored = stored
        .map(|StoredGrant { pack_ref, created_at, .. }| Grant { pack_ref, created_at: Some(created_at) });
    let configured = host.config.secret_grants.get(name).into_iter().flatten();
    stored.chain(configured.cloned().map(|pack_ref| Grant { pack_ref, created_at: None })).collect()
}
