//! The public URLs of a trigger or a pack, and the policy in force there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Data, Failures, data};
use crate::{
    host::Host,
    operate::{
        overrides,
        webhooks::{Action, Owner, act, add_key, revoke_key},
    },
    pack::{
        diagnostics::Report,
        overrides::{declared, sources},
    },
    policy::OnInvalid,
    registry::{Endpoint, Registry, Target},
    store::stats::{KeyCountRow, of_keys},
    web::{
        auth::{Caller, Read, Who, Write},
        error::{ApiError, Wrong},
        extract::{Named, Sent},
    },
};

/// The state and URLs of a trigger or pack, and the policy in force.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
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
    /// Where the value of each key of `webhook` comes from: `operator`, `pack`, `preset` or `default`.
    policy_sources: BTreeMap<&'static str, &'static str>,
    /// What operators want otherwise than the pack.
    overrides: Vec<Override>,
    /// Why the overrides do not fit what the pack says now; while there are any, the webhook answers 503.
    override_faults: Vec<Wrong>,
}

/// One key of `webhook` that an operator has overridden.
#[derive(Debug, Serialize, ToSchema)]
struct Override {
    key: String,
    value: Value,
    /// What the pack says now; null: nothing.
    pack_value: Value,
    /// What the pack said when the key was overridden.
    pack_value_then: Value,
    /// Whether the pack says something else by now.
    pack_changed: bool,
}

/// A key that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewKey {
    /// What it is for.
    label: String,
    /// Leave it out for a key that does not end by itself.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// One key of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(in crate::web) struct Key {
    id: Uuid,
    label: Option<String>,
    /// The one that `regenerate` replaces.
    main: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// That came under it, whatever became of them.
    requests: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
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
    /// Whether there is a value that this policy can use.
    provided: bool,
    /// Why not, and what to do about it.
    problem: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RateLimit {
    requests: u32,
    window_seconds: u32,
}

/// A trigger that the caller reaches.
fn trigger(host: &Host, who: &Who, reference: &str) -> Result<Target, ApiError> {
    let trigger = host.registry.load().trigger(reference).cloned();
    let trigger = trigger.filter(|_| who.reaches(reference));
    trigger.map(Target::Trigger).ok_or_else(|| ApiError::NotFound(format!("trigger {reference}")))
}

/// A pack that the caller reaches.
fn pack(host: &Host, who: &Who, reference: &str) -> Result<Target, ApiError> {
    let pack = host.registry.load().pack(reference).cloned().filter(|_| who.reaches(reference));
    pack.map(Target::Pack).ok_or_else(|| ApiError::NotFound(format!("pack {reference}")))
}

async fn shown(host: &Host, who: &Who, target: &Target) -> Result<Webhook, ApiError> {
    let key_ids =
        host.registry.load().endpoints_of(target.owner_ref()).iter().map(|key| key.key_id).collect();
    let counts = counts(host, key_ids).await?;
    let registry = host.registry.load();
    let owner_ref = target.owner_ref();
    let endpoints = registry.endpoints_of(owner_ref);
    let main = endpoints.iter().find(|endpoint| endpoint.is_main);
    let key = main.and_then(|endpoint| key_of(endpoint, who));
    let (policy_sources, overrides) = layers(&registry, target);
    Ok(Webhook {
        r#ref: owner_ref.to_owned(),
        webhook_enabled: !endpoints.is_empty(),
        webhook_paused: endpoints.iter().any(|endpoint| endpoint.paused),
        webhook_url: key.as_deref().map(|key| host.webhook_url(key)),
        webhook_key: key,
        keys: endpoints
            .iter()
            .map(|endpoint| Key::of(host, who, endpoint, counts.get(&endpoint.key_id)))
            .collect(),
        policy: PolicyInForce::of(host, target),
        policy_sources,
        overrides,
        override_faults: registry.override_fault(owner_ref).map(wrong).unwrap_or_default(),
    })
}

