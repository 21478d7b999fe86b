//! `hookpack.request_count`: how many requests there were, without counting them again.

use sqlx::PgExecutor;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// Requests of one owner that ended alike and took about as long.
#[derive(Clone, Debug)]
pub struct CountRow {
    /// As in the request log; empty: nobody's.
    pub trigger_ref: String,
    pub outcome: String,
    /// The class of durations: those from 2^(n/4) µs on.
    pub latency: i16,
    pub requests: i64,
    pub body_bytes: i64,
    pub last_at: Option<OffsetDateTime>,
}

/// Since a day, in the order of owners and of classes.
pub async fn counts(
    db: impl PgExecutor<'_>,
    trigger_ref: Option<&str>,
    pack_refs: Option<&[String]>,
    since: Date,
) -> sqlx::Result<Vec<CountRow>> {
    sqlx::query_as!(
        CountRow,
        r#"select trigger_ref as "trigger_ref!", outcome as "outcome!", latency as "latency!",
                  sum(requests)::bigint as "requests!", sum(body_bytes)::bigint as "body_bytes!", max(last_at) as last_at
           from (select day, trigger_ref, outcome, latency, requests, body_bytes, last_at from hookpack.request_count
                 union all
                 select day, trigger_ref, outcome, latency, requests, body_bytes, last_at
                 from hookpack.request_count_delta) c
           where day >= $1
             and ($2::text is null or trigger_ref = $2)
             and ($3::text[] is null or split_part(trigger_ref, '.', 1) = any($3))
           group by trigger_ref, outcome, latency
           having sum(requests) > 0
           order by trigger_ref, latency"#,
        since,
        trigger_ref,
        pack_refs,
    )
    .fetch_all(db)
    .await
}

/// What came under a key, ever.
#[derive(Clone, Copy, Debug)]
pub struct KeyCountRow {
    pub endpoint_key_id: Uuid,
    pub requests: i64,
    pub last_at: Option<OffsetDateTime>,
}

pub async fn of_keys(db: impl PgExecutor<'_>, key_ids: &[Uuid]) -> sqlx::Result<Vec<KeyCountRow>> {
    sqlx::query_as!(
        KeyCountRow,
        r#"select endpoint_key_id as "endpoint_key_id!", sum(requests)::bigint as "requests!", max(last_at) as last_at
           from (select endpoint_key_id, requests, last_at from hookpack.endpoint_key_count
                 union all
                 select endpoint_key_id, requests, last_at from hookpack.request_count_delta) c
           where endpoint_key_id = any($1)
           group by endpoint_key_id"#,
        key_ids,
    )
    .fetch_all(db)
    .await
}

/// Folds deltas into the sums, a bounded number at a time; how many.
pub async fn fold(db: impl PgExecutor<'_>, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"with gone as (
             delete from hookpack.request_count_delta
             where ctid = any(array(select ctid from hookpack.request_count_delta limit $1))
             returning *
           ), counted as (
             insert into hookpack.request_count as held
               (day, trigger_ref, outcome, latency, requests, body_bytes, last_at)
             select day, trigger_ref, outcome, latency, sum(requests), sum(body_bytes), max(last_at)
             from gone group by day, trigger_ref, outcome, latency
             on conflict (day, trigger_ref, outcome, latency) do update
               set requests = held.requests + excluded.requests, body_bytes = held.body_bytes + excluded.body_bytes,
                   last_at = greatest(held.last_at, excluded.last_at)
           ), used as (
             insert into hookpack.endpoint_key_count as held (endpoint_key_id, requests, last_at)
             select endpoint_key_id, sum(requests), max(last_at)
             from gone where endpoint_key_id is not null group by endpoint_key_id
             on conflict (endpoint_key_id) do update
               set requests = held.requests + excluded.requests, last_at = greatest(held.last_at, excluded.last_at)
           )
           select count(*) as "folded!" from gone"#,
        most,
    )
    .fetch_one(db)
    .await
}

/// Forgets days from before, a bounded number of rows at a time; how many.
pub async fn forget(db: impl PgExecutor<'_>, before: Date, most: i64) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        "delete from hookpack.request_count
         where ctid = any(array(select ctid from hookpack.request_count where day < $1 order by day limit $2))",
        before,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}

/// Forgets what came under keys that are revoked, a bounded number at a time; how many.
pub async fn forget_keys(db: impl PgExecutor<'_>, most: i64) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        "delete from hookpack.endpoint_key_count where endpoint_key_id in
           (select endpoint_key_id from hookpack.endpoint_key_count c
            where not exists (select from hookpack.endpoint_key k where k.id = c.endpoint_key_id) limit $1)",
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
