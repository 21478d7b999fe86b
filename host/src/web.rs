//! The doors: the public one for senders, the management API, and the pages that say how the host does.

#[allow(unused_qualifications, reason = "the derives of utoipa write them")]
mod api;
mod auth;
mod connections;
mod error;
mod extract;
mod health;
mod ingress;
mod metrics;
mod openapi;
pub mod server;

use std::sync::Arc;

use axum::{
    Router,
    routing::{any, get},
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::host::Host;

/// What senders may reach.
pub fn public(host: &Arc<Host>) -> Router {
    Router::new()
        .route("/api/v1/webhooks/{key}", any(ingress::ingress))
        // Some forms for URLs append the slash.
        .route("/api/v1/webhooks/{key}/", any(ingress::ingress))
        .fallback(error::nothing_here)
        .with_state(host.clone())
}

/// What operators may reach, at an address of its own.
pub fn admin(host: &Arc<Host>) -> Router {
    management().route("/metrics", get(metrics::open)).with_state(host.clone())
}

/// Both behind one address.
pub fn both(host: &Arc<Host>) -> Router {
    management()
        .route("/metrics", get(metrics::guarded))
        .route("/api/v1/webhooks/{key}", any(ingress::ingress))
        // Some forms for URLs append the slash.
        .route("/api/v1/webhooks/{key}/", any(ingress::ingress))
        .with_state(host.clone())
}

fn management() -> Router<Arc<Host>> {
    let (router, document) = OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(api::packs::list))
        .routes(routes!(api::packs::reload))
        .routes(routes!(api::packs::get))
        .routes(routes!(api::triggers::list))
        .routes(routes!(api::triggers::get))
        .routes(routes!(api::webhooks::of_trigger, api::webhooks::patch_trigger))
        .routes(routes!(api::webhooks::act_on_trigger))
        .routes(routes!(api::webhooks::add_trigger_key))
        .routes(routes!(api::webhooks::revoke_trigger_key))
        .routes(routes!(api::webhooks::of_pack, api::webhooks::patch_pack))
        .routes(routes!(api::webhooks::act_on_pack))
        .routes(routes!(api::webhooks::add_pack_key))
        .routes(routes!(api::webhooks::revoke_pack_key))
        .routes(routes!(api::trial::of_trigger))
        .routes(routes!(api::trial::of_pack))
        .routes(routes!(api::secrets::list))
        .routes(routes!(api::secrets::get, api::secrets::put, api::secrets::remove))
        .routes(routes!(api::secrets::grants, api::secrets::grant))
        .routes(routes!(api::secrets::revoke))
        .routes(routes!(api::secrets::rotate))
        .routes(routes!(api::master_key::rotate))
        .routes(routes!(api::master_key::reseal))
        .routes(routes!(api::events::list))
        .routes(routes!(api::stream::stream))
        .routes(routes!(api::events::get, api::events::delete))
        .routes(routes!(api::remap::remap))
        .routes(routes!(api::requests::list))
        .routes(routes!(api::requests::get))
        .routes(routes!(api::stats::stats))
        .routes(routes!(api::quarantine::list))
        .routes(routes!(api::quarantine::replay_many))
        .routes(routes!(api::quarantine::get, api::quarantine::delete))
        .routes(routes!(api::quarantine::replay))
        .routes(routes!(api::tokens::list, api::tokens::create))
        .routes(routes!(api::tokens::revoke))
        .routes(routes!(api::audit::list))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .split_for_parts();
    router
        .route("/openapi.json", get(async || openapi::served(document)))
        .fallback(error::nothing_here)
        .method_not_allowed_fallback(error::not_so)
}
