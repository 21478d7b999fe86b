//! `hookpack.secret`: values that are kept under a seal.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct SecretRow {
    pub name: String,
    pub value_sealed: Vec<u8>,
}

/// Every secret, newest first.
pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<SecretRow>> {
    sqlx::query_as!(
        SecretRow,
        "select name, value_sealed from hookpack.secret order by created_at desc, id desc"
    )
    .fetch_all(db)
    .await
}

/// Keeps what a handshake brought, unless one of that name was kept before; whether it was the first.
pub async fn keep_brought(
    db: impl PgExecutor<'_>,
    name: &str,
    value_sealed: &[u8],
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let kept = sqlx::query!(
        "insert into hookpack.secret (id, name, value_sealed, source, created_at)
         values ($1, $2, $3, 'handshake', $4)
         on conflict (name) where source = 'handshake' do nothing",
        Uuid::now_v7(),
        name,
        value_sealed,
        now,
    )
    .execute(db)
    .await?;
    Ok(kept.rows_affected() == 1)
}
