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
        "select k.id as key_id, k.owner_ref, k.key_hash, k.key_sealed, e.paused
         from hookpack.endpoint_key k join hookpack.endpoint e using (owner_ref)
         where k.owner_ref = any($1)
         order by k.created_at, k.id",
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
