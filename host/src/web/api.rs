//! The management API: one file a resource.

pub(super) mod events;
pub(super) mod packs;
pub(super) mod requests;
pub(super) mod triggers;

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::error::ApiError;

/// `{"data": …}`
fn data(value: impl Serialize) -> Json<Value> {
    Json(json!({ "data": value }))
}

/// `{"data": […], "next_cursor": …}`; there is a cursor when there may be more.
fn page(items: Vec<Value>, last: Option<Uuid>, limit: i64) -> Json<Value> {
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= limit;
    Json(json!({ "data": items, "next_cursor": last.filter(|_| full) }))
}

/// 1 to 500 rows; 50 unless told.
fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(50).clamp(1, 500)
}

fn moment(text: Option<&String>, name: &str) -> Result<Option<OffsetDateTime>, ApiError> {
    let parse = |text: &String| {
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            ApiError::BadRequest(format!("`{name}` must be an RFC 3339 time, such as 2026-11-22T10:00:00Z."))
        })
    };
    text.map(parse).transpose()
}
