//! `/api/v1/requests`: the request log.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Data, Failures, Page, by_name, data, limit, moment, outcome, page, turn};
use crate::{
    host::Host,
    store::requests::{self, Filter, RequestRow},
    web::{
        auth::{Caller, Read},
        error::ApiError,
        extract::{Asked, Named},
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// To this trigger, or pack's endpoint, only.
    trigger: Option<String>,
    /// Answered with this status only.
    status: Option<i16>,
    /// Ended so only: `accepted`, `bad_signature`, …
    outcome: Option<String>,
    /// RFC 3339
    since: Option<String>,
    /// RFC 3339
    until: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// 1 to 500; 50 unless told.
    limit: Option<i64>,
}

/// A row of the request log.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Request {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    trigger_ref: Option<String>,
    endpoint_key_id: Option<Uuid>,
    source_ip: String,
    user_agent: Option<String>,
    method: String,
    body_bytes: i64,
    status: i16,
    outcome: String,
    detail: Option<String>,
    event_id: Option<Uuid>,
    verified: bool,
    duration_us: i64,
    pack_version: Option<String>,
}

/// A row of the request log in full.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct RequestInFull {
    #[serde(flatten)]
    request: Request,
    /// Each name with its lines; secrets are `…`. Null for accepted requests, whose events have some of them in their
    /// metadata, for quarantined ones, which are kept whole, and where `log_headers` is off.
    headers: Option<BTreeMap<String, Vec<String>>>,
}

impl From<RequestRow> for Request {
    fn from(row: RequestRow) -> Self {
        Self {
            id: row.id,
            received_at: row.received_at,
            trigger_ref: row.trigger_ref,
            endpoint_key_id: row.endpoint_key_id,
            // `inet` can hold a network; what we store there is always one address.
            source_ip: row.source_ip.addr().to_string(),
            user_agent: row.user_agent,
            method: row.method,
            body_bytes: row.body_bytes,
            status: row.status,
            outcome: row.outcome,
            detail: row.detail,
            event_id: row.event_id,
            verified: row.verified,
            duration_us: row.duration_us,
            pack_version: row.pack_version,
        }
    }
}

/// Received requests and what came of them, the newest first.
#[utoipa::path(get, path = "/api/v1/requests", tag = "requests", params(Wanted),
    responses((status = 200, body = Page<Request>), Failures))]
pub(in crate::web) async fn list(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Asked(asked): Asked<Wanted>,
) -> Result<Json<Page<Request>>, ApiError> {
    outcome(asked.outcome.as_deref(), "outcome")?;
    let filter = Filter {
        since: moment(asked.since.as_ref(), "since")?,
        until: moment(asked.until.as_ref(), "until")?,
        trigger_ref: asked.trigger,
        status: asked.status,
        outcome: asked.outcome,
        before: asked.cursor,
        pack_refs: caller.who.pack_refs,
        limit: limit(asked.limit),
    };
    let _turn = turn(&host).await?;
    let rows = requests::list(&host.pool, &filter).await?;
    let last = rows.last().map(|row| row.id);
    Ok(page(rows.into_iter().map(Request::from).collect(), last, filter.limit))
}

/// One request.
#[utoipa::path(get, path = "/api/v1/requests/{id}", tag = "requests", params(("id" = Uuid, Path)),
    responses((status = 200, body = Data<RequestInFull>), Failures))]
pub(in crate::web) async fn get(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<Json<Data<RequestInFull>>, ApiError> {
    let row = requests::get(&host.pool, id).await?;
    let row = row.filter(|row| caller.who.reaches(row.trigger_ref.as_deref().unwrap_or_default()));
    let mut row = row.ok_or_else(|| ApiError::NotFound(format!("request {id}")))?;
    let headers = row.headers.take().map(|headers| by_name(headers.0));
    Ok(data(RequestInFull { request: Request::from(row), headers }))
}
