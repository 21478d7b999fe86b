//! `/api/v1/events`

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{Data, Page, data, limit, moment, page};
use crate::{
    host::Host,
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
) -> Result<Json<Page<EventRow>>, ApiError> {
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
    Ok(page(rows, last, filter.limit))
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(id): Path<Uuid>,
) -> Result<Json<Data<EventRow>>, ApiError> {
    let row = events::get(&host.pool, id).await?;
    row.map(data).ok_or_else(|| ApiError::NotFound(format!("event {id}")))
}
