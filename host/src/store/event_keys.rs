//! `hookpack.event_key`: a trigger's events that bring a key of their own are each stored once.

use std::borrow::Cow;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;
use crate::model::{Answer, Delivery, NewEvent, Outcome};

/// An event that brings a key.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    pub event: &'a NewEvent,
    pub key: &'a str,
    pub received_at: OffsetDateTime,
}

/// Claims the keys of these events, of which no two have one, and stores those whose key was free; their ids
/// come back.
///
/// Keys are claimed in one order everywhere, after those of deliveries. A key that is not free stays locked
/// until the transaction ends, so that [`holders`] finds it.
pub async fn claim(db: &mut PgConnection, events: &[Keyed<'_>]) -> sqlx::Result<Vec<Uuid>> {
    // The windows are hours long, a batch is received within seconds: one time will do for all of it.
    let Some(now) = events.iter().map(|keyed| keyed.received_at).min() else { return Ok(Vec::new()) };
    let id: Vec<Uuid> = events.iter().map(|keyed| keyed.event.id).collect();
    let pack_ref: Vec<&str> = events.iter().map(|keyed| keyed.event.pack_ref.as_str()).collect();
    let pack_version: Vec<&str> = events.iter().map(|keyed| keyed.event.pack_version.as_str()).collect();
    let pack_hash: Vec<&[u8]> = events.iter().map(|keyed| keyed.event.pack_hash.as_slice()).collect();
    let trigger_ref: Vec<&str> = events.iter().map(|keyed| keyed.event.trigger_ref.as_str()).collect();
    let key: Vec<&str> = events.iter().map(|keyed| keyed.key).collect();
    let payload: Vec<&str> = events.iter().map(|keyed| keyed.event.payload.as_str()).collect();
    let metadata: Vec<&str> = events.iter().map(|keyed| keyed.event.metadata.as_str()).collect();
    let received_at: Vec<OffsetDateTime> = events.iter().map(|keyed| keyed.received_at).collect();
    let expires_at: Vec<OffsetDateTime> =
        events.iter().map(|keyed| keyed.received_at + keyed.event.key_window).collect();
    let rows = sqlx::query!(
        r#"with given as (
             select *
             from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
                         $8::timestamptz[], $10::text[], $11::bytea[])
               as g (id, pack_ref, trigger_ref, key, payload, metadata, received_at, expires_at, pack_version,
                     pack_hash)
           ), claimed as (
             insert into hookpack.event_key as held (trigger_ref, key, event_id, expires_at)
             select trigger_ref, key, id, expires_at from given order by trigger_ref, key
             on conflict (trigger_ref, key) do update
               set event_id = excluded.event_id, expires_at = excluded.expires_at
               where held.expires_at <= $9
             returning event_id
           ), event as (
             insert into hookpack.event
               (id, pack_ref, pack_version, pack_hash, trigger_ref, payload, metadata, idempotency_key, received_at)
             select id, pack_ref, pack_version, pack_hash, trigger_ref, payload::json, metadata::jsonb, key, received_at
             from given
             where id in (select event_id from claimed)
             on conflict (id) do nothing
             returning trigger_ref
           )
           select event_id as "event_id?", null::text as told from claimed
           union all
           select null, pg_notify('hookpack_event', trigger_ref)::text from (select distinct trigger_ref from event) t"#,
        &id,
        &pack_ref as &[&str],
        &trigger_ref as &[&str],
        &key as &[&str],
        &payload as &[&str],
        &metadata as &[&str],
        &received_at,
        &expires_at,
        now,
        &pack_version as &[&str],
        &pack_hash as &[&[u8]],
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(|row| row.event_id).collect())
}

/// Under the key of the event `asked`, the event `first` is stored.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    pub asked: Uuid,
    pub first: Uuid,
}

