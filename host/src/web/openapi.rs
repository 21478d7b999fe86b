//! `/openapi.json`: the management API in words that tools understand, made from the handlers themselves.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hookpack",
        description = "The management API of a Hookpack host. Senders' requests go to `/api/v1/webhooks/{key}`, which is \
                       described by each pack, not here."
    ),
    modifiers(&Bearer),
    security(("token" = []))
)]
pub(super) struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

pub(super) fn served(document: openapi::OpenApi) -> Json<openapi::OpenApi> {
    Json(document)
}
