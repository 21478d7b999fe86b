//! `POST …/test`: a dry run. A request in, every step's outcome and the mapped events out.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::{Json, extract::State};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Data, Failures, data};
use crate::{
    host::Host,
    model::{NewEvent, Quarantined},
    receive::trial::{Trial, Tried, TriedStep, Verdict, attempt},
    registry::Target,
    web::{
        auth::{Caller, Write},
        error::ApiError,
        extract::{Named, Sent},
        ingress,
    },
};

/// The request that is tried; at most one of `body`, `body_base64` and `json`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Attempt {
    /// `POST` unless told.
    method: Option<String>,
    headers: Option<Headers>,
    /// As it stands in a URL behind the question mark.
    query: Option<String>,
    /// As it stands in the URL; that of the webhook unless told.
    path: Option<String>,
    body: Option<String>,
    body_base64: Option<String>,
    /// The body as the very text that stands here; `application/json` unless the headers say otherwise.
    #[schema(value_type = Option<serde_json::Value>)]
    json: Option<Box<RawValue>>,
    /// That of the caller unless told.
    #[schema(value_type = Option<String>)]
    source_ip: Option<IpAddr>,
    /// The time of receipt, which freshness is told by; now unless told.
    #[serde(default, with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
    /// `false` leaves the signature out.
    verify: Option<bool>,
}

/// By their names, or as a list of names and values where a name comes twice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Headers {
    Named(BTreeMap<String, String>),
    Listed(Vec<(String, String)>),
}

/// What would become of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Verdicts {
    /// Of the trigger or pack.
    r#ref: String,
    /// A word of the request log.
    outcome: &'static str,
    /// What the request log would keep.
    detail: Option<String>,
    /// Every step, in order.
    steps: Vec<StepVerdict>,
    answer: Answer,
    events: Vec<MappedEvent>,
    quarantined: Vec<WouldKeep>,
    /// What tells deliveries apart.
    idempotency_key: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StepVerdict {
    step: &'static str,
    /// `passed`, `failed` or `skipped`
    outcome: &'static str,
    detail: Option<String>,
    took_us: u64,
}

/// What the sender would hear. Ids in it are made up.
#[derive(Debug, Serialize, ToSchema)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct MappedEvent {
    trigger_ref: String,
    /// The document as it would be stored, digit by digit.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    #[schema(value_type = serde_json::Value)]
    metadata: Box<RawValue>,
    /// Its own; else the delivery's counts.
    idempotency_key: Option<String>,
}

/// What would be kept in quarantine.
#[derive(Debug, Serialize, ToSchema)]
struct WouldKeep {
    trigger_ref: String,
    cause: &'static str,
    detail: String,
}

/// A dry run of a trigger's webhook: nothing is stored, spent, kept or logged.
#[utoipa::path(post, path = "/api/v1/triggers/{ref}/test", tag = "dry runs", params(("ref" = String, Path)),
    request_body = Attempt, responses((status = 200, body = Data<Verdicts>), Failures))]
pub(in crate::web) async fn of_trigger(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
    Sent(asked): Sent<Attempt>,
) -> Result<Json<Data<Verdicts>>, ApiError> {
    let trigger = host.registry.load().trigger(&reference).cloned();
    let trigger = trigger.filter(|_| caller.who.reaches(&reference));
    let trigger = trigger.ok_or_else(|| ApiError::NotFound(format!("trigger {reference}")))?;
    tried(&host, Target::Trigger(trigger), asked, caller.who.source_ip).await
}

/// A dry run of a pack's own webhook.
#[utoipa::path(post, path = "/api/v1/packs/{ref}/test", tag = "dry runs", params(("ref" = String, Path)),
    request_body = Attempt, responses((status = 200, body = Data<Verdicts>), Failures))]
pub(in crate::web) async fn of_pack(
    caller: Caller<Write>,
    State(host): State<Arc<Host>>,
    Named(reference): Named<String>,
    Sent(asked): Sent<Attempt>,
) -> Result<Json<Data<Verdicts>>, ApiError> {
    let pack = host.registry.load().pack(&reference).cloned().filter(|_| caller.who.reaches(&reference));
    let pack = pack.ok_or_else(|| ApiError::NotFound(format!("pack {reference}")))?;
    tried(&host, Target::Pack(pack), asked, caller.who.source_ip).await
}

