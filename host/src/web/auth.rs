//! Who may ask the management API: whoever holds a token.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{header, request::Parts};

use super::error::ApiError;
use crate::{host::Host, secret, store::tokens};

/// Proof that a request came with a known token; a handler that takes one is closed to everybody else.
pub(super) struct Authorized;

impl FromRequestParts<Arc<Host>> for Authorized {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, host: &Arc<Host>) -> Result<Self, ApiError> {
        let line = parts.headers.get(header::AUTHORIZATION).and_then(|line| line.to_str().ok());
        let token = line
            .and_then(|line| line.split_once(' '))
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or(ApiError::Unauthorized)?;
        // Looked up by its hash: how long it takes tells nothing about the tokens that are there.
        if tokens::exists(&host.pool, &secret::hash(token.trim())).await? {
            Ok(Self)
        } else {
            Err(ApiError::Unauthorized)
        }
    }
}
