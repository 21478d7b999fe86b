//! `hookpack.request_log`, read.

use ipnet::IpNet;
use sqlx::{PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

#[derive(Debug)]
pub struct RequestRow {
    pub id: Uuid,
    pub received_at: OffsetDateTime,
    pub trigger_ref: Option<String>,
    pub endpoint_key_id: Option<Uuid>,
    pub source_ip: IpNet,
    pub user_agent: Option<String>,
    pub method: String,
    pub body_bytes: i64,
    pub status: i16,
    pub outcome: String,
    pub detail: Option<String>,
    pub event_id: Option<Uuid>,
    pub verified: bool,
    pub duration_us: i64,
    pub pack_version: Option<String>,
    /// Of a request that was not accepted.
    pub headers: Option<Json<Vec<(String, String)>>>,
}

/// What to list, the newest first; `before` is the last id of the page before.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub trigger_ref: Option<String>,
    pub status: Option<i16>,
    pub outcome: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    pub before: Option<Uuid>,
    /// To these packs and their triggers only.
    pub pack_refs: Option<Vec<String>>,
    pub limit: i64,
}

pub async fn list(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Vec<RequestRow>> {
    sqlx::query_as!(
        RequestRow,
        r#"select id, received_at, trigger_ref, endpoint_key_id, source_ip as "source_ip: IpNet", user_agent,
                  method, body_bytes, status, outcome, detail, event_id, verified, duration_us, pack_version,
                  null as "headers: Json<Vec<(String, String)>>"
           from hookpack.request_log
           where ($1::text is null or trigger_ref = $1)
             and ($2::smallint is null or status = $2)
             and ($3::text is null or outcome = $3)
             and ($4::timestamptz is null or received_at >= $4)
             and ($5::uuid is null or id < $5)
             and ($7::text[] is null or split_part(trigger_ref, '.', 1) = any($7))
             and ($8::timestamptz is null or received_at < $8)
           order by id desc
           limit $6"#,
        filter.trigger_ref,
        filter.status,
        filter.outcome,
        filter.since,
        filter.before,
        filter.limit,
        filter.pack_refs.as_deref(),
        filter.until,
    )
    .fetch_all(db)
    .await
}

pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<RequestRow>> {
    sqlx::query_as!(
        RequestRow,
        r#"select id, received_at, trigger_ref, endpoint_key_id, source_ip as "source_ip: IpNet", user_agent,
                  method, body_bytes, status, outcome, detail, event_id, verified, duration_us, pack_version,
                  headers as "headers: Json<Vec<(String, String)>>"
           from hookpack.request_log where id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Forgets rows from before, the oldest first and a bounded number at a time; how many.
pub async fn forget(db: impl PgExecutor<'_>, before: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    // Ids are in the order of time: if one of the oldest is to go it is among the first of them.
    let forgotten = sqlx::query!(
        "delete from hookpack.request_log where id in
           (select id from (select id, received_at from hookpack.request_log order by id limit $2) oldest where received_at < $1)",
        before,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