async fn counts(host: &Host, key_ids: Vec<Uuid>) -> Result<HashMap<Uuid, KeyCountRow>, ApiError> {
    let rows = of_keys(&host.pool, &key_ids).await?;
    Ok(rows.into_iter().map(|row| (row.endpoint_key_id, row)).collect())
}

/// Where each value comes from, and what operators have changed.
fn layers(registry: &Registry, target: &Target) -> (BTreeMap<&'static str, &'static str>, Vec<Override>) {
    let (pack, trigger) = match target {
        Target::Pack(pack) => (Some(pack), None),
        Target::Trigger(trigger) => (registry.pack(&trigger.pack_ref), Some(&**trigger)),
    };
    let Some(pack) = pack else { return (BTreeMap::new(), Vec::new()) };
    let row = registry.overrides.get(target.owner_ref());
    let sources = sources(row.map(|row| row.policy.as_str()), trigger, pack);
    let sources = sources.into_iter().map(|(key, (source, _))| (key, source)).collect();
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let policy = row.map(|row| object(&row.policy)).unwrap_or_default();
    let then = row.map(|row| object(&row.declared)).unwrap_or_default();
    let now = declared(&policy, trigger, pack);
    let overridden = |(key, value): (String, Value)| {
        let of = |said: &Map<String, Value>| said.get(&key).cloned().unwrap_or(Value::Null);
        let (pack_value, pack_value_then) = (of(&now), of(&then));
        Override { pack_changed: pack_value != pack_value_then, pack_value, pack_value_then, key, value }
    };
    (sources, policy.into_iter().map(overridden).collect())
}

fn wrong(report: &Report) -> Vec<Wrong> {
    let wrong = |fault: &crate::pack::diagnostics::Fault| Wrong {
        message: fault.message.clone(),
        help: fault.help.clone(),
    };
    report.faults.iter().map(wrong).collect()
}

/// The state and URLs of a trigger's endpoint, and the policy in force.
#[utoipa::path(get, path = "/api/v1/triggers/{ref}/webhooks", tag = "webhooks",
    params(("ref" = String, Path)), responses((status = 200, body = Data<Webhook>), Failures))]
pub(in crate::web) async fn of_trigger(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
) -> Result<Json<Data<Webhook>>, ApiError> {
    let target = trigger(&host, &caller.who, &reference)?;
    Ok(data(shown(&host, &caller.who, &target).await?))
}

/// The state and URLs of a pack's own endpoint, and the policy in force.
#[utoipa::path(get, path = "/api/v1/packs/{ref}/webhooks", tag = "webhooks",
    params(("ref" = String, Path)), responses((status = 200, body = Data<Webhook>), Failures))]
pub(in crate::web) async fn of_pack(
    caller: Caller<Read>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
) -> Result<Json<Data<Webhook>>, ApiError> {
    let target = pack(&host, &caller.who, &reference)?;
    Ok(data(shown(&host, &caller.who, &target).await?))
}

/// Enables, disables, regenerates, pauses or resumes a trigger's endpoint; the answer is how it is then.
#[utoipa::path(post, path = "/api/v1/triggers/{ref}/webhooks/{action}", tag = "webhooks",
    params(("ref" = String, Path), ("action" = inline(Action), Path)),
    responses((status = 200, body = Data<Webhook>),
        (status = 204, description = "Disabled; its pack does not run."), Failures))]
pub(in crate::web) async fn act_on_trigger(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named((reference, action)): Named<(String, Action)>,
) -> Result<Response, ApiError> {
    acted(&host, &caller.who, Owner { owner_ref: &reference, kind: "trigger" }, action).await
}

/// Enables, disables, regenerates, pauses or resumes a pack's own endpoint; the answer is how it is then.
#[utoipa::path(post, path = "/api/v1/packs/{ref}/webhooks/{action}", tag = "webhooks",
    params(("ref" = String, Path), ("action" = inline(Action), Path)),
    responses((status = 200, body = Data<Webhook>),
        (status = 204, description = "Disabled; its pack does not run."), Failures))]