/// The events that are stored under the keys of these; in no order.
pub async fn holders(db: &mut PgConnection, events: &[Keyed<'_>]) -> sqlx::Result<Vec<Holder>> {
    let id: Vec<Uuid> = events.iter().map(|keyed| keyed.event.id).collect();
    let trigger_ref: Vec<&str> = events.iter().map(|keyed| keyed.event.trigger_ref.as_str()).collect();
    let key: Vec<&str> = events.iter().map(|keyed| keyed.key).collect();
    sqlx::query_as!(
        Holder,
        r#"select asked.id as "asked!", held.event_id as first
           from hookpack.event_key held
           join unnest($1::uuid[], $2::text[], $3::text[]) as asked (id, trigger_ref, key) using (trigger_ref, key)"#,
        &id,
        &trigger_ref as &[&str],
        &key as &[&str],
    )
    .fetch_all(db)
    .await
}

/// What is to be said of a delivery after all, because events of it were stored before.
#[derive(Debug)]
pub struct Correction<'a> {
    pub delivery: &'a Delivery,
    pub answer: &'a Answer,
    pub event_id: Option<Uuid>,
    pub outcome: Outcome,
    pub detail: String,
}

/// Corrects the answer that is kept for repetitions and, where it was `logged` with it, the row of the log; both were
/// written in this transaction.
pub async fn correct(
    db: &mut PgConnection,
    corrections: &[Correction<'_>],
    logged: bool,
) -> sqlx::Result<()> {
    let request_id: Vec<Uuid> = corrections.iter().map(|correction| correction.delivery.log.id).collect();
    let event_id: Vec<Option<Uuid>> = corrections.iter().map(|correction| correction.event_id).collect();
    let outcome: Vec<&str> = corrections.iter().map(|correction| correction.outcome.word()).collect();
    let detail: Vec<Cow<'_, str>> = corrections.iter().map(|correction| text(&correction.detail)).collect();
    let body: Vec<Cow<'_, str>> =
        corrections.iter().map(|correction| text(&correction.answer.body)).collect();
    let keys = || corrections.iter().map(|correction| correction.delivery.key.as_ref());
    let owner_ref: Vec<Option<&str>> = keys().map(|key| Some(key?.owner_ref.as_str())).collect();
    let key: Vec<Option<&str>> = keys().map(|key| Some(key?.key.as_str())).collect();
    sqlx::query!(
        "with given as (
           select *
           from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             as g (request_id, event_id, outcome, detail, body, owner_ref, key)
         ), log as (
           update hookpack.request_log l
           set event_id = given.event_id, outcome = given.outcome, detail = given.detail
           from given join hookpack.request_log old on old.id = given.request_id
           where l.id = given.request_id and $8
           returning l.received_at, l.trigger_ref, l.endpoint_key_id, l.duration_us, l.body_bytes,
                     old.outcome as before, l.outcome as after
         ), counted as (
           -- What was counted with the row goes over to its other outcome.
           insert into hookpack.request_count_delta
             (day, trigger_ref, endpoint_key_id, outcome, latency, requests, body_bytes)
           select (received_at at time zone 'UTC')::date, coalesce(trigger_ref, ''), endpoint_key_id, moved.outcome,
                  hookpack.latency_of(duration_us), sum(requests), sum(requests * body_bytes)
           from log, lateral (values (before, -1), (after, 1)) as moved (outcome, requests)
           where before <> after
           group by 1, 2, 3, 4, 5
         )
         update hookpack.delivery d
         set event_id = given.event_id, body = given.body
         from given
         where d.owner_ref = given.owner_ref and d.key = given.key and d.request_id = given.request_id",
        &request_id,
        &event_id as &[Option<Uuid>],
        &outcome as &[&str],
        &detail as &[Cow<'_, str>],
        &body as &[Cow<'_, str>],
        &owner_ref as &[Option<&str>],
        &key as &[Option<&str>],
        logged,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets keys whose window is over, a bounded number at a time; how many it were. While a request of their trigger waits
/// in quarantine it may be one that has members of these keys.
pub async fn forget_expired(db: &mut PgConnection, now: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        "delete from hookpack.event_key where (trigger_ref, key) in
           (select trigger_ref, key from hookpack.event_key k
            where expires_at <= $1
              and not exists (select from hookpack.quarantine q
                              where q.trigger_ref = k.trigger_ref and q.replayed_at is null)
            order by expires_at limit $2 for update of k skip locked)",
        now,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
