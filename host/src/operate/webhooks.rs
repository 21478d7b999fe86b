//! Endpoints: whether they receive, and the keys that open them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Actor, Denied, Trail, commit, lock_sealing, tokens::is_label};
use crate::{
    host::Host,
    registry::{Target, fresh_key},
    store::endpoints::{self, AddedKey},
};

/// What can be done to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It receives, under the key that it has or a fresh one.
    Enable,
    /// Every key ends: its URLs answer 404.
    Disable,
    /// The main key ends, and another takes its place.
    Regenerate,
    /// Its URLs answer 403; its keys stay.
    Pause,
    Resume,
}

/// A trigger or a pack, whether it runs or not.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub owner_ref: &'a str,
    /// `trigger` or `pack`
    pub kind: &'static str,
}

impl<'a> Owner<'a> {
    pub fn of(target: &'a Target) -> Self {
        Self { owner_ref: target.owner_ref(), kind: target.kind() }
    }

    /// Whether it has a key, though nothing of it may run.
    pub async fn has_key(self, host: &Host) -> sqlx::Result<bool> {
        Ok(!endpoints::keys(&host.pool, &[self.owner_ref]).await?.is_empty())
    }
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Enable => "webhook.enable",
            Self::Disable => "webhook.disable",
            Self::Regenerate => "webhook.regenerate",
            Self::Pause => "webhook.pause",
            Self::Resume => "webhook.resume",
        }
    }
}

/// Does it, in one transaction; what is so already stays so, without a line in the trail.
pub async fn act(host: &Arc<Host>, actor: &Actor, owner: Owner<'_>, action: Action) -> Result<(), Denied> {
    let (Owner { owner_ref, kind }, now) = (owner, host.clock.now());
    let mut transaction = host.pool.begin().await?;
    let db = &mut *transaction;
    // There from now on, so that no later version of the pack opens by itself what an operator has closed.
    endpoints::open(&mut *db, owner_ref, kind, now).await?;
    let is_paused = endpoints::lock(&mut *db, owner_ref).await?.unwrap_or(false);
    let main = endpoints::main_key(&mut *db, owner_ref).await?;
    let mut detail = Value::Null;
    match (action, main) {
        (Action::Enable, Some(_)) => return Ok(()),
        (Action::Enable, None) => detail = json!({"key_id": add_main(db, host, owner, now).await?}),
        (Action::Disable, _) => {
            let revoked = endpoints::revoke_keys(&mut *db, owner_ref, false).await?;
            endpoints::pause(&mut *db, owner_ref, false).await?;
            detail = json!({"keys_revoked": revoked});
        }
        (Action::Regenerate | Action::Pause | Action::Resume, None) => return Err(disabled(owner_ref)),
        (Action::Regenerate, Some(before)) => {
            endpoints::revoke_keys(&mut *db, owner_ref, true).await?;
            detail = json!({"key_id": add_main(db, host, owner, now).await?, "revoked_key_id": before});
        }
        (Action::Pause | Action::Resume, Some(_)) => {
            let pauses = action == Action::Pause;
            if is_paused == pauses {
                return Ok(());
            }
            endpoints::pause(&mut *db, owner_ref, pauses).await?;
        }
    }
    commit(host, transaction, actor, Trail { action: action.word(), subject: owner_ref, detail }).await
}

async fn add_main(
    db: &mut sqlx::PgConnection,
    host: &Host,
    Owner { owner_ref, kind }: Owner<'_>,
    now: OffsetDateTime,
) -> Result<Uuid, Denied> {
    lock_sealing(host, db).await?;
    let key = fresh_key(owner_ref, kind, &host.master_key)?;
    let added = AddedKey { key: &key, label: None, expires_at: None, is_main: true };
    endpoints::add_key(db, added, now).await?;
    Ok(key.key_id)
}

/// A further key: it opens the same endpoint until it is revoked or its time is over.
pub async fn add_key(
    host: &Arc<Host>,
    actor: &Actor,
    Owner { owner_ref, kind }: Owner<'_>,
    label: &str,
    expires_at: Option<OffsetDateTime>,
) -> Result<Uuid, Denied> {
    let now = host.clock.now();
    is_label(label)?;
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Denied::BadRequest("`expires_at` is in the past.".to_owned()));
    }
    let mut transaction = host.pool.begin().await?;
    endpoints::lock(&mut *transaction, owner_ref).await?;
    let keys = endpoints::keys(&mut *transaction, &[owner_ref]).await?;
    if keys.is_empty() {
        return Err(disabled(owner_ref));
    }
    let keys_max = host.config.endpoint_keys_max;
    if keys.len() >= keys_max {
        let told = format!("{owner_ref} has {keys_max} keys, and more are not allowed (endpoint_keys_max).");
        return Err(Denied::Conflict(told));
    }
    lock_sealing(host, &mut transaction).await?;
    let key = fresh_key(owner_ref, kind, &host.master_key)?;
    let added = AddedKey { key: &key, label: Some(label), expires_at, is_main: false };
    endpoints::add_key(&mut *transaction, added, now).await?;
    let detail = json!({"key_id": key.key_id, "label": label});
    commit(host, transaction, actor, Trail { action: "webhook.key.add", subject: owner_ref, detail }).await?;
    Ok(key.key_id)
}

/// Ends a further key; the main one is replaced, or ends with all of them.
pub async fn revoke_key(
    host: &Arc<Host>,
    actor: &Actor,
    Owner { owner_ref, .. }: Owner<'_>,
    key_id: Uuid,
) -> Result<(), Denied> {
    let mut transaction = host.pool.begin().await?;
    endpoints::lock(&mut *transaction, owner_ref).await?;
    if endpoints::main_key(&mut *transaction, owner_ref).await? == Some(key_id) {
        let told = "This is the main key: `regenerate` replaces it, `disable` ends all keys.";
        return Err(Denied::Conflict(told.to_owned()));
    }
    if !endpoints::revoke_key(&mut *transaction, owner_ref, key_id).await? {
        return Err(Denied::NotFound(format!("key {key_id} of {owner_ref}")));
    }
    let detail = json!({"key_id": key_id});
    commit(host, transaction, actor, Trail { action: "webhook.key.revoke", subject: owner_ref, detail }).await
}

fn disabled(owner_ref: &str) -> Denied {
    Denied::BadRequest(format!("The webhook of {owner_ref} is disabled: `enable` it first."))
}
