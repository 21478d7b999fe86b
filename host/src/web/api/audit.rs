//! `/api/v1/audit`: who changed what.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Failures, Page, limit, moment, page, turn};
use crate::{
    host::Host,
    store::audit::{self, AuditRow, Filter},
    web::{
        auth::{Admin, Caller},
        error::ApiError,
        extract::Asked,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// What it was done to: a ref, a name, an id.
    subject: Option<String>,
    /// What was done: `secret.set`, `webhook.pause`, …
    action: Option<String>,
    /// RFC 3339
    since: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// 1 to 500; 50 unless told.
    limit: Option<i64>,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Entry {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The label of the token.
    actor: String,
    token_id: Option<Uuid>,
    source_ip: Option<String>,
    action: String,
    subject: String,
    detail: Value,
}

impl From<AuditRow> for Entry {
    fn from(row: AuditRow) -> Self {
        let AuditRow { id, at, actor, token_id, source_ip, action, subject, detail } = row;
        let source_ip = source_ip.map(|source| source.addr().to_string());
        Self { id, at, actor, token_id, source_ip, action, subject, detail: detail.0 }
    }
}

/// What operators changed, the newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Wanted),
    responses((status = 200, body = Page<Entry>), Failures))]
pub(in crate::web) async fn list(
    _: Caller<Admin>,
    State(host): State<Arc<Host>>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Page<Entry>>, ApiError> {
    let filter = Filter {
        since: moment(wanted.since.as_ref(), "since")?,
        subject: wanted.subject,
        action: wanted.action,
        before: wanted.cursor,
        limit: limit(wanted.limit),
    };
    let _turn = turn(&host).await?;
    let rows = audit::list(&host.pool, &filter).await?;
    let last = rows.last().map(|row| row.id);
    Ok(page(rows.into_iter().map(Entry::from).collect(), last, filter.limit))
}
