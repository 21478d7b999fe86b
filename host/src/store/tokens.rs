//! `hookpack.api_token`: who may ask the management API.

use sqlx::PgExecutor;
use time::OffsetDateTime;

/// Makes sure that a token is known; knowing it already is fine.
pub async fn upsert(
    db: impl PgExecutor<'_>,
    hash: &[u8],
    label: &str,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.api_token (token_hash, label, created_at) values ($1, $2, $3)
         on conflict (token_hash) do nothing",
        hash,
        label,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether anybody holds the token with this hash.
pub async fn exists(db: impl PgExecutor<'_>, hash: &[u8]) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!("select true from hookpack.api_token where token_hash = $1", hash);
    Ok(found.fetch_optional(db).await?.is_some())
}
