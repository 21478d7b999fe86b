//! `/api/v1/events`

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Data, Failures, Page, data, limit, moment, page, turn};
use crate::{
    host::Host,
    operate,
    store::events::{self, EventRow, Filter},
    web::{
        auth::{Admin, Caller, Read},
        error::ApiError,
        extract::{Asked, Named},
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// Of this trigger only.
    trigger: Option<String>,
    /// A JSON document that the payload contains, as Postgres' `@>` has it: `{"status": "paid"}`.
    contains: Option<String>,
    /// With this idempotency key only.
    key: Option<String>,
    /// RFC 3339
    since: Option<String>,
    /// RFC 3339
    until: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<Uuid>,
    /// 1 to 500; 50 unless told.
    limit: Option<i64>,
}

/// A stored event.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Event {
    id: Uuid,
    pack_ref: String,
    pack_version: Option<String>,
    /// SHA-256 of the pack's files, in hex.
    pack_hash: Option<String>,
    trigger_ref: String,
    /// The document as it is stored, digit by digit.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    #[schema(value_type = serde_json::Value)]
    metadata: Box<RawValue>,
    idempotency_key: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            pack_ref: row.pack_ref,
            pack_version: row.pack_version,
            pack_hash: row.pack_hash,
            trigger_ref: row.trigger_ref,
            payload: row.payload.0,
            metadata: row.metadata.0,
            idempotency_key: row.idempotency_key,
            received_at: row.received_at,
        }
    }
}

/// Stored events, the newest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Wanted),
    responses((status = 200, body = Page<Event>), Failures))]
pub(in crate::web) async fn list(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Asked(asked): Asked<Wanted>,
) -> Result<Json<Page<Event>>, ApiError> {
    let filter = Filter {
        since: moment(asked.since.as_ref(), "since")?,
        until: moment(asked.until.as_ref(), "until")?,
        trigger_ref: asked.trigger,
        key: asked.key,
        contains: document(asked.contains.as_deref())?,
        before: asked.cursor,
        pack_refs: caller.who.pack_refs,
        limit: limit(asked.limit),
    };
    let _turn = turn(&host).await?;
    let rows = events::list(&host.pool, &filter).await.map_err(not_listed)?;
    let last = rows.last().map(|row| row.id);
    Ok(page(rows.into_iter().map(Event::from).collect(), last, filter.limit))
}

/// A JSON document out of a query, as the database can compare it.
pub(super) fn document(text: Option<&str>) -> Result<Option<Value>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let told = |reason: &str| ApiError::BadRequest(format!("`contains` must be a JSON document: {reason}."));
    let value: Value = serde_json::from_str(text).map_err(|error| told(&error.to_string()))?;
    if is_comparable(&value) { Ok(Some(value)) } else { Err(told("it holds what nothing can contain")) }
}

/// What `jsonb` can't hold: NUL, and numbers beyond `numeric`.
fn is_comparable(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::Number(number) => {
            number.as_str().len() <= NUMBER_CHARACTERS_MAX && number.as_f64().is_some_and(f64::is_finite)
        }
        Value::String(text) => !text.contains('\0'),
        Value::Array(values) => values.iter().all(is_comparable),
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| !name.contains('\0') && is_comparable(value))
        }
    }
}

const NUMBER_CHARACTERS_MAX: usize = 1000;

/// A search without an index may take longer than a query may.
fn not_listed(error: sqlx::Error) -> ApiError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.as_deref() == Some("57014") {
        let told =
            "This looks through more events than it has time for: narrow it, by `trigger` and `since`.";
        return ApiError::Unavailable(told.to_owned());
    }
    error.into()
}

/// One event.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "events", params(("id" = Uuid, Path)),
    responses((status = 200, body = Data<Event>), Failures))]
pub(in crate::web) async fn get(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<Json<Data<Event>>, ApiError> {
    let row = events::get(&host.pool, id).await?.filter(|row| caller.who.reaches(&row.pack_ref));
    row.map(|row| data(Event::from(row))).ok_or_else(|| ApiError::NotFound(format!("event {id}")))
}

/// Deletes one event, with the request that was kept beside it or in the quarantine. What is left: the request's row in
/// the log, and its idempotency key, so that the same delivery is not stored again.
#[utoipa::path(delete, path = "/api/v1/events/{id}", tag = "events", params(("id" = Uuid, Path)),
    responses((status = 204), Failures))]
pub(in crate::web) async fn delete(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<StatusCode, ApiError> {
    operate::events::delete(&host, &caller.who.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
