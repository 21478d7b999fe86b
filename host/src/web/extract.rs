//! What a call of the API brings: its query, its path, its body; each with an error that we can stand by.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use http::{header, request::Parts};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The query, as `T`.
pub(super) struct Asked<T>(pub(super) T);

/// The variables of the path, as `T`.
pub(super) struct Named<T>(pub(super) T);

/// A JSON body, as `T`; none at all is an empty object.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        without_nul(parts.uri.query().unwrap_or_default())?;
        let Query(asked) = Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(asked))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        without_nul(parts.uri.path())?;
        let Path(named) = Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(named))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        // 2 MiB, axum's own limit.
        let bytes = Bytes::from_request(request, state).await.map_err(|_| ApiError::TooLarge)?;
        if bytes.is_empty() {
            return read(b"{}").map(Self);
        }
        // A form that some page makes a browser send is not what anybody meant.
        let is_json = kind.as_ref().and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
        });
        if !is_json {
            return Err(ApiError::UnsupportedMedia);
        }
        // A list of the values would do for serde, and for nobody else.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(ApiError::BadRequest("The body is not what this takes: a JSON object.".to_owned()));
        }
        read(&bytes).map(Self)
    }
}

/// No text of the database has a NUL, so nothing can be found by one.
fn without_nul(encoded: &str) -> Result<(), ApiError> {
    if encoded.contains("%00") { Err(ApiError::nul()) } else { Ok(()) }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        let place = if path == "." { String::new() } else { format!("`{path}`: ") };
        wrong(&format!("{place}{error}"))
    })?;
    json.end().map_err(|error| wrong(&error.to_string()))?;
    Ok(body)
}

fn wrong(told: &str) -> ApiError {
    ApiError::BadRequest(format!("The body is not what this takes: {told}."))
}
