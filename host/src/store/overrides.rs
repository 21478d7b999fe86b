//! `hookpack.policy_override`: what operators want otherwise than a pack.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRow {
    pub owner_ref: String,
    /// One JSON object, the keys of `webhook`.
    pub policy: String,
    /// What the pack said of these keys when they were overridden.
    pub declared: String,
}

pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<OverrideRow>> {
    sqlx::query_as!(
        OverrideRow,
        r#"select owner_ref, policy::text as "policy!", declared::text as "declared!" from hookpack.policy_override"#
    )
    .fetch_all(db)
    .await
}

/// The override of one owner, if there is one; whoever else would change it waits until the transaction ends.
pub async fn lock(db: &mut PgConnection, owner_ref: &str) -> sqlx::Result<Option<OverrideRow>> {
    // Of two who would be the first there is no row to lock.
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('hookpack.policy_override ' || $1, 0))",
        owner_ref
    )
    .fetch_all(&mut *db)
    .await?;
    sqlx::query_as!(
        OverrideRow,
        r#"select owner_ref, policy::text as "policy!", declared::text as "declared!"
           from hookpack.policy_override where owner_ref = $1"#,
        owner_ref,
    )
    .fetch_optional(db)
    .await
}

pub async fn upsert(
    db: impl PgExecutor<'_>,
    row: &OverrideRow,
    kind: &str,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.policy_override (owner_ref, kind, policy, declared, updated_at)
         values ($1, $2, $3::text::json, $4::text::json, $5)
         on conflict (owner_ref) do update
           set policy = excluded.policy, declared = excluded.declared, updated_at = excluded.updated_at",
        row.owner_ref,
        kind,
        row.policy,
        row.declared,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn delete(db: impl PgExecutor<'_>, owner_ref: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from hookpack.policy_override where owner_ref = $1", owner_ref).execute(db).await?;
    Ok(())
}
