//! `/api/v1/quarantine`: authentic requests that their pack could make nothing of, and their second chance.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Data, Failures, Page, by_name, data, limit, moment, outcome, page, turn};
use crate::{
    host::Host,
    operate::quarantine::{self, Progress},
    store::quarantine::{Filter, KeptRequest, KeptRow, get as find, list as listed, request},
    web::{
        auth::{Caller, Read, Who, Write},
        error::ApiError,
        extract::{Asked, Named, Sent},
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// Kept for this trigger only.
    trigger: Option<String>,
    /// Kept for this reason only: `schema_violation`, `mapping_failed`, …
    cause: Option<String>,
    /// RFC 3339
    since: Option<String>,
    /// RFC 3339
    until: Option<String>,
    /// Only those that wait (`open`), or only those that don't (`replayed`).
    #[param(inline)]
    state: Option<KeptState>,
    /// The `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// 1 to 500; 50 unless told.
    limit: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::web) enum KeptState {
    Open,
    Replayed,
}

/// A kept request.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Kept {
    id: Uuid,
    /// Of its row in the request log.
    request_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    trigger_ref: String,
    #[schema(inline)]
    state: KeptState,
    /// What it failed on the last time, and with which version of the pack that was.
    cause: String,
    detail: String,
    pack_version: Option<String>,
    body_bytes: i32,
    /// Replays so far.
    attempts: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    attempted_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    replayed_at: Option<OffsetDateTime>,
    /// Once it is replayed: `accepted`, or `duplicate` when the delivery was stored already.
    outcome: Option<String>,
    /// The first event that it became, or was already.
    event_id: Option<Uuid>,
}

/// A kept request in full.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct KeptInFull {
    #[serde(flatten)]
    kept: Kept,
    method: String,
    /// Without the key.
    path: String,
    query: Option<String>,
    source_ip: String,
    /// Without credentials; each name with its lines.
    headers: BTreeMap<String, Vec<String>>,
    idempotency_key: Option<String>,
    /// Where it is UTF-8.
    body: Option<String>,
    /// As it came.
    body_base64: String,
}

/// What a replay came to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Replayed {
    id: Uuid,
    #[schema(inline)]
    state: KeptState,
    /// `accepted`, `duplicate` when the delivery was stored already, else what it still fails on.
    outcome: String,
    detail: Option<String>,
    event_id: Option<Uuid>,
}

/// Which to replay; nothing said: all that wait.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Many {
    trigger: Option<String>,
    cause: Option<String>,
    /// RFC 3339
    since: Option<String>,
    /// RFC 3339
    until: Option<String>,
    /// The `next_cursor` of the answer before.
    cursor: Option<Uuid>,
    /// 1 to 500 in one call; 50 unless told.
    limit: Option<i64>,
}

/// What this call did, and what is left for the next one.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Chunk {
    /// Have become events.
    replayed: u64,
    /// Were stored already.
    duplicates: u64,
    still_failing: u64,
    /// Wait and were not tried.
    left: i64,
    /// Null when none are left.
    next_cursor: Option<Uuid>,
}

/// Kept requests, the newest first.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "quarantine", params(Wanted),
    responses((status = 200, body = Page<Kept>), Failures))]
pub(in crate::web) async fn list(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Asked(asked): Asked<Wanted>,
) -> Result<Json<Page<Kept>>, ApiError> {
    outcome(asked.cause.as_deref(), "cause")?;
    let filter = Filter {
        since: moment(asked.since.as_ref(), "since")?,
        until: moment(asked.until.as_ref(), "until")?,
        trigger_ref: asked.trigger,
        cause: asked.cause,
        waits: asked.state.map(|state| state == KeptState::Open),
        pack_refs: caller.who.pack_refs,
    };
    let most = limit(asked.limit);
    let _turn = turn(&host).await?;
    let rows = listed(&host.pool, &filter, asked.cursor, most).await?;
    let last = rows.last().map(|row| row.id);
    Ok(page(rows.into_iter().map(Kept::from).collect(), last, most))
}