async fn tried(
    host: &Arc<Host>,
    target: Target,
    asked: Attempt,
    caller_ip: IpAddr,
) -> Result<Json<Data<Verdicts>>, ApiError> {
    let owner_ref = target.owner_ref().to_owned();
    let trial = asked.trial(path_of(host, &owner_ref), caller_ip)?;
    let tried = attempt(host, target, trial).await;
    Ok(data(Verdicts::of(owner_ref, tried).await?))
}

/// The path of the main key; of a webhook that has none, one that no key opens.
fn path_of(host: &Host, owner_ref: &str) -> String {
    let registry = host.registry.load();
    let endpoints = registry.endpoints_of(owner_ref);
    let key = endpoints.first().and_then(|endpoint| endpoint.key.as_deref()).unwrap_or("dry-run");
    format!("/api/v1/webhooks/{key}")
}

impl Attempt {
    fn trial(self, path: String, caller_ip: IpAddr) -> Result<Trial, ApiError> {
        let wrong = |name: &str, error: &dyn std::fmt::Display| {
            ApiError::BadRequest(format!("`{name}` can't be: {error}."))
        };
        let path = self.path.unwrap_or(path);
        let uri = self.query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        let (mut head, ()) = http::Request::builder()
            .method(self.method.as_deref().unwrap_or("POST"))
            .uri(uri)
            .body(())
            .map_err(|error| wrong("method`, `path` or `query", &error))?
            .into_parts();
        let lines = match self.headers {
            None => Vec::new(),
            Some(Headers::Named(named)) => named.into_iter().collect(),
            Some(Headers::Listed(listed)) => listed,
        };
        for (name, value) in lines {
            let told = |error: &dyn std::fmt::Display| wrong("headers", &format!("`{name}`: {error}"));
            let value = HeaderValue::try_from(value).map_err(|error| told(&error))?;
            let parsed: HeaderName = name.parse().map_err(|error| told(&error))?;
            head.headers.append(parsed, value);
        }
        let is_json = self.json.is_some();
        let body = match (self.body, self.body_base64, self.json) {
            (None, None, None) => Bytes::new(),
            (Some(body), None, None) => body.into(),
            (None, Some(body), None) => {
                STANDARD.decode(body).map_err(|error| wrong("body_base64", &error))?.into()
            }
            (None, None, Some(json)) => json.get().to_owned().into(),
            _ => return Err(wrong("body", &"of `body`, `body_base64` and `json`, give one")),
        };
        if is_json {
            let json = HeaderValue::from_static("application/json");
            head.headers.entry(header::CONTENT_TYPE).or_insert(json);
        }
        let source_ip = self.source_ip.unwrap_or(caller_ip);
        Ok(Trial { head, body, source_ip, at: self.at, verify: self.verify.unwrap_or(true) })
    }
}

impl Verdicts {
    async fn of(owner_ref: String, tried: Tried) -> Result<Self, ApiError> {
        let Tried { id, receipt, outcome, detail, steps, events, quarantined, key } = tried;
        let (head, body) = ingress::told(id, receipt).into_parts();
        let body = body.collect().await.map_err(|error| ApiError::Internal(error.into()))?.to_bytes();
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(line).collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        Ok(Self {
            r#ref: owner_ref,
            outcome: outcome.word(),
            detail,
            steps: steps.into_iter().map(StepVerdict::of).collect(),
            answer,
            events: events.into_iter().map(MappedEvent::of).collect::<Result<_, _>>()?,
            quarantined: quarantined.into_iter().map(WouldKeep::of).collect(),
            idempotency_key: key,
        })
    }
}

impl StepVerdict {
    fn of(tried: TriedStep) -> Self {
        let outcome = match tried.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        };
        let took_us = u64::try_from(tried.took.as_micros()).unwrap_or(u64::MAX);
        Self { step: tried.step.word(), outcome, detail: tried.detail, took_us }
    }
}

impl MappedEvent {
    fn of(event: NewEvent) -> Result<Self, ApiError> {
        let raw =
            |text: String| RawValue::from_string(text).map_err(|error| ApiError::Internal(error.into()));
        let NewEvent { trigger_ref, payload, metadata, key, .. } = event;
        Ok(Self { trigger_ref, payload: raw(payload)?, metadata: raw(metadata)?, idempotency_key: key })
    }
}

impl WouldKeep {
    fn of(kept: Quarantined) -> Self {
        Self { trigger_ref: kept.trigger_ref, cause: kept.cause.word(), detail: kept.detail }
    }
}
