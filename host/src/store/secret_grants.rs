//! `hookpack.secret_grant`: which packs may use which secrets beyond their own.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::secret::StoredGrant;

/// In the order of names and refs.
pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<StoredGrant>> {
    sqlx::query_as!(
        StoredGrant,
        "select name, pack_ref, created_at from hookpack.secret_grant order by name, pack_ref"
    )
    .fetch_all(db)
    .await
}

/// `false`: it was there before.
pub async fn insert(
    db: impl PgExecutor<'_>,
    name: &str,
    pack_ref: &str,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query!(
        "insert into hookpack.secret_grant (name, pack_ref, created_at) values ($1, $2, $3) on conflict do nothing",
        name,
        pack_ref,
        now,
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// `false`: there was none.
pub async fn delete(db: impl PgExecutor<'_>, name: &str, pack_ref: &str) -> sqlx::Result<bool> {
    let deleted =
        sqlx::query!("delete from hookpack.secret_grant where name = $1 and pack_ref = $2", name, pack_ref);
    Ok(deleted.execute(db).await?.rows_affected() == 1)
}

/// Whether this database was in use before grants existed and what is in use has not been granted yet. Says yes to one
/// transaction only, and to another one if that is rolled back.
pub async fn take_pending(db: &mut PgConnection) -> sqlx::Result<bool> {
    let taken = sqlx::query!("delete from hookpack.secret_grant_pending").execute(db).await?;
    Ok(taken.rows_affected() == 1)
}
