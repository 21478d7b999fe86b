//! `hookpack.event`, read.

use serde_json::{Value, value::RawValue};
use sqlx::{PgExecutor, PgPool, postgres::PgListener, types::Json};
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
    /// Whose payloads contain this document.
    pub contains: Option<Value>,
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
             and ($8::jsonb is null or hookpack.jsonb_of(payload) @> $8)
           order by id desc
           limit $6"#,
        filter.trigger_ref,
        filter.key,
        filter.since,
        filter.until,
        filter.before,
        filter.limit,
        filter.pack_refs.as_deref(),
        filter.contains.as_ref(),
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

/// What a deleted event was.
#[derive(Debug)]
pub struct DeletedRow {
    pub trigger_ref: String,
    pub request_id: Option<Uuid>,
}

/// Deletes one event with everything else that the database keeps of the request it came in: the kept request, and the
/// request in quarantine. Its row of the request log stays, without the event. Its idempotency key stays claimed until
/// its window ends, so that the same delivery is not stored again. `None`: there is no such event.
pub async fn delete(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<DeletedRow>> {
    sqlx::query_as!(
        DeletedRow,
        r#"with gone as (
             delete from hookpack.event where id = $1
             returning trigger_ref, (metadata->>'request_id')::uuid as request_id
           ), kept as (
             delete from hookpack.kept_request where request_id in (select request_id from gone)
           ), quarantined as (
             delete from hookpack.quarantine where request_id in (select request_id from gone)
           ), logged as (
             update hookpack.request_log set event_id = null
             where id in (select request_id from gone) and event_id = $1
           )
           select trigger_ref, request_id from gone"#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// The payloads of a trigger's events that one request became, in order; `id` is one of them.
pub async fn of_delivery(
    db: impl PgExecutor<'_>,
    trigger_ref: &str,
    request_id: Uuid,
    id: Uuid,
) -> sqlx::Result<Vec<Json<Box<RawValue>>>> {
    // Ids are UUIDs of version 7, whose first 48 bits are milliseconds: those of one delivery are made within a minute.
    let near = |ms: i128| {
        let moved = (i128::from_be_bytes(*id.as_bytes()) >> 80) + ms;
        Uuid::from_u128(u128::try_from(moved.clamp(0, (1 << 48) - 1)).unwrap_or_default() << 80)
    };
    sqlx::query_scalar!(
        r#"select payload as "payload: Json<Box<RawValue>>" from hookpack.event
           where trigger_ref = $1 and id > $2 and id < $3 and metadata->>'request_id' = $4
           order by id"#,
        trigger_ref,
        near(-60_000),
        near(60_000),
        request_id.to_string(),
    )
    .fetch_all(db)
    .await
}

/// The first event of a trigger that was stored under a delivery's key and received in this time; it looks at all of the
/// trigger's since then.
pub async fn under_key(
    db: impl PgExecutor<'_>,
    trigger_ref: &str,
    key: &str,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from hookpack.event
         where trigger_ref = $1 and idempotency_key = $2 and received_at > $3 and received_at < $4
         order by id limit 1",
        trigger_ref,
        key,
        from,
        until,
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

/// Where batches that stored events tell of it, with the trigger's ref.
const CHANNEL: &str = "hookpack_event";

/// Hears of stored events from now on.
pub async fn listen(pool: &PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// A place in the order in which events can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the transaction; below it nothing is to come any more.
    pub written_in: u64,
    pub id: Uuid,
}

/// Where to begin: after this place, or with what is to come.
///
/// A place is where its event stands now: copied to another server, it may stand elsewhere than it did. Where the event is
/// gone its number counts; one that no transaction has reached is of another server, whose events come before all that was
/// stored here. The place of a reader that has heard of no event yet is the next number at most.
pub async fn place(db: impl PgExecutor<'_>, after: Option<Place>) -> sqlx::Result<Place> {
    let row = sqlx::query!(
        r#"select pg_snapshot_xmin(pg_current_snapshot())::text as "oldest!",
                  pg_snapshot_xmax(pg_current_snapshot())::text as "next!",
                  (select written_in::text from hookpack.event where id = $1) as found"#,
        after.map(|place| place.id),
    )
    .fetch_one(db)
    .await?;
    let (next, found) = (number(&row.next)?, row.found.as_deref().map(number).transpose()?);
    let is_foreign =
        |place: Place| place.written_in > next || (place.written_in == next && !place.id.is_nil());
    Ok(match (after, found) {
        (Some(place), Some(written_in)) => Place { written_in, ..place },
        (Some(place), None) if is_foreign(place) => Place { written_in: 0, ..place },
        (Some(place), None) => place,
        (None, _) => Place { written_in: number(&row.oldest)?, id: Uuid::nil() },
    })
}

/// Whether events were copied from another server: their numbers are still to come here.
pub async fn are_foreign(db: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from hookpack.event where written_in >= pg_snapshot_xmax(pg_current_snapshot())) as "foreign!""#
    )
    .fetch_one(db)
    .await
}

/// Makes copied events older than all that is stored from now on, a bounded number at a time; how many. The highest
/// numbers go last: where this is broken off, the rest is still seen to be foreign.
pub async fn adopt(db: impl PgExecutor<'_>, most: i64) -> sqlx::Result<u64> {
    let adopted = sqlx::query!(
        "update hookpack.event set written_in = '0' where id in
           (select id from hookpack.event where written_in > '0' order by written_in, id limit $1)",
        most,
    );
    Ok(adopted.execute(db).await?.rows_affected())
}

/// Which events a stream is of.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub trigger_ref: Option<String>,
    pub contains: Option<Value>,
    /// Of these packs only.
    pub pack_refs: Option<Vec<String>>,
}

