//! `hookpack.change`: by its number hosts see that an operator changed something, wherever that was.

use sqlx::{PgExecutor, PgPool, postgres::PgListener};

/// Where hosts hear of it, with nothing in it: the tables say what it is.
const CHANNEL: &str = "hookpack_change";

/// Says, once the transaction commits, that something changed.
pub async fn tell(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with counted as (update hookpack.change set version = version + 1 returning version)
         select pg_notify($1, '') from counted",
        CHANNEL,
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// How many changes there have been.
pub async fn version(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select version from hookpack.change").fetch_one(db).await
}

/// Hears of changes from now on.
pub async fn listen(pool: &PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Keeps the master key from being replaced until the transaction ends: what is sealed in it is sealed anew after it.
pub async fn lock_sealing(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock_shared(hashtextextended('hookpack.master_key', 0))")
        .fetch_all(db)
        .await?;
    Ok(())
}

/// Makes everybody else who would seal anything, or everything anew, wait until the transaction ends.
pub async fn lock_rotation(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('hookpack.master_key', 0))")
        .fetch_all(db)
        .await?;
    Ok(())
}
