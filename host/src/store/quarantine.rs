//! `hookpack.quarantine`: authentic requests that their pack could make nothing of.

use ipnet::IpNet;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;

/// A kept request without what was in it.
#[derive(Clone, Debug)]
pub struct KeptRow {
    pub id: Uuid,
    pub request_id: Uuid,
    pub received_at: OffsetDateTime,
    pub trigger_ref: String,
    /// Of the last attempt, as cause and detail are.
    pub pack_version: Option<String>,
    pub cause: String,
    pub detail: String,
    pub body_bytes: i32,
    pub attempts: i32,
    pub attempted_at: Option<OffsetDateTime>,
    /// `None`: it still waits.
    pub replayed_at: Option<OffsetDateTime>,
    pub outcome: Option<String>,
    pub event_id: Option<Uuid>,
}

/// What was in a kept request.
#[derive(Clone, Debug)]
pub struct KeptRequest {
    /// The trigger or pack whose URL it came to.
    pub owner_ref: String,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub source_ip: IpNet,
    pub headers: Json<Vec<(String, String)>>,
    pub body: Vec<u8>,
    pub idempotency_key: Option<String>,
}

/// Which of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub trigger_ref: Option<String>,
    pub cause: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    /// Only those that wait, or only those that don't.
    pub waits: Option<bool>,
    /// Of these packs only.
    pub pack_refs: Option<Vec<String>>,
}

/// The newest first; `before` is the last id of the page before.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<KeptRow>> {
    sqlx::query_as!(
        KeptRow,
        r#"select id, request_id, received_at, trigger_ref, pack_version, cause, detail,
                  octet_length(body) as "body_bytes!", attempts, attempted_at, replayed_at, outcome, event_id
           from hookpack.quarantine
           where ($1::text is null or trigger_ref = $1)
             and ($2::text is null or cause = $2)
             and ($3::timestamptz is null or received_at >= $3)
             and ($4::timestamptz is null or received_at < $4)
             and ($5::boolean is null or (replayed_at is null) = $5)
             and ($6::text[] is null or split_part(trigger_ref, '.', 1) = any($6))
             and ($7::uuid is null or id < $7)
           order by id desc
           limit $8"#,
        filter.trigger_ref,
        filter.cause,
        filter.since,
        filter.until,
        filter.waits,
        filter.pack_refs.as_deref(),
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<KeptRow>> {
    sqlx::query_as!(
        KeptRow,
        r#"select id, request_id, received_at, trigger_ref, pack_version, cause, detail,
                  octet_length(body) as "body_bytes!", attempts, attempted_at, replayed_at, outcome, event_id
           from hookpack.quarantine where id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// What was in it. Of rows from before their owner was kept, the log knows him, else it is the trigger.
pub async fn request(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<KeptRequest>> {
    sqlx::query_as!(
        KeptRequest,
        r#"select coalesce(q.owner_ref, l.trigger_ref, q.trigger_ref) as "owner_ref!", q.method, q.path, q.query,
                  q.source_ip as "source_ip: IpNet", q.headers as "headers: Json<Vec<(String, String)>>", q.body,
                  q.idempotency_key
           from hookpack.quarantine q left join hookpack.request_log l on l.id = q.request_id
           where q.id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Those that wait, the oldest first, after the last one of the chunk before.
pub async fn waiting(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from hookpack.quarantine
         where replayed_at is null
           and ($1::text is null or trigger_ref = $1)
           and ($2::text is null or cause = $2)
           and ($3::timestamptz is null or received_at >= $3)
           and ($4::timestamptz is null or received_at < $4)
           and ($5::text[] is null or split_part(trigger_ref, '.', 1) = any($5))
           and ($6::uuid is null or id > $6)
         order by id
         limit $7",
        filter.trigger_ref,
        filter.cause,
        filter.since,
        filter.until,
        filter.pack_refs.as_deref(),
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// How many wait that come after this one.
pub async fn count_waiting(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    after: Option<Uuid>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from hookpack.quarantine
           where replayed_at is null
             and ($1::text is null or trigger_ref = $1)
             and ($2::text is null or cause = $2)
             and ($3::timestamptz is null or received_at >= $3)
             and ($4::timestamptz is null or received_at < $4)
             and ($5::text[] is null or split_part(trigger_ref, '.', 1) = any($5))
             and ($6::uuid is null or id > $6)"#,
        filter.trigger_ref,
        filter.cause,
        filter.since,
        filter.until,
        filter.pack_refs.as_deref(),
        after,
    )
    .fetch_one(db)
    .await
}

/// What became of a request that waits no more.
#[derive(Clone, Debug)]
pub struct OverRow {
    pub replayed_at: Option<OffsetDateTime>,
    pub outcome: Option<String>,
    pub event_id: Option<Uuid>,
}

/// Makes everybody else who would replay it wait until the transaction ends.
pub async fn lock(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<OverRow>> {
    sqlx::query_as!(
        OverRow,
        "select replayed_at, outcome, event_id from hookpack.quarantine where id = $1 for update",
        id,
    )
    .fetch_optional(db)
    .await
}

/// A replay that came to something.
#[derive(Clone, Copy, Debug)]
pub struct Over<'a> {
    pub at: OffsetDateTime,
    pub pack_version: &'a str,
    pub outcome: &'a str,
    pub event_id: Option<Uuid>,
}

/// Marks a request as replayed. Its row of the request log gets the event, too, unless it has another one, and the
/// statistics count a request that became events.
pub async fn end(db: impl PgExecutor<'_>, id: Uuid, over: Over<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with ended as (
           update hookpack.quarantine
           set attempts = attempts + 1, attempted_at = $2, replayed_at = $2, pack_version = $3, outcome = $4, event_id = $5
           where id = $1
           returning request_id, trigger_ref
         ), counted as (
           insert into hookpack.request_count_delta
             (day, trigger_ref, outcome, latency, requests, body_bytes, last_at)
           select ($2::timestamptz at time zone 'UTC')::date, trigger_ref, 'replayed', 0, 1, 0, $2
           from ended where $4 = 'accepted'
         )
         update hookpack.request_log set event_id = $5
         where id in (select request_id from ended) and event_id is null",
        id,
        over.at,
        over.pack_version,
        over.outcome,
        over.event_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A replay that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    pub at: OffsetDateTime,
    pub pack_version: &'a str,
    pub cause: &'a str,
    pub detail: &'a str,
}

/// It goes on waiting, for what it fails on now.
pub async fn fail(db: impl PgExecutor<'_>, id: Uuid, failed: Failed<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "update hookpack.quarantine
         set attempts = attempts + 1, attempted_at = $2, pack_version = $3, cause = $4, detail = $5
         where id = $1",
        id,
        failed.at,
        failed.pack_version,
        failed.cause,
        &text(failed.detail),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Open requests of each trigger that has any.
pub async fn count_open(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select trigger_ref, count(*) as "open!" from hookpack.quarantine where replayed_at is null
           group by trigger_ref order by trigger_ref"#
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.trigger_ref, row.open)).collect())
}

/// Forgets one; of which trigger it was.
pub async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("delete from hookpack.quarantine where id = $1 returning trigger_ref", id)
        .fetch_optional(db)
        .await
}

/// Forgets requests from before, the oldest first and a bounded number at a time; how many.
pub async fn forget(db: impl PgExecutor<'_>, before: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    // Ids are in the order of time: if one of the oldest is to go it is among the first of them.
    let forgotten = sqlx::query!(
        "delete from hookpack.quarantine where id in
           (select id from (select id, received_at from hookpack.quarantine order by id limit $2) oldest where received_at < $1)",
        before,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
