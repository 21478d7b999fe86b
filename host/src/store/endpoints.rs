//! `hookpack.endpoint` and `hookpack.endpoint_key`: who receives under which key.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// One endpoint key and what it belongs to.
#[derive(Clone, Debug)]
pub struct KeyRow {
    pub key_id: Uuid,
    pub owner_ref: String,
    pub key_hash: Vec<u8>,
    pub key_sealed: Vec<u8>,
    pub paused: bool,
    pub label: Option<String>,
    pub expires_at: Option<OffsetDateTime>,
    /// The one that `regenerate` replaces.
    pub is_main: bool,
    pub created_at: OffsetDateTime,
}

/// A key for an owner that may have none yet.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub key_id: Uuid,
    pub owner_ref: String,
    /// `trigger` or `pack`
    pub kind: &'static str,
    pub key_hash: Vec<u8>,
    pub key_sealed: Vec<u8>,
}

/// Every key of these owners.
pub async fn keys(db: impl PgExecutor<'_>, owner_refs: &[&str]) -> sqlx::Result<Vec<KeyRow>> {
    sqlx::query_as!(
        KeyRow,
        "select k.id as key_id, k.owner_ref, k.key_hash, k.key_sealed, e.paused, k.label, k.expires_at, k.is_main,
                k.created_at
         from hookpack.endpoint_key k join hookpack.endpoint e using (owner_ref)
         where k.owner_ref = any($1)
         order by k.is_main desc, k.created_at, k.id",
        owner_refs as &[&str],
    )
    .fetch_all(db)
    .await
}

/// A key's hash and what it belongs to.
#[derive(Clone, Debug)]
pub struct OwnerRow {
    pub owner_ref: String,
    pub key_hash: Vec<u8>,
}

/// Every key of these packs and of their triggers.
pub async fn keys_of_packs(db: impl PgExecutor<'_>, pack_refs: &[&str]) -> sqlx::Result<Vec<OwnerRow>> {
    sqlx::query_as!(
        OwnerRow,
        "select owner_ref, key_hash from hookpack.endpoint_key where split_part(owner_ref, '.', 1) = any($1)",
        pack_refs as &[&str],
    )
    .fetch_all(db)
    .await
}

/// Opens an endpoint with its key for each owner that never had one; of hosts that do so at once, one is first.
pub async fn issue(db: impl PgExecutor<'_>, keys: &[NewKey], now: OffsetDateTime) -> sqlx::Result<()> {
    let column = |of: fn(&NewKey) -> &str| keys.iter().map(of).collect::<Vec<_>>();
    let (owner_refs, kinds) = (column(|key| &key.owner_ref), column(|key| key.kind));
    let key_ids: Vec<_> = keys.iter().map(|key| key.key_id).collect();
    let key_hashes: Vec<_> = keys.iter().map(|key| key.key_hash.clone()).collect();
    let keys_sealed: Vec<_> = keys.iter().map(|key| key.key_sealed.clone()).collect();
    sqlx::query!(
        "with opened as (
           insert into hookpack.endpoint (owner_ref, kind, created_at)
           select owner_ref, kind, $1 from unnest($2::text[], $3::text[]) as o (owner_ref, kind)
           -- In one order everywhere: hosts wait for each other and never deadlock.
           order by owner_ref
           on conflict (owner_ref) do nothing
           returning owner_ref
         )
         insert into hookpack.endpoint_key (id, owner_ref, key_hash, key_sealed, created_at)
         select id, owner_ref, key_hash, key_sealed, $1
         from unnest($4::uuid[], $2::text[], $5::bytea[], $6::bytea[]) as k (id, owner_ref, key_hash, key_sealed)
         where owner_ref in (select owner_ref from opened)",
        now,
        &owner_refs as &[&str],
        &kinds as &[&str],
        &key_ids,
        &key_hashes,
        &keys_sealed,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The packs that have or had an endpoint, of their own or a trigger's.
pub async fn packs(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select distinct split_part(owner_ref, '.', 1) as "pack_ref!" from hookpack.endpoint"#
    )
    .fetch_all(db)
    .await
}

