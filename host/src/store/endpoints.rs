//! `hookpack.endpoint` and `hookpack.endpoint_key`: who receives under which key.

use sqlx::{PgConnection, PgExecutor};
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

/// Every key of every endpoint.
pub async fn keys(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<KeyRow>> {
    sqlx::query_as!(
        KeyRow,
        "select k.id as key_id, k.owner_ref, k.key_hash, k.key_sealed, e.paused
         from hookpack.endpoint_key k join hookpack.endpoint e using (owner_ref)
         order by k.created_at, k.id",
    )
    .fetch_all(db)
    .await
}

/// Opens an endpoint for an owner that never had one; `false` when it has or had.
pub async fn open(
    db: &mut PgConnection,
    owner_ref: &str,
    kind: &str,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let opened = sqlx::query!(
        "insert into hookpack.endpoint (owner_ref, kind, created_at) values ($1, $2, $3)
         on conflict (owner_ref) do nothing",
        owner_ref,
        kind,
        now,
    )
    .execute(db)
    .await?;
    Ok(opened.rows_affected() == 1)
}

pub async fn insert_key(
    db: &mut PgConnection,
    key_id: Uuid,
    owner_ref: &str,
    key_hash: &[u8],
    key_sealed: &[u8],
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.endpoint_key (id, owner_ref, key_hash, key_sealed, created_at)
         values ($1, $2, $3, $4, $5)",
        key_id,
        owner_ref,
        key_hash,
        key_sealed,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}
