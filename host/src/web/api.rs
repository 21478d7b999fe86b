//! The management API: one file a resource.

pub(super) mod audit;
pub(super) mod events;
pub(super) mod master_key;
pub(super) mod packs;
pub(super) mod quarantine;
pub(super) mod remap;
pub(super) mod requests;
pub(super) mod secrets;
pub(super) mod stats;
pub(super) mod stream;
pub(super) mod tokens;
pub(super) mod trial;
pub(super) mod triggers;
pub(super) mod webhooks;

use std::{collections::BTreeMap, time::Duration};

use axum::Json;
use serde::Serialize;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use tokio::{sync::SemaphorePermit, time::timeout};
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{Content, RefOr, Response, ResponseBuilder},
};
use uuid::Uuid;

use super::error::{ApiError, Problem};
use crate::{
    credentials::{HIDDEN, is_secret_header},
    host::Host,
    model::Outcome,
    spelling::suggestion,
};

/// `{"data": …}`: what wraps every success. Serialised as it is, so that a stored payload keeps its digits.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Data<T> {
    data: T,
}

fn data<T>(data: T) -> Json<Data<T>> {
    Json(Data { data })
}

/// `{"data": […], "next_cursor": …}`; there is a cursor when there may be more.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<Uuid>,
}

fn page<T>(data: Vec<T>, last: Option<Uuid>, limit: i64) -> Json<Page<T>> {
    let full = i64::try_from(data.len()).unwrap_or(i64::MAX) >= limit;
    Json(Page { data, next_cursor: last.filter(|_| full) })
}

/// For what may look at many rows: a turn at the database, held until it is done.
async fn turn(host: &Host) -> Result<SemaphorePermit<'_>, ApiError> {
    let turn = timeout(TURN_WAIT, host.searches.acquire()).await;
    let busy = || ApiError::Unavailable("Too many searches are under way: try again.".to_owned());
    turn.ok().and_then(Result::ok).ok_or_else(busy)
}

/// How long a search waits for its turn; then 503.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// 1 to 500 rows; 50 unless told.
fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(50).clamp(1, 500)
}

/// A word that a filter names must be one that there is.
fn outcome(word: Option<&str>, name: &str) -> Result<(), ApiError> {
    let Some(word) = word.filter(|word| Outcome::from_word(word).is_none()) else { return Ok(()) };
    let known = Outcome::ALL.map(Outcome::word);
    Err(ApiError::BadRequest(format!("`{name}`: there is no `{word}`; {}", suggestion(word, &known))))
}

/// RFC 3339, or a day in UTC.
fn moment(text: Option<&String>, name: &str) -> Result<Option<OffsetDateTime>, ApiError> {
    let parse = |text: &String| {
        let whole = if text.contains('T') { text.clone() } else { format!("{text}T00:00:00Z") };
        let at =
            OffsetDateTime::parse(&whole, &Rfc3339).ok().and_then(|at| at.checked_to_offset(UtcOffset::UTC));
        let told = || format!("`{name}` must be an RFC 3339 time, such as 2026-11-22T10:00:00Z, or a day.");
        at.ok_or_else(|| ApiError::BadRequest(told()))
    };
    text.map(parse).transpose()
}

/// Header lines by their names, secrets hidden.
fn by_name(headers: Vec<(String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, line) in headers {
        let line = if is_secret_header(&name) { HIDDEN.to_owned() } else { line };
        names.entry(name).or_default().push(line);
    }
    names
}

/// How any call may fail: RFC 9457 problems.
pub(in crate::web) struct Failures;

const FAILURES: [(&str, &str); 11] = [
    ("400", "The call is not what this takes."),
    ("401", "There is no token, or none that is known."),
    ("403", "The token does not allow this."),
    ("404", "There is no such thing, or the token does not reach it."),
    ("405", "This URL does not know that method."),
    ("409", "It contradicts how things are."),
    ("413", "The body is too large."),
    ("415", "The body is not JSON."),
    ("422", "The body says something that can't be."),
    ("429", "Too many wrong tokens came from this address."),
    ("503", "The database is away, or this host is stopping."),
];

impl IntoResponses for Failures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let failure = |(status, told): (&str, &str)| {
            let content = Content::new(Some(Problem::schema()));
            let response = ResponseBuilder::new().description(told);
            let response = response.content("application/problem+json", content).build();
            (status.to_owned(), RefOr::T(response))
        };
        FAILURES.into_iter().map(failure).collect()
    }
}
