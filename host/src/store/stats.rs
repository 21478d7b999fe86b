//! `hookpack.request_count`: how many requests there were, without counting them again.

use std::{collections::HashMap, time::Duration};

use sqlx::PgExecutor;
use time::{Date, OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::model::{LogRow, Outcome};

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

/// Requests that are counted without a row of their own in the log.
#[derive(Debug, Default)]
pub struct Counts(HashMap<CountKey, Counted>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CountKey {
    day: Date,
    trigger_ref: Option<String>,
    endpoint_key_id: Option<Uuid>,
    outcome: Outcome,
    latency: i16,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    requests: i64,
    body_bytes: i64,
    last_at: OffsetDateTime,
}

impl Counts {
    pub fn add(&mut self, row: &LogRow) {
        let key = CountKey {
            day: row.received_at.to_offset(UtcOffset::UTC).date(),
            trigger_ref: row.trigger_ref.clone(),
            endpoint_key_id: row.endpoint_key_id,
            outcome: row.outcome,
            latency: latency_of(row.duration()),
        };
        self.count(key, Counted { requests: 1, body_bytes: row.body_bytes, last_at: row.received_at });
    }

    pub fn merge(&mut self, others: Self) {
        for (key, counted) in others.0 {
            self.count(key, counted);
        }
    }

    fn count(&mut self, key: CountKey, more: Counted) {
        let Counted { requests, body_bytes, last_at } = more;
        let held = self.0.entry(key).or_insert(Counted { requests: 0, body_bytes: 0, last_at });
        held.requests += requests;
        held.body_bytes = held.body_bytes.saturating_add(body_bytes);
        held.last_at = held.last_at.max(last_at);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As `hookpack.latency_of` has it.
#[expect(clippy::cast_possible_truncation, reason = "four times a logarithm of 64 bits")]
#[expect(clippy::cast_precision_loss, reason = "classes are a fifth apart")]
fn latency_of(took: Duration) -> i16 {
    let micros = took.as_micros().max(1) as f64;
    (4.0 * micros.ln() / std::f64::consts::LN_2).floor() as i16
}

/// Adds counts to the deltas.
pub async fn add(db: impl PgExecutor<'_>, counts: &Counts) -> sqlx::Result<()> {
    let rows = || counts.0.iter();
    sqlx::query!(
        "insert into hookpack.request_count_delta
           (day, trigger_ref, endpoint_key_id, outcome, latency, requests, body_bytes, last_at)
         select * from unnest($1::date[], $2::text[], $3::uuid[], $4::text[], $5::smallint[], $6::bigint[], $7::bigint[],
                              $8::timestamptz[])",
        &rows().map(|(key, _)| key.day).collect::<Vec<_>>(),
        &rows().map(|(key, _)| key.trigger_ref.as_deref().unwrap_or_default()).collect::<Vec<_>>() as &[&str],
        &rows().map(|(key, _)| key.endpoint_key_id).collect::<Vec<_>>() as &[Option<Uuid>],
        &rows().map(|(key, _)| key.outcome.word()).collect::<Vec<_>>() as &[&str],
        &rows().map(|(key, _)| key.latency).collect::<Vec<_>>(),
        &rows().map(|(_, counted)| counted.requests).collect::<Vec<_>>(),
        &rows().map(|(_, counted)| counted.body_bytes).collect::<Vec<_>>(),
        &rows().map(|(_, counted)| counted.last_at).collect::<Vec<_>>(),
    )
    .execute(db)
    .await?;
    Ok(())
}