/// Whether an owner's endpoint is paused, locked until the transaction ends; `None` when it never had one.
pub async fn lock(db: impl PgExecutor<'_>, owner_ref: &str) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!("select paused from hookpack.endpoint where owner_ref = $1 for update", owner_ref)
        .fetch_optional(db)
        .await
}

/// Makes the endpoint of an owner that never had one; its keys come by themselves.
pub async fn open(
    db: impl PgExecutor<'_>,
    owner_ref: &str,
    kind: &str,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.endpoint (owner_ref, kind, created_at) values ($1, $2, $3)
         on conflict (owner_ref) do nothing",
        owner_ref,
        kind,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn pause(db: impl PgExecutor<'_>, owner_ref: &str, paused: bool) -> sqlx::Result<()> {
    sqlx::query!("update hookpack.endpoint set paused = $2 where owner_ref = $1", owner_ref, paused)
        .execute(db)
        .await?;
    Ok(())
}

/// A key beside those that are there.
#[derive(Clone, Copy, Debug)]
pub struct AddedKey<'a> {
    pub key: &'a NewKey,
    pub label: Option<&'a str>,
    pub expires_at: Option<OffsetDateTime>,
    pub is_main: bool,
}

pub async fn add_key(db: impl PgExecutor<'_>, added: AddedKey<'_>, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.endpoint_key
           (id, owner_ref, key_hash, key_sealed, label, expires_at, is_main, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        added.key.key_id,
        added.key.owner_ref,
        added.key.key_hash,
        added.key.key_sealed,
        added.label,
        added.expires_at,
        added.is_main,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The main key of an owner.
pub async fn main_key(db: impl PgExecutor<'_>, owner_ref: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select id from hookpack.endpoint_key where owner_ref = $1 and is_main", owner_ref)
        .fetch_optional(db)
        .await
}

/// Revokes one key; whether it was there, and was not the main one.
pub async fn revoke_key(db: impl PgExecutor<'_>, owner_ref: &str, id: Uuid) -> sqlx::Result<bool> {
    let revoked = sqlx::query!(
        "delete from hookpack.endpoint_key where owner_ref = $1 and id = $2 and not is_main",
        owner_ref,
        id,
    );
    Ok(revoked.execute(db).await?.rows_affected() == 1)
}

/// Revokes the main key, or every key.
pub async fn revoke_keys(db: impl PgExecutor<'_>, owner_ref: &str, main_alone: bool) -> sqlx::Result<u64> {
    let revoked = sqlx::query!(
        // In the order of `lock_sealed`: neither waits for the other.
        "delete from hookpack.endpoint_key where id in
           (select id from hookpack.endpoint_key where owner_ref = $1 and (is_main or not $2) order by id for update)",
        owner_ref,
        main_alone,
    );
    Ok(revoked.execute(db).await?.rows_affected())
}

/// A key under its seal.
#[derive(Clone, Debug)]
pub struct SealedRow {
    pub key_id: Uuid,
    pub owner_ref: String,
    pub key_sealed: Vec<u8>,
}

/// Every key, locked until the transaction ends: what another master key is to seal.
pub async fn lock_sealed(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<SealedRow>> {
    sqlx::query_as!(
        SealedRow,
        "select id as key_id, owner_ref, key_sealed from hookpack.endpoint_key order by id for update"
    )
    .fetch_all(db)
    .await
}

/// Other seals around the same keys.
pub async fn reseal(db: impl PgExecutor<'_>, key_ids: &[Uuid], keys_sealed: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query!(
        "update hookpack.endpoint_key k set key_sealed = fresh.key_sealed
         from unnest($1::uuid[], $2::bytea[]) as fresh (id, key_sealed) where k.id = fresh.id",
        key_ids,
        keys_sealed,
    )
    .execute(db)
    .await?;
    Ok(())
}
