//! Which packs may use a secret that is not theirs by its name.

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;
use serde_json::json;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use super::{Actor, Denied, Trail, commit, secrets::check_name};
use crate::{
    clock::Clock,
    config::Config,
    host::Host,
    pack,
    registry::Registry,
    secret::Ownership,
    store::{
        audit::{self, AuditRow},
        secret_grants,
    },
};

const GRANT: &str = "secret.grant";

/// Lets a pack use a secret; it may be granted before either is there.
pub async fn grant(host: &Arc<Host>, actor: &Actor, name: &str, pack_ref: &str) -> Result<(), Denied> {
    check(name, pack_ref)?;
    let mut transaction = host.pool.begin().await?;
    if !secret_grants::insert(&mut *transaction, name, pack_ref, host.clock.now()).await? {
        return Ok(());
    }
    let trail = Trail { action: GRANT, subject: name, detail: json!({"pack": pack_ref}) };
    commit(host, transaction, actor, trail).await
}

/// Takes a grant back; what the configuration grants stays.
pub async fn revoke(host: &Arc<Host>, actor: &Actor, name: &str, pack_ref: &str) -> Result<(), Denied> {
    check(name, pack_ref)?;
    let mut transaction = host.pool.begin().await?;
    if !secret_grants::delete(&mut *transaction, name, pack_ref).await? {
        let in_configuration =
            host.config.secret_grants.get(name).is_some_and(|refs| refs.iter().any(|own| own == pack_ref));
        return Err(if in_configuration {
            Denied::Conflict(format!(
                "`{name}` is granted to pack {pack_ref} by `secret_grants` in the configuration: take it away there."
            ))
        } else {
            Denied::NotFound(format!("grant of secret {name} to pack {pack_ref}"))
        });
    }
    let trail = Trail { action: "secret.revoke", subject: name, detail: json!({"pack": pack_ref}) };
    commit(host, transaction, actor, trail).await
}

fn check(name: &str, pack_ref: &str) -> Result<(), Denied> {
    check_name(name)?;
    if pack::is_ref(pack_ref) {
        return Ok(());
    }
    Err(Denied::BadRequest(format!("`{}` can't be the ref of a pack.", pack_ref.escape_debug())))
}

/// The first start on a database that was in use before grants existed: every pack keeps the secrets that it names.
/// Done once, by one host, with a line in the log and in the trail for each.
pub async fn grant_what_is_in_use(
    pool: &PgPool,
    registry: &Registry,
    config: &Config,
    clock: &Clock,
) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    if !secret_grants::take_pending(&mut transaction).await? {
        return Ok(());
    }
    let refs = registry.loaded.references().map(str::to_owned);
    let ownership = Ownership::new(refs, config.secret_grants());
    let named = registry.governed().flat_map(|governed| {
        governed.policy.secret_names().map(move |name| (name.to_owned(), governed.pack_ref.to_owned()))
    });
    let in_use: BTreeSet<_> = named.filter(|(name, pack_ref)| !ownership.may_use(pack_ref, name)).collect();
    for (name, pack_ref) in in_use {
        secret_grants::insert(&mut *transaction, &name, &pack_ref, clock.now()).await?;
        let row = AuditRow {
            id: Uuid::now_v7(),
            at: clock.now(),
            actor: "first start with grants".to_owned(),
            token_id: None,
            source_ip: None::<IpNet>,
            action: GRANT.to_owned(),
            subject: name.clone(),
            detail: Json(json!({"pack": pack_ref})),
        };
        audit::insert(&mut *transaction, &row).await?;
        tracing::warn!(
            name,
            pack_ref,
            "a pack uses a secret that is not its own by its name: it was granted, since it was in use before; \
             `hookpack secret revoke {name} --pack {pack_ref}` takes it back"
        );
    }
    transaction.commit().await
}
