//! `hookpack.secret`: values that are kept under a seal.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// One version of a secret.
#[derive(Clone, Debug)]
pub struct SecretRow {
    pub id: Uuid,
    pub name: String,
    pub value_sealed: Vec<u8>,
    /// `operator` or `handshake`
    pub source: String,
    /// Of a handshake: the pack that it was brought to. Older rows don't say.
    pub pack_ref: Option<String>,
    pub version: i32,
    pub created_at: OffsetDateTime,
    /// The end of a replaced version's grace time.
    pub expires_at: Option<OffsetDateTime>,
}

/// Every version that is in force, newest first.
pub async fn all(db: impl PgExecutor<'_>, now: OffsetDateTime) -> sqlx::Result<Vec<SecretRow>> {
    sqlx::query_as!(
        SecretRow,
        "select id, name, value_sealed, source, pack_ref, version, created_at, expires_at from hookpack.secret
         where expires_at is null or expires_at > $1
         order by name, version desc, created_at desc, id desc",
        now,
    )
    .fetch_all(db)
    .await
}

/// Every version whatever its time, locked until the transaction ends: what another master key is to seal.
pub async fn lock_all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<SecretRow>> {
    sqlx::query_as!(
        SecretRow,
        "select id, name, value_sealed, source, pack_ref, version, created_at, expires_at from hookpack.secret
         order by id for update",
    )
    .fetch_all(db)
    .await
}

/// Makes everybody else who would change this name wait until the transaction ends.
pub async fn lock_name(db: impl PgExecutor<'_>, name: &str) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('hookpack.secret ' || $1, 0))", name)
        .fetch_all(db)
        .await?;
    Ok(())
}

/// Lets the operator's versions of a name end at that time, those that would live longer; and how many they are.
pub async fn end(db: impl PgExecutor<'_>, name: &str, at: OffsetDateTime) -> sqlx::Result<u64> {
    let ended = sqlx::query!(
        "update hookpack.secret set expires_at = $2
         where name = $1 and source = 'operator' and (expires_at is null or expires_at > $2)",
        name,
        at,
    );
    Ok(ended.execute(db).await?.rows_affected())
}

/// One more version of an operator's; its number.
pub async fn add(
    db: impl PgExecutor<'_>,
    name: &str,
    value_sealed: &[u8],
    now: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        "insert into hookpack.secret (id, name, value_sealed, source, version, created_at, expires_at)
         select $1, $2, $3, 'operator', 1 + coalesce(max(version), 0), $4, $5 from hookpack.secret where name = $2
         returning version",
        Uuid::now_v7(),
        name,
        value_sealed,
        now,
        expires_at,
    )
    .fetch_one(db)
    .await
}

/// Other seals around the same values.
pub async fn reseal(db: impl PgExecutor<'_>, ids: &[Uuid], values_sealed: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query!(
        "update hookpack.secret s set value_sealed = fresh.value_sealed
         from unnest($1::uuid[], $2::bytea[]) as fresh (id, value_sealed) where s.id = fresh.id",
        ids,
        values_sealed,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many of the operator's versions of a name are in force at that time.
pub async fn count(db: impl PgExecutor<'_>, name: &str, at: OffsetDateTime) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from hookpack.secret
           where name = $1 and source = 'operator' and (expires_at is null or expires_at > $2)"#,
        name,
        at,
    )
    .fetch_one(db)
    .await
}

/// Forgets the operator's versions of a name that are older than this one.
pub async fn forget_older(db: impl PgExecutor<'_>, name: &str, version: i32) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from hookpack.secret where name = $1 and source = 'operator' and version < $2",
        name,
        version,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets every version of a name; how many they were.
pub async fn delete(db: impl PgExecutor<'_>, name: &str) -> sqlx::Result<u64> {
    let deleted = sqlx::query!("delete from hookpack.secret where name = $1", name);
    Ok(deleted.execute(db).await?.rows_affected())
}

/// Forgets versions whose grace time ended before.
pub async fn forget_ended(db: impl PgExecutor<'_>, before: OffsetDateTime) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!("delete from hookpack.secret where expires_at <= $1", before);
    Ok(forgotten.execute(db).await?.rows_affected())
}

/// Keeps what a handshake of a pack brought, unless one of that name was kept for it before; whether it was the first.
pub async fn keep_brought(
    db: impl PgExecutor<'_>,
    name: &str,
    pack_ref: &str,
    value_sealed: &[u8],
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let kept = sqlx::query!(
        "insert into hookpack.secret (id, name, value_sealed, source, created_at, pack_ref)
         values ($1, $2, $3, 'handshake', $4, $5)
         on conflict (name, coalesce(pack_ref, '')) where source = 'handshake' do nothing",
        Uuid::now_v7(),
        name,
        value_sealed,
        now,
        pack_ref,
    )
    .execute(db)
    .await?;
    Ok(kept.rows_affected() == 1)
}
