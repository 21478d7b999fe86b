//! `hookpack.event`, read.

use serde_json::value::RawValue;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

#[derive(Debug)]
pub struct EventRow {
    pub id: Uuid,
    pub pack_ref: String,
    /// The version of the pack that it went through, and the SHA-256 of its files in hex.
    pub pack_version: Option<String>,
    pub pack_hash: Option<String>,
    pub trigger_ref: String,
    /// The document as it is stored, digit by digit.
    pub payload: Json<Box<RawValue>>,
    pub metadata: Json<Box<RawValue>>,
    pub idempotency_key: Option<String>,
    pub received_at: OffsetDateTime,
}

/// What to list, the newest first; `before` is the last id of the page before.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub trigger_ref: Option<String>,
    pub key: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    pub before: Option<Uuid>,
    /// Of these packs only.
    pub pack_refs: Option<Vec<String>>,
    pub limit: i64,
}

pub async fn list(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Vec<EventRow>> {
    sqlx::query_as!(
        EventRow,
        r#"select id, pack_ref, pack_version, encode(pack_hash, 'hex') as pack_hash, trigger_ref,
                   payload as "payload: Json<Box<RawValue>>",
                  metadata as "metadata: Json<Box<RawValue>>", idempotency_key, received_at
           from hookpack.event
           where ($1::text is null or trigger_ref = $1)
             and ($2::text is null or idempotency_key = $2)
             and ($3::timestamptz is null or received_at >= $3)
             and ($4::timestamptz is null or received_at < $4)
             and ($5::uuid is null or id < $5)
             and ($7::text[] is null or pack_ref = any($7))
           order by id desc
           limit $6"#,
        filter.trigger_ref,
        filter.key,
        filter.since,
        filter.until,
        filter.before,
        filter.limit,
        filter.pack_refs.as_deref(),
    )
    .fetch_all(db)
    .await
}

pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<EventRow>> {
    sqlx::query_as!(
        EventRow,
        r#"select id, pack_ref, pack_version, encode(pack_hash, 'hex') as pack_hash, trigger_ref,
                   payload as "payload: Json<Box<RawValue>>",
                  metadata as "metadata: Json<Box<RawValue>>", idempotency_key, received_at
           from hookpack.event where id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// The events that a request became, in order. It reads the whole table: for a demo's.
pub async fn of_request(db: impl PgExecutor<'_>, request_id: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from hookpack.event where metadata->>'request_id' = $1 order by id",
        request_id.to_string(),
    )
    .fetch_all(db)
    .await
}
