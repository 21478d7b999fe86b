//! The management API: one file a resource.

pub(super) mod events;
pub(super) mod packs;
pub(super) mod requests;
pub(super) mod triggers;

use axum::Json;
use serde::Serialize;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::error::ApiError;

/// `{"data": …}`: what wraps every success. Serialised as it is, so that a stored payload keeps its digits.
#[derive(Debug, Serialize)]
pub(in crate::web) struct Data<T> {
    data: T,
}

fn data<T>(data: T) -> Json<Data<T>> {
    Json(Data { data })
}

/// `{"data": […], "next_cursor": …}`; there is a cursor when there may be more.
#[derive(Debug, Serialize)]
pub(in crate::web) struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<Uuid>,
}

fn page<T>(data: Vec<T>, last: Option<Uuid>, limit: i64) -> Json<Page<T>> {
    let full = i64::try_from(data.len()).unwrap_or(i64::MAX) >= limit;
    Json(Page { data, next_cursor: last.filter(|_| full) })
}

/// 1 to 500 rows; 50 unless told.
fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(50).clamp(1, 500)
}

fn moment(text: Option<&String>, name: &str) -> Result<Option<OffsetDateTime>, ApiError> {
    let parse = |text: &String| {
        let at =
            OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|at| at.checked_to_offset(UtcOffset::UTC));
        let told = || format!("`{name}` must be an RFC 3339 time, such as 2026-11-22T10:00:00Z.");
        at.ok_or_else(|| ApiError::BadRequest(told()))
    };
    text.map(parse).transpose()
}
