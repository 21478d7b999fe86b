//! `/api/v1/requests`: the request log.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{data, limit, moment, page};
use crate::{
    host::Host,
    request::rfc3339,
    store::requests::{self, Filter, RequestRow},
    web::{auth::Authorized, error::ApiError},
};

#[derive(Debug, Deserialize)]
pub(in crate::web) struct Asked {
    trigger: Option<String>,
    status: Option<i16>,
    outcome: Option<String>,
    since: Option<String>,
    cursor: Option<Uuid>,
    limit: Option<i64>,
}

pub(in crate::web) async fn list(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let filter = Filter {
        since: moment(asked.since.as_ref(), "since")?,
        trigger_ref: asked.trigger,
        status: asked.status,
        outcome: asked.outcome,
        before: asked.cursor,
        limit: limit(asked.limit),
    };
    let rows = requests::list(&host.pool, &filter).await?;
    let last = rows.last().map(|row| row.id);
    Ok(page(rows.iter().map(shown).collect(), last, filter.limit))
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(id): Path<Uuid>,
) -> Result<Json<Value>, ApiError> {
    let row = requests::get(&host.pool, id).await?;
    row.map(|row| data(shown(&row))).ok_or_else(|| ApiError::NotFound(format!("request {id}")))
}

fn shown(row: &RequestRow) -> Value {
    json!({
        "id": row.id,
        "received_at": rfc3339(row.received_at),
        "trigger_ref": row.trigger_ref,
        "endpoint_key_id": row.endpoint_key_id,
        "source_ip": row.source_ip.addr(),
        "user_agent": row.user_agent,
        "method": row.method,
        "body_bytes": row.body_bytes,
        "status": row.status,
        "outcome": row.outcome,
        "detail": row.detail,
        "event_id": row.event_id,
        "verified": row.verified,
        "duration_us": row.duration_us,
        "pack_version": row.pack_version,
    })
}
