//! Whose turn it is to tidy up.

use sqlx::PgExecutor;

/// Until the transaction ends nobody else tidies this up; `false`: somebody else does.
pub async fn lock(db: impl PgExecutor<'_>, what: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('hookpack.tidy ' || $1, 0)) as "locked!""#,
        what,
    )
    .fetch_one(db)
    .await
}