/// One kept request in full.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}", tag = "quarantine", params(("id" = Uuid, Path)),
    responses((status = 200, body = Data<KeptInFull>), Failures))]
pub(in crate::web) async fn get(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<Json<Data<KeptInFull>>, ApiError> {
    let row = reached(&host, &caller.who, id).await?;
    let request = request(&host.pool, id).await?.ok_or_else(|| gone(id))?;
    Ok(data(KeptInFull::of(row, request)))
}

/// Sends one through its pack as it is now. What becomes an event does so once, however often it is asked for.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/replay", tag = "quarantine", params(("id" = Uuid, Path)),
    responses((status = 200, body = Data<Replayed>), Failures))]
pub(in crate::web) async fn replay(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<Json<Data<Replayed>>, ApiError> {
    reached(&host, &caller.who, id).await?;
    let replay = quarantine::replay(&host, &caller.who.actor(), id).await?;
    let state = state_of(replay.replayed_at);
    let quarantine::Replay { outcome, detail, event_id, .. } = replay;
    Ok(data(Replayed { id, state, outcome, detail, event_id }))
}

/// Sends many through their packs as these are now, the oldest first, in chunks: go on with `next_cursor` until there is
/// none.
#[utoipa::path(post, path = "/api/v1/quarantine/replay", tag = "quarantine", request_body = Many,
    responses((status = 200, body = Data<Chunk>), Failures))]
pub(in crate::web) async fn replay_many(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Sent(many): Sent<Many>,
) -> Result<Json<Data<Chunk>>, ApiError> {
    let actor = caller.who.actor();
    outcome(many.cause.as_deref(), "cause")?;
    let filter = Filter {
        since: moment(many.since.as_ref(), "since")?,
        until: moment(many.until.as_ref(), "until")?,
        trigger_ref: many.trigger,
        cause: many.cause,
        waits: Some(true),
        pack_refs: caller.who.pack_refs,
    };
    let progress = quarantine::replay_many(&host, &actor, &filter, many.cursor, limit(many.limit)).await?;
    let Progress { replayed, duplicates, still_failing, left, next } = progress;
    Ok(data(Chunk { replayed, duplicates, still_failing, left, next_cursor: next }))
}

/// Forgets one, whether it waits or not.
#[utoipa::path(delete, path = "/api/v1/quarantine/{id}", tag = "quarantine", params(("id" = Uuid, Path)),
    responses((status = 204), Failures))]
pub(in crate::web) async fn delete(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<StatusCode, ApiError> {
    reached(&host, &caller.who, id).await?;
    quarantine::delete(&host, &caller.who.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reached(host: &Host, who: &Who, id: Uuid) -> Result<KeptRow, ApiError> {
    let row = find(&host.pool, id).await?.filter(|row| who.reaches(&row.trigger_ref));
    row.ok_or_else(|| gone(id))
}

fn gone(id: Uuid) -> ApiError {
    ApiError::NotFound(format!("quarantined request {id}"))
}

fn state_of(replayed_at: Option<OffsetDateTime>) -> KeptState {
    if replayed_at.is_some() { KeptState::Replayed } else { KeptState::Open }
}

impl From<KeptRow> for Kept {
    fn from(row: KeptRow) -> Self {
        Self {
            id: row.id,
            request_id: row.request_id,
            received_at: row.received_at,
            trigger_ref: row.trigger_ref,
            state: state_of(row.replayed_at),
            cause: row.cause,
            detail: row.detail,
            pack_version: row.pack_version,
            body_bytes: row.body_bytes,
            attempts: row.attempts,
            attempted_at: row.attempted_at,
            replayed_at: row.replayed_at,
            outcome: row.outcome,
            event_id: row.event_id,
        }
    }
}

impl KeptInFull {
    fn of(row: KeptRow, request: KeptRequest) -> Self {
        Self {
            kept: Kept::from(row),
            method: request.method,
            path: request.path,
            query: request.query,
            source_ip: request.source_ip.addr().to_string(),
            headers: by_name(request.headers.0),
            idempotency_key: request.idempotency_key,
            body_base64: STANDARD.encode(&request.body),
            body: String::from_utf8(request.body).ok(),
        }
    }
}
