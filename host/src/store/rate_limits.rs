//! `hookpack.rate_limit`: what is left of each trigger's limit, for all hosts together.

use sqlx::PgExecutor;
use time::OffsetDateTime;

use crate::config::RateLimit;

/// What a host got of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub requests: i64,
    /// Seconds until there is one more.
    pub wait_seconds: f64,
}

/// Takes up to `wanted` requests of a limit, and gives `returned` back that were taken before and not used; `None` where
/// nobody counts yet. The time is the database's, so that hosts agree on it, unless it is given.
pub async fn take(
    db: impl PgExecutor<'_>,
    owner_ref: &str,
    limit: RateLimit,
    wanted: i64,
    returned: i64,
    now: Option<OffsetDateTime>,
) -> sqlx::Result<Option<Taken>> {
    // Requests come back evenly: one every window / requests seconds, until all are there.
    sqlx::query_as!(
        Taken,
        r#"with moment as materialized (
             select coalesce($6::timestamptz, clock_timestamp()) as now, $3::bigint::float8 / $2::bigint as each
           ), held as (
             select requests, window_seconds, full_at from hookpack.rate_limit where owner_ref = $1 for update
           ), state as (
             -- Where the limit was another one, as many requests of it are gone.
             select now, each, now + interval '1 second' * least($3, greatest(0, each *
               (extract(epoch from full_at - now)::float8 * requests / window_seconds - $5::bigint))) as full_at
             from held, moment
           ), fit as (
             select now, each, full_at,
               least($4::bigint, floor(($3 - extract(epoch from full_at - now)) / each + 1e-3))::bigint as taken
             from state
           )
           update hookpack.rate_limit l
           set requests = $2, window_seconds = $3, full_at = fit.full_at + greatest(taken, 0) * each * interval '1 second'
           from fit where l.owner_ref = $1
           returning greatest(taken, 0) as "requests!",
             (extract(epoch from fit.full_at - fit.now) + each - $3)::float8 as "wait_seconds!""#,
        owner_ref,
        i64::from(limit.requests.get()),
        i64::from(limit.window_seconds.get()),
        wanted,
        returned,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Begins to count.
pub async fn begin(db: impl PgExecutor<'_>, owner_ref: &str, limit: RateLimit) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into hookpack.rate_limit (owner_ref, requests, window_seconds, full_at)
         values ($1, $2, $3, 'epoch') on conflict (owner_ref) do nothing",
        owner_ref,
        i64::from(limit.requests.get()),
        i64::from(limit.window_seconds.get()),
    )
    .execute(db)
    .await?;
    Ok(())
}
