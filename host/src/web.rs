//! The doors: the public one for senders, the management API, and the pages that say how the host does.

mod api;
mod auth;
mod error;
mod health;
mod ingress;
mod metrics;
pub mod server;

use std::sync::Arc;

use axum::{
    Router,
    routing::{any, get, post},
};

use crate::host::Host;

/// What senders may reach.
pub fn public(host: &Arc<Host>) -> Router {
    Router::new()
        .route("/api/v1/webhooks/{key}", any(ingress::ingress))
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
        .with_state(host.clone())
}

fn management() -> Router<Arc<Host>> {
    Router::new()
        .route("/api/v1/packs", get(api::packs::list))
        .route("/api/v1/packs/reload", post(api::packs::reload))
        .route("/api/v1/packs/{ref}", get(api::packs::get))
        .route("/api/v1/packs/{ref}/webhooks", get(api::packs::webhooks))
        .route("/api/v1/triggers", get(api::triggers::list))
        .route("/api/v1/triggers/{ref}", get(api::triggers::get))
        .route("/api/v1/triggers/{ref}/webhooks", get(api::triggers::webhooks))
        .route("/api/v1/events", get(api::events::list))
        .route("/api/v1/events/{id}", get(api::events::get))
        .route("/api/v1/requests", get(api::requests::list))
        .route("/api/v1/requests/{id}", get(api::requests::get))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(error::nothing_here)
}
