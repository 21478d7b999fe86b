//! The public URLs of a trigger or a pack, and the policy in force there.

use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    host::Host,
    policy::{OnInvalid, Policy},
    registry::{Endpoint, Target},
    web::{auth::Who, error::ApiError},
};

/// The state and URLs of a trigger or pack, and the policy in force.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Webhook {
    r#ref: String,
    webhook_enabled: bool,
    webhook_paused: bool,
    /// Null when it is disabled, and for tokens with the scope `read`.
    webhook_key: Option<String>,
    webhook_url: Option<String>,
    /// The main key first.
    keys: Vec<Key>,
    policy: PolicyInForce,
}

/// One key of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Key {
    id: Uuid,
    label: Option<String>,
    /// The one that `regenerate` replaces.
    main: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    webhook_key: Option<String>,
    webhook_url: Option<String>,
}

/// What a request must satisfy.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyInForce {
    preset: Option<String>,
    /// The scheme of the signature; `none` when nothing is verified.
    verify: &'static str,
    secrets: Vec<SecretName>,
    payload_size_limit_kb: usize,
    /// Null: from anywhere.
    ip_allowlist: Option<Vec<String>>,
    rate_limit: Option<RateLimit>,
    /// `reject` or `quarantine`
    on_invalid: &'static str,
    idempotency_window_hours: Option<u64>,
    keep_headers: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SecretName {
    name: String,
    /// Whether there is a value for it.
    provided: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct RateLimit {
    requests: u32,
    window_seconds: u32,
}

/// A trigger that the caller reaches.
pub(super) fn trigger(host: &Host, who: &Who, reference: &str) -> Result<Target, ApiError> {
    let trigger = host.registry.load().trigger(reference).cloned();
    let trigger = trigger.filter(|_| who.reaches(reference));
    trigger.map(Target::Trigger).ok_or_else(|| ApiError::NotFound(format!("trigger {reference}")))
}

/// A pack that the caller reaches.
pub(super) fn pack(host: &Host, who: &Who, reference: &str) -> Result<Target, ApiError> {
    let pack = host.registry.load().pack(reference).cloned().filter(|_| who.reaches(reference));
    pack.map(Target::Pack).ok_or_else(|| ApiError::NotFound(format!("pack {reference}")))
}

pub(super) fn shown(host: &Host, who: &Who, target: &Target) -> Webhook {
    let registry = host.registry.load();
    let endpoints = registry.endpoints_of(target.owner_ref());
    let main = endpoints.iter().find(|endpoint| endpoint.is_main);
    let key = main.and_then(|endpoint| key_of(endpoint, who));
    Webhook {
        r#ref: target.owner_ref().to_owned(),
        webhook_enabled: !endpoints.is_empty(),
        webhook_paused: endpoints.iter().any(|endpoint| endpoint.paused),
        webhook_url: key.as_deref().map(|key| host.webhook_url(key)),
        webhook_key: key,
        keys: endpoints.iter().map(|endpoint| Key::of(host, who, endpoint)).collect(),
        policy: PolicyInForce::of(host, target.policy()),
    }
}

/// The key itself, for whoever may have it.
pub(super) fn key_of(endpoint: &Arc<Endpoint>, who: &Who) -> Option<String> {
    endpoint.key.clone().filter(|_| who.sees_keys())
}

impl Key {
    fn of(host: &Host, who: &Who, endpoint: &Arc<Endpoint>) -> Self {
        let key = key_of(endpoint, who);
        Self {
            id: endpoint.key_id,
            label: endpoint.label.clone(),
            main: endpoint.is_main,
            created_at: endpoint.created_at,
            expires_at: endpoint.expires_at,
            webhook_url: key.as_deref().map(|key| host.webhook_url(key)),
            webhook_key: key,
        }
    }
}

impl PolicyInForce {
    fn of(host: &Host, policy: &Policy) -> Self {
        let known = host.secrets.load();
        let secret =
            |name: &String| SecretName { name: name.clone(), provided: !known.values(name).is_empty() };
        let rate = policy.rate_limit.map(|limit| RateLimit {
            requests: limit.requests.get(),
            window_seconds: limit.window_seconds.get(),
        });
        Self {
            preset: policy.preset.clone(),
            verify: policy.verify.word(),
            secrets: policy.secrets.iter().map(secret).collect(),
            payload_size_limit_kb: policy.body_bytes_max / 1024,
            ip_allowlist: policy
                .ip_allowlist
                .as_ref()
                .map(|list| list.iter().map(ToString::to_string).collect()),
            rate_limit: rate,
            on_invalid: match policy.on_invalid {
                OnInvalid::Reject => "reject",
                OnInvalid::Quarantine => "quarantine",
            },
            idempotency_window_hours: policy.idempotency.as_ref().map(|rule| rule.window.as_secs() / 3600),
            keep_headers: policy.keep_headers.iter().map(|name| name.as_str().to_owned()).collect(),
        }
    }
}