pub(in crate::web) async fn act_on_pack(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named((reference, action)): Named<(String, Action)>,
) -> Result<Response, ApiError> {
    acted(&host, &caller.who, Owner { owner_ref: &reference, kind: "pack" }, action).await
}

/// Overrides keys of a trigger's `webhook`; the answer is what is in force then.
#[utoipa::path(patch, path = "/api/v1/triggers/{ref}/webhooks", tag = "webhooks",
    params(("ref" = String, Path)), request_body(content = HashMap<String, Value>,
        description = "Keys of `webhook` as in a pack, except `enabled`; null goes back to what the pack says."),
    responses((status = 200, body = Data<Webhook>), Failures))]
pub(in crate::web) async fn patch_trigger(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
    Sent(patch): Sent<Map<String, Value>>,
) -> Result<Json<Data<Webhook>>, ApiError> {
    let target = trigger(&host, &caller.who, &reference)?;
    overrides::patch(&host, &caller.who.actor(), &target, patch, caller.who.pack_refs.is_some()).await?;
    Ok(data(shown(&host, &caller.who, &trigger(&host, &caller.who, &reference)?).await?))
}

/// Overrides keys of a pack's own `webhook`, for its own endpoint alone; the answer is what is in force then.
#[utoipa::path(patch, path = "/api/v1/packs/{ref}/webhooks", tag = "webhooks",
    params(("ref" = String, Path)), request_body(content = HashMap<String, Value>,
        description = "Keys of `webhook` as in a pack, except `enabled`; null goes back to what the pack says."),
    responses((status = 200, body = Data<Webhook>), Failures))]
pub(in crate::web) async fn patch_pack(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
    Sent(patch): Sent<Map<String, Value>>,
) -> Result<Json<Data<Webhook>>, ApiError> {
    let target = pack(&host, &caller.who, &reference)?;
    overrides::patch(&host, &caller.who.actor(), &target, patch, caller.who.pack_refs.is_some()).await?;
    Ok(data(shown(&host, &caller.who, &pack(&host, &caller.who, &reference)?).await?))
}

/// Makes a further key for a trigger's endpoint.
#[utoipa::path(post, path = "/api/v1/triggers/{ref}/webhooks/keys", tag = "webhooks",
    params(("ref" = String, Path)), request_body = NewKey,
    responses((status = 201, body = Data<Key>), Failures))]
pub(in crate::web) async fn add_trigger_key(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
    Sent(wanted): Sent<NewKey>,
) -> Result<(StatusCode, Json<Data<Key>>), ApiError> {
    let target = trigger(&host, &caller.who, &reference)?;
    added(&host, &caller.who, &target, wanted).await
}

/// Makes a further key for a pack's own endpoint.
#[utoipa::path(post, path = "/api/v1/packs/{ref}/webhooks/keys", tag = "webhooks",
    params(("ref" = String, Path)), request_body = NewKey,
    responses((status = 201, body = Data<Key>), Failures))]
pub(in crate::web) async fn add_pack_key(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
    Sent(wanted): Sent<NewKey>,
) -> Result<(StatusCode, Json<Data<Key>>), ApiError> {
    let target = pack(&host, &caller.who, &reference)?;
    added(&host, &caller.who, &target, wanted).await
}

/// Revokes a further key of a trigger's endpoint.
#[utoipa::path(delete, path = "/api/v1/triggers/{ref}/webhooks/keys/{id}", tag = "webhooks",
    params(("ref" = String, Path), ("id" = Uuid, Path)), responses((status = 204), Failures))]
pub(in crate::web) async fn revoke_trigger_key(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named((reference, id)): Named<(String, Uuid)>,
) -> Result<StatusCode, ApiError> {
    revoked(&host, &caller.who, Owner { owner_ref: &reference, kind: "trigger" }, id).await
}

