//! `/api/v1/triggers`

use std::sync::{Arc, PoisonError, atomic::Ordering};

use axum::{Json, extract::State};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Data, Failures, data, webhooks};
use crate::{
    host::Host,
    mapping::Mapping,
    pack,
    registry::Registry,
    verify::protection::Protection,
    wasm,
    web::{
        auth::{Caller, Read, Who},
        error::ApiError,
        extract::Named,
    },
};

/// A trigger that runs.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Trigger {
    r#ref: String,
    name: String,
    pack_ref: String,
    pack_version: String,
    description: Option<String>,
    /// What a request that is accepted is protected by, at the weakest of the URLs that lead here: `secret URL only`,
    /// `token only`, `no payload`, `checksum of the body`, `parts of the body` or `body`.
    protects: &'static str,
    webhook_enabled: bool,
    /// Null when it is disabled, and for tokens with the scope `read`.
    webhook_url: Option<String>,
    /// Where its mapping is WebAssembly.
    mapper: Option<Mapper>,
}

/// What a mapper is, and how it has done since it was loaded.
#[derive(Debug, Serialize, ToSchema)]
struct Mapper {
    file: String,
    bytes: usize,
    sha256: String,
    /// The version of `hookpack:mapper` that it speaks.
    interface: String,
    calls: u64,
    failures: u64,
    last_failure: Option<Failure>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Failure {
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    reason: String,
}

/// Every trigger that runs.
#[utoipa::path(get, path = "/api/v1/triggers", tag = "triggers",
    responses((status = 200, body = Data<Vec<Trigger>>), Failures))]
pub(in crate::web) async fn list(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
) -> Json<Data<Vec<Trigger>>> {
    let registry = host.registry.load();
    let reached = registry.triggers().filter(|trigger| caller.who.reaches(&trigger.reference));
    data(reached.map(|trigger| Trigger::of(&host, &registry, &caller.who, trigger)).collect::<Vec<_>>())
}

/// One trigger.
#[utoipa::path(get, path = "/api/v1/triggers/{ref}", tag = "triggers", params(("ref" = String, Path)),
    responses((status = 200, body = Data<Trigger>), Failures))]
pub(in crate::web) async fn get(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
) -> Result<Json<Data<Trigger>>, ApiError> {
    let registry = host.registry.load();
    let trigger = registry.trigger(&reference).filter(|_| caller.who.reaches(&reference));
    let trigger = trigger.ok_or_else(|| ApiError::NotFound(format!("trigger {reference}")))?;
    Ok(data(Trigger::of(&host, &registry, &caller.who, trigger)))
}

impl Trigger {
    fn of(host: &Host, registry: &Registry, who: &Who, trigger: &pack::Trigger) -> Self {
        let endpoints = registry.endpoints_of(&trigger.reference);
        let by_pack = registry.pack(&trigger.pack_ref);
        let by_pack = by_pack.filter(|pack| !registry.endpoints_of(&pack.reference).is_empty());
        let own = (!endpoints.is_empty() || by_pack.is_none()).then(|| trigger.policy.verify.protects());
        let protects = own.into_iter().chain(by_pack.map(|pack| pack.policy.verify.protects())).min();
        let key = endpoints.iter().find_map(|endpoint| webhooks::key_of(endpoint, who));
        Self {
            r#ref: trigger.reference.clone(),
            name: trigger.name.clone(),
            pack_ref: trigger.pack_ref.clone(),
            pack_version: trigger.pack_version.clone(),
            description: trigger.description.clone(),
            protects: protects.unwrap_or(Protection::Url).word(),
            webhook_enabled: !endpoints.is_empty(),
            webhook_url: key.map(|key| host.webhook_url(&key)),
            mapper: match &trigger.mapping {
                Mapping::Wasm(mapper) => Some(Mapper::of(mapper)),
                Mapping::Nothing | Mapping::Fields(_) | Mapping::Template(_) => None,
            },
        }
    }
}

impl Mapper {
    fn of(mapper: &wasm::Mapper) -> Self {
        let (about, record) = (&mapper.program.about, &mapper.record);
        let last = record.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            file: mapper.file.to_string(),
            bytes: about.bytes,
            sha256: hex::encode(about.sha256),
            interface: about.interface.clone(),
            calls: record.calls.load(Ordering::Relaxed),
            failures: record.failures.load(Ordering::Relaxed),
            last_failure: last.map(|(at, reason)| Failure { at, reason }),
        }
    }
}
