//! `/api/v1/triggers`

use std::sync::{Arc, PoisonError, atomic::Ordering};

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{Data, data};
use crate::{
    host::Host,
    mapping::Mapping,
    pack::Trigger,
    policy::{OnInvalid, Policy},
    registry::{Registry, Target},
    request::rfc3339,
    wasm::Mapper,
    web::{auth::Authorized, error::ApiError},
};

pub(in crate::web) async fn list(_: Authorized, State(host): State<Arc<Host>>) -> Json<Data<Vec<Value>>> {
    let registry = host.registry.load();
    data(registry.triggers().map(|trigger| shown(&host, &registry, trigger)).collect::<Vec<_>>())
}

pub(in crate::web) async fn get(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(reference): Path<String>,
) -> Result<Json<Data<Value>>, ApiError> {
    let registry = host.registry.load();
    let trigger =
        registry.trigger(&reference).ok_or_else(|| ApiError::NotFound(format!("trigger {reference}")))?;
    Ok(data(shown(&host, &registry, trigger)))
}

pub(in crate::web) async fn webhooks(
    _: Authorized,
    State(host): State<Arc<Host>>,
    Path(reference): Path<String>,
) -> Result<Json<Data<Value>>, ApiError> {
    let registry = host.registry.load();
    let trigger =
        registry.trigger(&reference).ok_or_else(|| ApiError::NotFound(format!("trigger {reference}")))?;
    Ok(data(endpoints(&host, &registry, &Target::Trigger(trigger.clone()))))
}

fn shown(host: &Host, registry: &Registry, trigger: &Trigger) -> Value {
    let endpoints = registry.endpoints_of(&trigger.reference);
    let url = endpoints.iter().find_map(|endpoint| endpoint.key.as_deref()).map(|key| host.webhook_url(key));
    json!({
        "ref": trigger.reference,
        "name": trigger.name,
        "pack_ref": trigger.pack_ref,
        "pack_version": trigger.pack_version,
        "description": trigger.description,
        "webhook_enabled": !endpoints.is_empty(),
        "webhook_url": url,
        "mapper": match &trigger.mapping {
            Mapping::Wasm(mapper) => Some(shown_mapper(mapper)),
            Mapping::Nothing | Mapping::Fields(_) | Mapping::Template(_) => None,
        },
    })
}

/// What a mapper is, and how it has done since it was loaded.
fn shown_mapper(mapper: &Mapper) -> Value {
    let (about, record) = (&mapper.program.about, &mapper.record);
    let last = record.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
    json!({
        "file": &*mapper.file,
        "bytes": about.bytes,
        "sha256": hex::encode(about.sha256),
        "interface": about.interface,
        "calls": record.calls.load(Ordering::Relaxed),
        "failures": record.failures.load(Ordering::Relaxed),
        "last_failure": last.map(|(at, reason)| json!({"at": rfc3339(at), "reason": reason})),
    })
}

/// The state and URLs of a trigger or pack, and the policy in force.
pub(super) fn endpoints(host: &Host, registry: &Registry, target: &Target) -> Value {
    let endpoints = registry.endpoints_of(target.owner_ref());
    let keys = endpoints.iter().map(|endpoint| {
        json!({
            "id": endpoint.key_id,
            "webhook_key": endpoint.key,
            "webhook_url": endpoint.key.as_deref().map(|key| host.webhook_url(key)),
        })
    });
    let first = endpoints.iter().find_map(|endpoint| endpoint.key.as_deref());
    json!({
        "ref": target.owner_ref(),
        "webhook_enabled": !endpoints.is_empty(),
        "webhook_paused": endpoints.iter().any(|endpoint| endpoint.paused),
        "webhook_key": first,
        "webhook_url": first.map(|key| host.webhook_url(key)),
        "keys": keys.collect::<Vec<_>>(),
        "policy": policy(host, target.policy()),
    })
}

fn policy(host: &Host, policy: &Policy) -> Value {
    let known = host.secrets.load();
    let secrets =
        policy.secrets.iter().map(|name| json!({"name": name, "provided": !known.values(name).is_empty()}));
    json!({
        "preset": policy.preset,
        "verify": policy.verify.word(),
        "secrets": secrets.collect::<Vec<_>>(),
        "payload_size_limit_kb": policy.body_bytes_max / 1024,
        "ip_allowlist": policy.ip_allowlist,
        "rate_limit": policy.rate_limit,
        "on_invalid": match policy.on_invalid {
            OnInvalid::Reject => "reject",
            OnInvalid::Quarantine => "quarantine",
        },
        "idempotency_window_hours": policy.idempotency.as_ref().map(|rule| rule.window.as_secs() / 3600),
        "keep_headers": policy.keep_headers.iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
    })
}