/// Revokes a further key of a pack's own endpoint.
#[utoipa::path(delete, path = "/api/v1/packs/{ref}/webhooks/keys/{id}", tag = "webhooks",
    params(("ref" = String, Path), ("id" = Uuid, Path)), responses((status = 204), Failures))]
pub(in crate::web) async fn revoke_pack_key(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named((reference, id)): Named<(String, Uuid)>,
) -> Result<StatusCode, ApiError> {
    revoked(&host, &caller.who, Owner { owner_ref: &reference, kind: "pack" }, id).await
}

/// The target of a ref, where it runs and the caller reaches it.
fn running(host: &Host, who: &Who, owner: Owner<'_>) -> Result<Target, ApiError> {
    match owner.kind {
        "pack" => pack(host, who, owner.owner_ref),
        _ => trigger(host, who, owner.owner_ref),
    }
}

async fn acted(host: &Arc<Host>, who: &Who, owner: Owner<'_>, action: Action) -> Result<Response, ApiError> {
    match running(host, who, owner) {
        // A key that leaked is ended whether or not its pack runs just now.
        Err(_)
            if action == Action::Disable && who.reaches(owner.owner_ref) && owner.has_key(host).await? =>
        {
            act(host, &who.actor(), owner, action).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(error) => Err(error),
        Ok(target) => {
            act(host, &who.actor(), Owner::of(&target), action).await?;
            Ok(data(shown(host, who, &running(host, who, owner)?).await?).into_response())
        }
    }
}

async fn revoked(host: &Arc<Host>, who: &Who, owner: Owner<'_>, id: Uuid) -> Result<StatusCode, ApiError> {
    if let Err(error) = running(host, who, owner)
        && !(who.reaches(owner.owner_ref) && owner.has_key(host).await?)
    {
        return Err(error);
    }
    revoke_key(host, &who.actor(), owner, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn added(
    host: &Arc<Host>,
    who: &Who,
    target: &Target,
    NewKey { label, expires_at }: NewKey,
) -> Result<(StatusCode, Json<Data<Key>>), ApiError> {
    let id = add_key(host, &who.actor(), Owner::of(target), &label, expires_at).await?;
    let registry = host.registry.load();
    let endpoint =
        registry.endpoints_of(target.owner_ref()).into_iter().find(|endpoint| endpoint.key_id == id);
    let not_yet = || ApiError::Unavailable("The key is made and not in force here yet.".to_owned());
    Ok((StatusCode::CREATED, data(Key::of(host, who, endpoint.ok_or_else(not_yet)?, None))))
}

/// The key itself, for whoever may have it.
pub(super) fn key_of(endpoint: &Arc<Endpoint>, who: &Who) -> Option<String> {
    endpoint.key.clone().filter(|_| who.sees_keys())
}

impl Key {
    fn of(host: &Host, who: &Who, endpoint: &Arc<Endpoint>, count: Option<&KeyCountRow>) -> Self {
        let key = key_of(endpoint, who);
        Self {
            id: endpoint.key_id,
            label: endpoint.label.clone(),
            main: endpoint.is_main,
            created_at: endpoint.created_at,
            expires_at: endpoint.expires_at,
            requests: count.map_or(0, |count| count.requests),
            last_used_at: count.and_then(|count| count.last_at),
            webhook_url: key.as_deref().map(|key| host.webhook_url(key)),
            webhook_key: key,
        }
    }
}

impl PolicyInForce {
    fn of(host: &Host, target: &Target) -> Self {
        let (policy, known) = (target.policy(), host.secrets_of(target));
        let secret = |name: &String| SecretName {
            name: name.clone(),
            provided: !known.usable.values(name).is_empty(),
            problem: known.problems.iter().find(|problem| problem.name == *name).map(ToString::to_string),
        };
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