/// A place, and the event there when it is one that was asked for.
#[derive(Debug)]
pub struct PlacedRow {
    pub place: Place,
    pub event: Option<EventRow>,
}

/// Places in one page; and how much may come before its last event, in bytes of text.
const PAGE_PLACES: i64 = 200;
const PAGE_BYTES: i64 = 1 << 20;

/// The places after this one, as far as no transaction can add any more; none: all was seen.
pub async fn after(db: impl PgExecutor<'_>, place: Place, asked: &Asked) -> sqlx::Result<Vec<PlacedRow>> {
    let rows = sqlx::query!(
        r#"with page as materialized (
             select *, ($4::text is null or trigger_ref = $4) and ($5::text[] is null or pack_ref = any($5)) as is_near
             from hookpack.event
             where (written_in, id) > ($1::text::xid8, $2) and written_in < pg_snapshot_xmin(pg_current_snapshot())
             order by written_in, id
             limit $3
           ), looked as (
             select *, case when not is_near then false when $6::jsonb is null then true
                            else coalesce(hookpack.jsonb_of(payload) @> $6, false) end as is_asked_for
             from page
           ), sized as (
             select *, sum(case when is_asked_for then octet_length(payload::text) + octet_length(metadata::text) else 0 end)
                         over (order by written_in, id rows between unbounded preceding and 1 preceding) as bytes_before
             from looked
           )
           select written_in::text as "written_in!", id as "id!", pack_ref as "pack_ref!", pack_version,
                  encode(pack_hash, 'hex') as pack_hash, trigger_ref as "trigger_ref!", idempotency_key,
                  received_at as "received_at!",
                  case when is_asked_for then payload end as "payload: Json<Box<RawValue>>",
                  case when is_asked_for then metadata end as "metadata: Json<Box<RawValue>>"
           from sized
           where coalesce(bytes_before, 0) < $7
           order by written_in, id"#,
        place.written_in.to_string(),
        place.id,
        PAGE_PLACES,
        asked.trigger_ref,
        asked.pack_refs.as_deref(),
        asked.contains.as_ref(),
        PAGE_BYTES,
    )
    .fetch_all(db)
    .await?;
    let placed = rows.into_iter().map(|row| {
        let place = Place { written_in: number(&row.written_in)?, id: row.id };
        let event = row.payload.zip(row.metadata).map(|(payload, metadata)| EventRow {
            id: row.id,
            pack_ref: row.pack_ref,
            pack_version: row.pack_version,
            pack_hash: row.pack_hash,
            trigger_ref: row.trigger_ref,
            payload,
            metadata,
            idempotency_key: row.idempotency_key,
            received_at: row.received_at,
        });
        Ok(PlacedRow { place, event })
    });
    placed.collect()
}

fn number(text: &str) -> sqlx::Result<u64> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Forgets events from before, the oldest first and a bounded number at a time; how many.
pub async fn forget(db: impl PgExecutor<'_>, before: OffsetDateTime, most: i64) -> sqlx::Result<u64> {
    // Ids are in the order of time: if one of the oldest is to go it is among the first of them. What was replayed lately
    // was received long before, and nobody has had the time to see it.
    let forgotten = sqlx::query!(
        "delete from hookpack.event where id in
           (select id from (select id, received_at, metadata from hookpack.event order by id limit $2) oldest
            where received_at < $1
              and not exists (select from hookpack.quarantine q
                              where q.request_id = (metadata->>'request_id')::uuid and q.replayed_at >= $1))",
        before,
        most,
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
