//! `hookpack.kept_request`: requests whose events were stored, as they came.

use std::borrow::Cow;

use ipnet::IpNet;
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{quarantine::KeptRequest, text};
use crate::model::{Delivery, Raw};

/// Keeps the requests of these deliveries, those that bring them; one that is there already stays.
pub async fn insert(db: &mut PgConnection, deliveries: &[&Delivery]) -> sqlx::Result<()> {
    let kept: Vec<(&Delivery, &Raw)> =
        deliveries.iter().filter_map(|delivery| Some((*delivery, delivery.raw.as_ref()?))).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let request_id: Vec<Uuid> = kept.iter().map(|(delivery, _)| delivery.log.id).collect();
    let received_at: Vec<OffsetDateTime> =
        kept.iter().map(|(delivery, _)| delivery.log.received_at).collect();
    let owner_ref: Vec<&str> =
        kept.iter().map(|(delivery, _)| delivery.log.trigger_ref.as_deref().unwrap_or_default()).collect();
    let method: Vec<&str> = kept.iter().map(|(delivery, _)| delivery.log.method.as_str()).collect();
    let path: Vec<Cow<'_, str>> = kept.iter().map(|(_, raw)| text(&raw.path)).collect();
    let query: Vec<Option<Cow<'_, str>>> =
        kept.iter().map(|(_, raw)| raw.query.as_deref().map(text)).collect();
    let source_ip: Vec<IpNet> =
        kept.iter().map(|(delivery, _)| IpNet::from(delivery.log.source_ip)).collect();
    let headers: Vec<&str> = kept.iter().map(|(_, raw)| raw.headers.as_str()).collect();
    let body: Vec<&[u8]> = kept.iter().map(|(_, raw)| &*raw.body).collect();
    sqlx::query!(
        "insert into hookpack.kept_request
           (request_id, received_at, owner_ref, method, path, query, source_ip, headers, body)
         select request_id, received_at, owner_ref, method, path, query, source_ip, headers::json, body
         from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::inet[],
                     $8::text[], $9::bytea[])
           as k (request_id, received_at, owner_ref, method, path, query, source_ip, headers, body)
         on conflict (request_id) do nothing",
        &request_id,
        &received_at,
        &owner_ref as &[&str],
        &method as &[&str],
        &path as &[Cow<'_, str>],
        &query as &[Option<Cow<'_, str>>],
        &source_ip as &[IpNet],
        &headers as &[&str],
        &body as &[&[u8]],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The request of this id, whether it was kept here or in the quarantine.
pub async fn get(
    db: impl PgExecutor<'_>,
    request_id: Uuid,
    event_id: Uuid,
) -> sqlx::Result<Option<KeptRequest>> {
    sqlx::query_as!(
        KeptRequest,
        r#"select owner_ref as "owner_ref!", method as "method!", path as "path!", query,
                  source_ip as "source_ip!: IpNet", headers as "headers!: Json<Vec<(String, String)>>", body as "body!",
                  idempotency_key
           from (
             select owner_ref, method, path, query, source_ip, headers, body, null::text as idempotency_key
             from hookpack.kept_request where request_id = $1
             union all
             select coalesce(owner_ref, trigger_ref), method, path, query, source_ip, headers::json, body,
                    idempotency_key
             from hookpack.quarantine where request_id = $1 and event_id = $2
           ) kept limit 1"#,
        request_id,
        event_id,
    )
    .fetch_optional(db)
    .await
}

/// Forgets requests that were received before, at most so many; how many they were.
pub async fn forget(db: impl PgExecutor<'_>, before: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    // Ids are UUIDs of version 7: the first of them are the oldest.
    let forgotten = sqlx::query!(
        "delete from hookpack.kept_request where request_id in
           (select request_id from (select request_id, received_at from hookpack.kept_request order by request_id limit $2) k
            where received_at < $1)",
        before,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
