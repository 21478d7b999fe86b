//! `/api/v1/events`

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
    store::events::{self, EventRow, Filter},
    web::{auth::Authorized, error::ApiError},
};

#[derive(Debug, Deserialize)]
pub(in crate::web) struct Asked {
    trigger: Option<String>,
    key: Option<String>,
    since: Option<String>,
    until: Option<String>,
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
        until: moment(asked.until.as_ref(), "until")?,
        trigger_ref: asked.trigger,
        key: asked.key,
        before: asked.cursor,
        limit: limit(asked.limit),
    };
    let rows = events::list(&host.pool, &filter).await?;
    let last = rows.last().map(|row| row.id);
    Ok(page(rows.iter().map(shown).collect(), last, filter.limit))
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(id): Path<Uuid>,
) -> Result<Json<Value>, ApiError> {
    let row = events::get(&host.pool, id).await?;
    row.map(|row| data(shown(&row))).ok_or_else(|| ApiError::NotFound(format!("event {id}")))
}

fn shown(row: &EventRow) -> Value {
    json!({
        "id": row.id,
        "pack_ref": row.pack_ref,
        "trigger_ref": row.trigger_ref,
        "payload": row.payload.0,
        "metadata": row.metadata.0,
        "idempotency_key": row.idempotency_key,
        "received_at": rfc3339(row.received_at),
    })
}
