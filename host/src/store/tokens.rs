//! `hookpack.api_token`: who may ask the management API, and for what.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::model::Scope;

/// A token as it is kept: its hash can't be turned back into it.
#[derive(Clone, Debug)]
pub struct TokenRow {
    pub id: Uuid,
    pub label: String,
    pub scope: String,
    pub pack_refs: Option<Vec<String>>,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub last_used_at: Option<OffsetDateTime>,
}

/// A token to be.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    pub id: Uuid,
    pub hash: &'a [u8],
    pub label: &'a str,
    pub scope: Scope,
    pub pack_refs: Option<&'a [String]>,
    pub expires_at: Option<OffsetDateTime>,
}

/// Keeps a token; `false` when one of that hash is there already, in force or revoked.
pub async fn insert(db: impl PgExecutor<'_>, token: NewToken<'_>, now: OffsetDateTime) -> sqlx::Result<bool> {
    let kept = sqlx::query!(
        "insert into hookpack.api_token (id, token_hash, label, scope, pack_refs, expires_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (token_hash) do nothing",
        token.id,
        token.hash,
        token.label,
        token.scope.word(),
        token.pack_refs,
        token.expires_at,
        now,
    )
    .execute(db)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// The token with this hash, unless it is revoked or its time is over.
pub async fn find(
    db: impl PgExecutor<'_>,
    hash: &[u8],
    now: OffsetDateTime,
) -> sqlx::Result<Option<TokenRow>> {
    sqlx::query_as!(
        TokenRow,
        "select id, label, scope, pack_refs, created_at, expires_at, last_used_at from hookpack.api_token
         where token_hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)",
        hash,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Takes note that a token was used.
pub async fn used(db: impl PgExecutor<'_>, id: Uuid, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("update hookpack.api_token set last_used_at = $2 where id = $1", id, now)
        .execute(db)
        .await?;
    Ok(())
}

/// Whether the token with this hash was revoked.
pub async fn is_revoked(db: impl PgExecutor<'_>, hash: &[u8]) -> sqlx::Result<bool> {
    let revoked = sqlx::query_scalar!(
        r#"select revoked_at is not null as "revoked!" from hookpack.api_token where token_hash = $1"#,
        hash
    );
    Ok(revoked.fetch_optional(db).await?.unwrap_or(false))
}

/// Every token that isn't revoked, the newest first.
pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<TokenRow>> {
    sqlx::query_as!(
        TokenRow,
        "select id, label, scope, pack_refs, created_at, expires_at, last_used_at from hookpack.api_token
         where revoked_at is null order by created_at desc, id",
    )
    .fetch_all(db)
    .await
}

/// Ends a token; its label, when there was one to end.
pub async fn revoke(db: impl PgExecutor<'_>, id: Uuid, now: OffsetDateTime) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "update hookpack.api_token set revoked_at = $2 where id = $1 and revoked_at is null returning label",
        id,
        now,
    )
    .fetch_optional(db)
    .await
}
