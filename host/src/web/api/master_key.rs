//! `/api/v1/master-key`: what seals endpoint keys and secrets in the database.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Data, Failures, data};
use crate::{
    host::Host,
    operate::master_key,
    web::{
        auth::{Admin, Caller},
        error::ApiError,
    },
};

/// What is sealed with the newest master key now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Resealed {
    endpoint_keys: usize,
    secrets: usize,
    /// Sealed with a key that this host has not.
    unreadable: usize,
}

impl From<master_key::Resealed> for Resealed {
    fn from(resealed: master_key::Resealed) -> Self {
        let master_key::Resealed { endpoint_keys, secrets, unreadable } = resealed;
        Self { endpoint_keys, secrets, unreadable }
    }
}

/// Makes another master key and seals everything with it.
#[utoipa::path(post, path = "/api/v1/master-key/rotate", tag = "master key",
    responses((status = 200, body = Data<Resealed>), Failures))]
pub(in crate::web) async fn rotate(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
) -> Result<Json<Data<Resealed>>, ApiError> {
    Ok(data(master_key::rotate(&host, &caller.who.actor()).await?.into()))
}

/// Seals everything with the first of the master keys that the host has: after one was put in front by hand.
#[utoipa::path(post, path = "/api/v1/master-key/reseal", tag = "master key",
    responses((status = 200, body = Data<Resealed>), Failures))]
pub(in crate::web) async fn reseal(
    caller: Caller<Admin>,
    State(host): State<Arc<Host>>,
) -> Result<Json<Data<Resealed>>, ApiError> {
    Ok(data(master_key::reseal(&host, &caller.who.actor()).await?.into()))
}
