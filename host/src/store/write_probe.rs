//! `hookpack.write_probe`: a write that nothing depends on.

use sqlx::PgExecutor;

/// Writes and commits a row.
pub async fn write(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.write_probe (id, at) values (1, now()) on conflict (id) do update set at = excluded.at"
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The same with so much that the table must grow: a small row finds room on a full disk, too.
pub async fn grow(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.write_probe (id, at, filler)
         select 2, now(), string_agg(gen_random_uuid()::text, '') from generate_series(1, 8000)
         on conflict (id) do update set at = excluded.at, filler = excluded.filler"
    )
    .execute(db)
    .await?;
    Ok(())
}
