//! `/api/v1/requests`: the request log.

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
) -> Result<Json<Page<RequestRow>>, ApiError> {
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
    Ok(page(rows, last, filter.limit))
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(id): Path<Uuid>,
) -> Result<Json<Data<RequestRow>>, ApiError> {
    let row = requests::get(&host.pool, id).await?;
    row.map(data).ok_or_else(|| ApiError::NotFound(format!("request {id}")))
}
