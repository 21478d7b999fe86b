//! Errors as RFC 9457 problems.

use std::borrow::Cow;

use axum::{
    extract::rejection::{PathRejection, QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{limits::Over, operate::Denied, pack::diagnostics::Fault, receive};

/// Why a call of the management API failed.
#[derive(Debug)]
pub(super) enum ApiError {
    /// There is no token.
    Unauthorized,
    /// There is one, and it is none.
    UnknownToken,
    Forbidden(String),
    NotFound(String),
    BadRequest(String),
    /// What was asked for contradicts how things are.
    Conflict(String),
    /// A body that says something else than it may.
    Invalid(String, Vec<Wrong>),
    TooLarge,
    UnsupportedMedia,
    TooMany(Over),
    /// The database did not do what it was asked; the reason is for the log.
    Store(sqlx::Error),
    /// It can't be done now; the reason is for the caller.
    Unavailable(String),
    /// Something of ours; the reason is for the log.
    Internal(anyhow::Error),
}

/// RFC 9457, `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Wrong>,
}

/// One thing that is wrong with a body.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Wrong {
    pub(super) message: String,
    /// What would be right, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) help: Option<String>,
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
        match code.as_deref() {
            // What was asked holds a NUL, which no text of a database can.
            Some("22021") => Self::nul(),
            // A deadlock, a statement that took too long, a lock that was not to be had.
            Some("40P01" | "57014" | "55P03") => {
                Self::Unavailable("The database is busy: try again.".to_owned())
            }
            _ => Self::Store(error),
        }
    }
}

impl ApiError {
    pub(super) fn nul() -> Self {
        Self::BadRequest("This holds a character that no text here has (NUL).".to_owned())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotFound(what) => Self::NotFound(what),
            Denied::BadRequest(reason) => Self::BadRequest(reason),
            Denied::Conflict(reason) => Self::Conflict(reason),
            Denied::Unfit(reason) => Self::Invalid(reason, Vec::new()),
            Denied::Invalid(report) => {
                let wrong = |fault: Fault| Wrong { message: fault.message, help: fault.help };
                let faults = report.faults.into_iter().map(wrong).collect();
                Self::Invalid("This policy can't be.".to_owned(), faults)
            }
            Denied::NotInForce => Self::Unavailable(
                "It is done, and not in force on this host yet: it will be soon.".to_owned(),
            ),
            Denied::Forbidden(reason) => Self::Forbidden(reason),
            Denied::Store(error) => error.into(),
            Denied::Busy(reason) => Self::Unavailable(reason),
            Denied::Internal(error) => Self::Internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, detail, errors) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "A bearer token is needed.".to_owned(), vec![]),
            Self::UnknownToken => {
                let told = "This token is not known: it was revoked, has expired, or never was one.";
                (StatusCode::UNAUTHORIZED, told.to_owned(), vec![])
            }
            Self::Forbidden(reason) => (StatusCode::FORBIDDEN, reason, vec![]),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, format!("There is no {what}."), vec![]),
            Self::BadRequest(reason) => (StatusCode::BAD_REQUEST, reason, vec![]),
            Self::Conflict(reason) => (StatusCode::CONFLICT, reason, vec![]),
            Self::Invalid(reason, errors) => (StatusCode::UNPROCESSABLE_ENTITY, reason, errors),
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 2 MiB.".to_owned(), vec![])
            }
            Self::UnsupportedMedia => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send application/json.".to_owned(), vec![])
            }
            Self::TooMany(over) => {
                let told = "Too many wrong tokens came from this address.".to_owned();
                let mut response = plain(StatusCode::TOO_MANY_REQUESTS, told, vec![]);
                let wait = HeaderValue::from(over.retry_after.as_secs());
                response.headers_mut().insert(header::RETRY_AFTER, wait);
                return response;
            }
            Self::Unavailable(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason, vec![]),
            Self::Store(error) => {
                tracing::error!(%error, "the database failed a call of the API");
                (StatusCode::SERVICE_UNAVAILABLE, "The database is away.".to_owned(), vec![])
            }
            Self::Internal(error) => {
                tracing::error!(error = %format!("{error:#}"), "a call of the API failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "This failed; the log says why.".to_owned(), vec![])
            }
        };
        let mut response = plain(status, detail, errors);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn nothing_here() -> Response {
    plain(StatusCode::NOT_FOUND, "There is nothing at this URL.".to_owned(), vec![])
}

pub(super) async fn not_so() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "This URL does not know that method.".to_owned(), vec![])
}

fn plain(status: StatusCode, detail: String, errors: Vec<Wrong>) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    written(status, &Problem { r#type: "about:blank", title, status: status.as_u16(), detail, errors })
}

/// What a sender hears.
pub(super) fn problem(problem: &receive::Problem<'_>) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    written(status, problem)
}

fn written(status: StatusCode, problem: &impl Serialize) -> Response {
    let body = serde_json::to_string(problem).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}
