//! `/api/v1/tokens`: who may ask.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Data, Failures, data};
use crate::{
    host::Host,
    model::Scope,
    operate::tokens::{self, Wanted},
    store::tokens::{TokenRow, all},
    web::{
        auth::{Admin, Caller},
        error::ApiError,
        extract::{Named, Sent},
    },
};

/// A token, without the token.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Token {
    id: Uuid,
    label: String,
    /// `read`, `write` or `admin`
    scope: String,
    /// Null: every pack.
    packs: Option<Vec<String>>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
}

/// A token that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewToken {
    /// What it is for.
    label: String,
    /// `read`, `write` or `admin`
    #[schema(value_type = String)]
    scope: Scope,
    /// Leave it out for every pack.
    packs: Option<Vec<String>>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A token that has been made.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct MadeToken {
    id: Uuid,
    /// Shown this once.
    token: String,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        let TokenRow { id, label, scope, pack_refs, created_at, expires_at, last_used_at } = row;
        Self { id, label, scope, packs: pack_refs, created_at, expires_at, last_used_at }
    }
}

/// Every token that is in force, the newest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, body = Data<Vec<Token>>), Failures))]
pub(in crate::web) async fn list(
    _: Caller<Admin>,
    State(host): State<Arc<Host>>,
) -> Result<Json<Data<Vec<Token>>>, ApiError> {
    let rows = all(&host.pool).await?;
    Ok(data(rows.into_iter().map(Token::from).collect::<Vec<_>>()))
}

/// Makes a token and shows it, once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = Data<MadeToken>), Failures))]
pub(in crate::web) async fn create(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
    Sent(NewToken { label, scope, packs, expires_at }): Sent<NewToken>,
) -> Result<(StatusCode, Json<Data<MadeToken>>), ApiError> {
    let wanted = Wanted { label, scope, pack_refs: packs, expires_at };
    let (id, token) = tokens::create(&host, &caller.who.actor(), &wanted).await?;
    let token = String::from_utf8_lossy(token.bytes()).into_owned();
    Ok((StatusCode::CREATED, data(MadeToken { id, token })))
}

/// Ends a token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = Uuid, Path)),
    responses((status = 204), Failures))]
pub(in crate::web) async fn revoke(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
    Named(id): Named<Uuid>,
) -> Result<StatusCode, ApiError> {
    tokens::revoke(&host, &caller.who.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
