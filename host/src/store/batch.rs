//! The statements of ingest: many deliveries in one transaction, each stored once.

use std::borrow::Cow;

use ipnet::IpNet;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::text;
use crate::model::{Answer, Delivery, LogRow};

/// What the database did with one delivery, and what its sender hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It was the first of its key, or has none; the answer names events that were stored before by their first ids.
    First(Answer),
    /// Another was first, with the answer that this one gets; or all its events were stored before.
    Repeated(Answer),
}

/// Stores a batch in one transaction; of the deliveries with a key, the ids of those that were first come back.
/// Events with a key of their own are left to [`super::event_keys::claim`].
///
/// Keys are claimed in one order everywhere, so that writers wait for each other and never deadlock. Ids are
/// made by the host, so that a batch whose answer was lost can be sent again.
///
/// A delivery that is told to be `logged` brings its row of the request log along; of the others it is there.
#[expect(clippy::too_many_lines, reason = "one statement, whole and in view")]
pub async fn store(db: &mut PgConnection, deliveries: &[&Delivery], logged: bool) -> sqlx::Result<Vec<Uuid>> {
    let claims = Claims::of(deliveries);
    let events = Events::of(deliveries);
    let logs = Logs::of(
        deliveries
            .iter()
            .filter(|_| logged)
            .map(|delivery| (&delivery.log, event_id(delivery), delivery.claim().is_some())),
    );
    let kept = Kept::of(deliveries);
    let rows = sqlx::query!(
        r#"with claimed as (
             insert into hookpack.delivery as held
               (owner_ref, key, request_id, event_id, status, content_type, body, received_at, expires_at, body_checksum)
             select owner_ref, key, request_id, event_id, status, content_type, body, received_at, expires_at,
                    body_checksum
             from unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::smallint[], $6::text[], $7::text[],
                         $8::timestamptz[], $9::timestamptz[], $53::bigint[])
               as d (owner_ref, key, request_id, event_id, status, content_type, body, received_at, expires_at,
                     body_checksum)
             order by owner_ref, key
             on conflict (owner_ref, key) do update
               set request_id = excluded.request_id, event_id = excluded.event_id, status = excluded.status,
                   content_type = excluded.content_type, body = excluded.body,
                   received_at = excluded.received_at, expires_at = excluded.expires_at,
                   body_checksum = excluded.body_checksum
               where held.expires_at <= excluded.received_at
             returning request_id
           ), event as (
             insert into hookpack.event
               (id, pack_ref, pack_version, pack_hash, trigger_ref, payload, metadata, idempotency_key, received_at)
             select id, pack_ref, pack_version, pack_hash, trigger_ref, payload::json, metadata::jsonb, key, received_at
             from unnest($10::uuid[], $11::uuid[], $12::text[], $49::text[], $50::bytea[], $13::text[], $14::text[],
                         $15::text[], $16::text[], $17::timestamptz[], $51::boolean[])
               as e (id, request_id, pack_ref, pack_version, pack_hash, trigger_ref, payload, metadata, key,
                     received_at, claims)
             where not claims or request_id in (select request_id from claimed)
             on conflict (id) do nothing
             returning trigger_ref
           ), log as (
             insert into hookpack.request_log
               (id, received_at, trigger_ref, endpoint_key_id, source_ip, user_agent, method, body_bytes, status,
                outcome, detail, event_id, verified, duration_us, pack_version)
             select id, received_at, trigger_ref, endpoint_key_id, source_ip, user_agent, method, body_bytes, status,
                    outcome, detail, event_id, verified, duration_us, pack_version
             from unnest($18::uuid[], $19::timestamptz[], $20::text[], $21::uuid[], $22::inet[], $23::text[],
                         $24::text[], $25::bigint[], $26::smallint[], $27::text[], $28::text[], $29::uuid[],
                         $30::boolean[], $31::bigint[], $32::text[], $33::boolean[])
               as l (id, received_at, trigger_ref, endpoint_key_id, source_ip, user_agent, method, body_bytes, status,
                     outcome, detail, event_id, verified, duration_us, pack_version, keyed)
             where not keyed or id in (select request_id from claimed)
             on conflict (id) do nothing
             returning received_at, trigger_ref, endpoint_key_id, body_bytes, outcome, duration_us
           ), counted as (
             insert into hookpack.request_count_delta
               (day, trigger_ref, endpoint_key_id, outcome, latency, requests, body_bytes, last_at)
             select (received_at at time zone 'UTC')::date, coalesce(trigger_ref, ''), endpoint_key_id, outcome,
                    hookpack.latency_of(duration_us), count(*), sum(body_bytes), max(received_at)
             from log group by 1, 2, 3, 4, 5
           ), kept as (
             insert into hookpack.quarantine
               (id, request_id, received_at, trigger_ref, pack_version, cause, detail, method, path, query, source_ip,
                headers, body, idempotency_key, owner_ref)
             select id, request_id, received_at, trigger_ref, pack_version, cause, detail, method, path, query,
                    source_ip, headers::jsonb, body, key, owner_ref
             from unnest($34::uuid[], $35::uuid[], $36::timestamptz[], $37::text[], $38::text[], $39::text[],
                         $40::text[], $41::text[], $42::text[], $43::text[], $44::inet[], $45::text[], $46::bytea[],
                         $47::text[], $48::boolean[], $52::text[])
               as q (id, request_id, received_at, trigger_ref, pack_version, cause, detail, method, path, query,
                     source_ip, headers, body, key, claims, owner_ref)
             where not claims or request_id in (select request_id from claimed)
             on conflict (id) do nothing
           )
           select request_id as "request_id?", null::text as told from claimed
           union all
           -- Once a batch: NOTIFY serialises commits.
           select null, pg_notify('hookpack_event', trigger_ref)::text from (select distinct trigger_ref from event) t"#,
        &claims.owner_ref as &[&str],
        &claims.key as &[&str],
        &claims.request_id,
        &claims.event_id as &[Option<Uuid>],
        &claims.status,
        &claims.content_type as &[&str],
        &claims.body as &[Cow<'_, str>],
        &claims.received_at,
        &claims.expires_at,
        &events.id,
        &events.request_id,
        &events.pack_ref as &[&str],
        &events.trigger_ref as &[&str],
        &events.payload as &[&str],
        &events.metadata as &[&str],
        &events.key as &[Option<&str>],
        &events.received_at,
        &logs.id,
        &logs.received_at,
        &logs.trigger_ref as &[Option<&str>],
        &logs.endpoint_key_id as &[Option<Uuid>],
        &logs.source_ip as &[IpNet],
        &logs.user_agent as &[Option<Cow<'_, str>>],
        &logs.method as &[&str],
        &logs.body_bytes,
        &logs.status,
        &logs.outcome as &[&str],
        &logs.detail as &[Option<Cow<'_, str>>],
        &logs.event_id as &[Option<Uuid>],
        &logs.verified,
        &logs.duration_us,
        &logs.pack_version as &[Option<&str>],
        &logs.keyed,
        &kept.id,
        &kept.request_id,
        &kept.received_at,
        &kept.trigger_ref as &[&str],
        &kept.pack_version as &[Option<&str>],
        &kept.cause as &[&str],
        &kept.detail as &[Cow<'_, str>],
        &kept.method as &[&str],
        &kept.path as &[Cow<'_, str>],
        &kept.query as &[Option<Cow<'_, str>>],
        &kept.source_ip as &[IpNet],
        &kept.headers as &[&str],
        &kept.body as &[&[u8]],
        &kept.key as &[Option<&str>],
        &kept.claims,
        &events.pack_version as &[&str],
        &events.pack_hash as &[&[u8]],
        &events.claims,
        &kept.owner_ref as &[Option<&str>],
        &claims.body_checksum,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(|row| row.request_id).collect())
}

/// The answers that the first deliveries of these keys got; in no order.
pub async fn answers(db: &mut PgConnection, deliveries: &[&Delivery]) -> sqlx::Result<Vec<AnswerRow>> {
    let claims = Claims::of(deliveries);
    sqlx::query_as!(
        AnswerRow,
        r#"select d.owner_ref, d.key, d.request_id, d.event_id, d.status, d.content_type, d.body,
                  d.body_checksum
           from hookpack.delivery d
           join unnest($1::text[], $2::text[]) as asked (owner_ref, key) using (owner_ref, key)"#,
        &claims.owner_ref as &[&str],
        &claims.key as &[&str],
    )
    .fetch_all(db)
    .await
}

/// What was answered to the first delivery of a key.
#[derive(Clone, Debug)]
pub struct AnswerRow {
    pub owner_ref: String,
    pub key: String,
    pub request_id: Uuid,
    pub event_id: Option<Uuid>,
    pub status: i16,
    pub content_type: String,
    pub body: String,
    /// Of the request's body; `None` of one that came before they were kept.
    pub body_checksum: Option<i64>,
}

impl AnswerRow {
    pub fn answer(&self) -> Answer {
        Answer {
            status: u16::try_from(self.status).unwrap_or(200),
            content_type: self.content_type.clone(),
            body: self.body.clone(),
        }
    }
}

/// Writes rows of the request log that belong to no stored delivery.
pub async fn log(db: &mut PgConnection, rows: &[(LogRow, Option<Uuid>)]) -> sqlx::Result<()> {
    let logs = Logs::of(rows.iter().map(|(row, event_id)| (row, *event_id, false)));
    sqlx::query!(
        "with log as (
           insert into hookpack.request_log
             (id, received_at, trigger_ref, endpoint_key_id, source_ip, user_agent, method, body_bytes, status, outcome,
              detail, event_id, verified, duration_us, pack_version, headers)
           select id, received_at, trigger_ref, endpoint_key_id, source_ip, user_agent, method, body_bytes, status, outcome,
                  detail, event_id, verified, duration_us, pack_version, headers::json
           from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::uuid[], $5::inet[], $6::text[], $7::text[],
             $8::bigint[], $9::smallint[], $10::text[], $11::text[], $12::uuid[], $13::boolean[], $14::bigint[],
             $15::text[], $16::text[])
             as l (id, received_at, trigger_ref, endpoint_key_id, source_ip, user_agent, method, body_bytes, status,
                   outcome, detail, event_id, verified, duration_us, pack_version, headers)
           on conflict (id) do nothing
           returning received_at, trigger_ref, endpoint_key_id, body_bytes, outcome, duration_us
         )
         insert into hookpack.request_count_delta
           (day, trigger_ref, endpoint_key_id, outcome, latency, requests, body_bytes, last_at)
         select (received_at at time zone 'UTC')::date, coalesce(trigger_ref, ''), endpoint_key_id, outcome,
                hookpack.latency_of(duration_us), count(*), sum(body_bytes), max(received_at)
         from log group by 1, 2, 3, 4, 5",
        &logs.id,
        &logs.received_at,
        &logs.trigger_ref as &[Option<&str>],
        &logs.endpoint_key_id as &[Option<Uuid>],
        &logs.source_ip as &[IpNet],
        &logs.user_agent as &[Option<Cow<'_, str>>],
        &logs.method as &[&str],
        &logs.body_bytes,
        &logs.status,
        &logs.outcome as &[&str],
        &logs.detail as &[Option<Cow<'_, str>>],
        &logs.event_id as &[Option<Uuid>],
        &logs.verified,
        &logs.duration_us,
        &logs.pack_version as &[Option<&str>],
        &logs.headers as &[Option<&str>],
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Who holds a key, and since when and for how long.
#[derive(Clone, Copy, Debug)]
pub struct HolderRow {
    pub request_id: Uuid,
    pub received_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// Nobody else takes the key until the transaction ends.
pub async fn holder(db: &mut PgConnection, owner_ref: &str, key: &str) -> sqlx::Result<Option<HolderRow>> {
    sqlx::query_as!(
        HolderRow,
        "select request_id, received_at, expires_at from hookpack.delivery where owner_ref = $1 and key = $2 for update",
        owner_ref,
        key,
    )
    .fetch_optional(db)
    .await
}

/// Forgets deliveries whose window is over, a bounded number at a time; how many it were. What still waits in quarantine
/// under the same key must hear of it when it is replayed.
pub async fn forget_expired(db: &mut PgConnection, now: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        "delete from hookpack.delivery where (owner_ref, key) in
           (select owner_ref, key from hookpack.delivery d
            where expires_at <= $1
              and not exists (select from hookpack.quarantine q
                              where q.owner_ref = d.owner_ref and q.idempotency_key = d.key and q.replayed_at is null)
            order by expires_at limit $2 for update of d skip locked)",
        now,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}

/// The first event of a delivery stands for it in the log.
pub fn event_id(delivery: &Delivery) -> Option<Uuid> {
    delivery.events.first().map(|event| event.id)
}

/// Rows as columns: what `unnest` turns back into rows.
#[derive(Default)]
struct Claims<'a> {
    owner_ref: Vec<&'a str>,
    key: Vec<&'a str>,
    request_id: Vec<Uuid>,
    event_id: Vec<Option<Uuid>>,
    status: Vec<i16>,
    content_type: Vec<&'a str>,
    body: Vec<Cow<'a, str>>,
    received_at: Vec<OffsetDateTime>,
    expires_at: Vec<OffsetDateTime>,
    body_checksum: Vec<i64>,
}

impl<'a> Claims<'a> {
    fn of(deliveries: &[&'a Delivery]) -> Self {
        let mut rows = Self::default();
        for delivery in deliveries {
            let Some(key) = delivery.claim() else { continue };
            rows.owner_ref.push(&key.owner_ref);
            rows.key.push(&key.key);
            rows.request_id.push(delivery.log.id);
            rows.event_id.push(event_id(delivery));
            rows.status.push(delivery.answer.status.cast_signed());
            rows.content_type.push(&delivery.answer.content_type);
            rows.body.push(text(&delivery.answer.body));
            rows.received_at.push(delivery.log.received_at);
            rows.expires_at.push(delivery.log.received_at + key.window);
            rows.body_checksum.push(key.body_checksum);
        }
        rows
    }
}

#[derive(Default)]
struct Events<'a> {
    id: Vec<Uuid>,
    request_id: Vec<Uuid>,
    pack_ref: Vec<&'a str>,
    pack_version: Vec<&'a str>,
    pack_hash: Vec<&'a [u8]>,
    trigger_ref: Vec<&'a str>,
    payload: Vec<&'a str>,
    metadata: Vec<&'a str>,
    key: Vec<Option<&'a str>>,
    received_at: Vec<OffsetDateTime>,
    claims: Vec<bool>,
}

impl<'a> Events<'a> {
    fn of(deliveries: &[&'a Delivery]) -> Self {
        let mut rows = Self::default();
        for delivery in deliveries {
            for event in delivery.events.iter().filter(|event| event.key.is_none()) {
                rows.id.push(event.id);
                rows.request_id.push(delivery.log.id);
                rows.pack_ref.push(&event.pack_ref);
                rows.pack_version.push(&event.pack_version);
                rows.pack_hash.push(&event.pack_hash);
                rows.trigger_ref.push(&event.trigger_ref);
                rows.payload.push(&event.payload);
                rows.metadata.push(&event.metadata);
                rows.key.push(delivery.key.as_ref().map(|key| key.key.as_str()));
                rows.received_at.push(delivery.log.received_at);
                rows.claims.push(delivery.claim().is_some());
            }
        }
        rows
    }
}

#[derive(Default)]
struct Logs<'a> {
    id: Vec<Uuid>,
    received_at: Vec<OffsetDateTime>,
    trigger_ref: Vec<Option<&'a str>>,
    endpoint_key_id: Vec<Option<Uuid>>,
    source_ip: Vec<IpNet>,
    user_agent: Vec<Option<Cow<'a, str>>>,
    method: Vec<&'a str>,
    body_bytes: Vec<i64>,
    status: Vec<i16>,
    outcome: Vec<&'static str>,
    detail: Vec<Option<Cow<'a, str>>>,
    event_id: Vec<Option<Uuid>>,
    verified: Vec<bool>,
    duration_us: Vec<i64>,
    pack_version: Vec<Option<&'a str>>,
    headers: Vec<Option<&'a str>>,
    keyed: Vec<bool>,
}

impl<'a> Logs<'a> {
    fn of(log: impl Iterator<Item = (&'a LogRow, Option<Uuid>, bool)>) -> Self {
        let mut rows = Self::default();
        for (row, event_id, keyed) in log {
            rows.id.push(row.id);
            rows.received_at.push(row.received_at);
            rows.trigger_ref.push(row.trigger_ref.as_deref());
            rows.endpoint_key_id.push(row.endpoint_key_id);
            rows.source_ip.push(IpNet::from(row.source_ip));
            rows.user_agent.push(row.user_agent.as_deref().map(text));
            rows.method.push(&row.method);
            rows.body_bytes.push(row.body_bytes);
            rows.status.push(row.status.cast_signed());
            rows.outcome.push(row.outcome.word());
            rows.detail.push(row.detail.as_deref().map(text));
            rows.event_id.push(event_id);
            rows.verified.push(row.verified);
            rows.duration_us.push(i64::try_from(row.duration().as_micros()).unwrap_or(i64::MAX));
            rows.pack_version.push(row.pack_version.as_deref());
            rows.headers.push(row.headers.as_deref());
            rows.keyed.push(keyed);
        }
        rows
    }
}

#[derive(Default)]
struct Kept<'a> {
    id: Vec<Uuid>,
    request_id: Vec<Uuid>,
    received_at: Vec<OffsetDateTime>,
    trigger_ref: Vec<&'a str>,
    pack_version: Vec<Option<&'a str>>,
    cause: Vec<&'static str>,
    detail: Vec<Cow<'a, str>>,
    method: Vec<&'a str>,
    path: Vec<Cow<'a, str>>,
    query: Vec<Option<Cow<'a, str>>>,
    source_ip: Vec<IpNet>,
    headers: Vec<&'a str>,
    body: Vec<&'a [u8]>,
    key: Vec<Option<&'a str>>,
    claims: Vec<bool>,
    /// Whose URL the request came to.
    owner_ref: Vec<Option<&'a str>>,
}

impl<'a> Kept<'a> {
    fn of(deliveries: &[&'a Delivery]) -> Self {
        let mut rows = Self::default();
        for delivery in deliveries {
            for quarantined in &delivery.quarantined {
                rows.id.push(quarantined.id);
                rows.request_id.push(delivery.log.id);
                rows.received_at.push(delivery.log.received_at);
                rows.trigger_ref.push(&quarantined.trigger_ref);
                rows.pack_version.push(delivery.log.pack_version.as_deref());
                rows.cause.push(quarantined.cause.word());
                rows.detail.push(text(&quarantined.detail));
                rows.method.push(&delivery.log.method);
                rows.path.push(text(&quarantined.path));
                rows.query.push(quarantined.query.as_deref().map(text));
                rows.source_ip.push(IpNet::from(delivery.log.source_ip));
                rows.headers.push(&quarantined.headers);
                rows.body.push(&quarantined.body);
                rows.key.push(quarantined.key.as_deref());
                rows.claims.push(delivery.claim().is_some());
                rows.owner_ref.push(delivery.log.trigger_ref.as_deref());
            }
        }
        rows
    }
}
