//! Errors as RFC 9457 problems.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::receive::Problem;

/// Why a call of the management API failed.
#[derive(Debug)]
pub(super) enum ApiError {
    Unauthorized,
    NotFound(String),
    BadRequest(String),
    /// The database did not do what it was asked; the reason is for the log.
    Store(sqlx::Error),
    /// The host is about to end; somebody else may know.
    Stopping,
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "A bearer token is needed.".to_owned()),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, format!("There is no {what}.")),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "This host is stopping.".to_owned()),
            Self::BadRequest(reason) => (StatusCode::BAD_REQUEST, reason),
            Self::Store(error) => {
                tracing::error!(%error, "the database failed a call of the API");
                (StatusCode::SERVICE_UNAVAILABLE, "The database is away.".to_owned())
            }
        };
        let mut response = plain(status, &detail);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn nothing_here() -> Response {
    plain(StatusCode::NOT_FOUND, "There is nothing at this URL.")
}

fn plain(status: StatusCode, detail: &str) -> Response {
    problem(&Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail,
        request_id: None,
        errors: &[],
    })
}

pub(super) fn problem(problem: &Problem<'_>) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_string(problem).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}
