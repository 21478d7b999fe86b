//! The checks that need no host: is it authentic, what does it say, what becomes of it. `pack test` runs these too.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use http::header;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Refusal;
use crate::{
    config::Config,
    decode::{Coding, Payload, Undecodable},
    mapping::{Mapped, Unmapped},
    matching::Line,
    model::{NewEvent, Outcome, Quarantined},
    pack::Trigger,
    policy::{OnInvalid, Policy},
    registry::Target,
    request::Inbound,
    schema::Violation,
    secret::SecretValue,
    selector::{JsonPath, Selected},
    verify::{
        Seen,
        handshake::{Rejected, Shaken},
        signature::Place,
    },
};

/// What an authentic request comes to.
#[derive(Debug, Default)]
pub struct Judged {
    pub events: Vec<NewEvent>,
    pub quarantined: Vec<Quarantined>,
    pub key: Option<String>,
    /// Why nothing is stored, or what is odd about what is.
    notes: Vec<String>,
}

impl Judged {
    pub fn detail(&self) -> Option<String> {
        let kept = self.quarantined.iter().map(|quarantined| quarantined.detail.clone());
        let notes: Vec<_> = self.notes.iter().cloned().chain(kept).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// The limits that hold while a payload is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub events_max: usize,
    pub event_bytes_max: usize,
    pub delivery_bytes_max: usize,
}

impl Limits {
    pub fn of(config: &Config) -> Self {
        Self {
            events_max: config.events_per_delivery_max,
            event_bytes_max: config.event_bytes_max,
            delivery_bytes_max: config.delivery_bytes_max,
        }
    }
}

/// The answer to the first handshake that the request is.
pub fn handshake(
    target: &Target,
    request: &Inbound,
    public_url: &str,
    secrets: &[SecretValue],
    now: OffsetDateTime,
) -> Result<Option<Shaken>, Refusal> {
    let policy = target.policy();
    let seen = Seen::new(request, public_url);
    for handshake in &policy.handshakes {
        let shaken = handshake.shake(&seen, &policy.verify, secrets, now);
        if let Some(shaken) = shaken.map_err(|Rejected(status)| Refusal::handshake(status))? {
            return Ok(Some(shaken));
        }
    }
    Ok(None)
}

/// Signature and freshness, over the raw bytes.
pub fn authenticate(
    target: &Target,
    request: &Inbound,
    public_url: &str,
    secrets: &[SecretValue],
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    target.policy().verify.check(&Seen::new(request, public_url), secrets, now).map_err(Refusal::unverified)
}

/// Decodes an authentic request and lets every trigger that it matches make its events: all or none.
pub fn judge(target: &Target, request: &Inbound, coding: Coding, limits: Limits) -> Result<Judged, Refusal> {
    let policy = target.policy();
    let payload = coding.decode(&request.body, policy.body_bytes_max).map_err(|error| match error {
        Undecodable::TooLarge => Refusal::inflated_too_large(policy.body_bytes_max),
        Undecodable::Broken(reason) => Refusal::undecodable(reason),
    })?;
    let mut judged = Judged::default();
    let (matching, unmet) = matching(target, request, &payload.value);
    if matching.is_empty() {
        judged.notes.extend(unmet.into_iter().map(|unmet| unmet.told()));
        return Ok(judged);
    }
    judged.key = delivery_key(policy, request, &payload.value, &mut judged.notes)?;
    for trigger in matching {
        match events_of(trigger, policy, request, &payload, limits) {
            Ok(events) if events.is_empty() => {
                judged.notes.push(format!("{}: `split` selects nothing", trigger.reference));
            }
            Ok(events) => judged.events.extend(events),
            Err(invalid) => match trigger.policy.on_invalid {
                OnInvalid::Reject => return Err(invalid.refusal()),
                OnInvalid::Quarantine => {
                    judged.quarantined.push(invalid.quarantined(
                        trigger,
                        policy,
                        request,
                        judged.key.clone(),
                    ));
                }
            },
        }
    }
    Ok(judged)
}

/// A trigger that the request is not for, and the first line that says so.
struct Unmet<'a>(&'a Trigger, &'a Line);

impl Unmet<'_> {
    fn told(&self) -> String {
        let Self(trigger, line) = self;
        format!("{}: `{}` does not match", trigger.reference, line.text)
    }
}

/// The triggers whose every `match` line holds, and the others.
fn matching<'a>(
    target: &'a Target,
    request: &Inbound,
    payload: &Value,
) -> (Vec<&'a Trigger>, Vec<Unmet<'a>>) {
    let (mut matching, mut unmet) = (Vec::new(), Vec::new());
    for trigger in target.triggers() {
        match trigger.matching.first_unmet(request, payload) {
            None => matching.push(&**trigger),
            Some(line) => unmet.push(Unmet(trigger, line)),
        }
    }
    (matching, unmet)
}

fn delivery_key(
    policy: &Policy,
    request: &Inbound,
    payload: &Value,
    notes: &mut Vec<String>,
) -> Result<Option<String>, Refusal> {
    let Some(rule) = &policy.idempotency else { return Ok(None) };
    let key = rule.key_of(request, payload);
    if key.is_none() && rule.required {
        return Err(Refusal::key_missing());
    }
    if key.is_none() {
        notes.push("stored without an idempotency key: the request lacks it".to_owned());
    }
    Ok(key)
}

/// A payload that a trigger can't use.
struct Invalid {
    outcome: Outcome,
    detail: String,
    violations: Vec<Violation>,
}

/// One event, or one for each member that `split` selects.
fn events_of(
    trigger: &Trigger,
    policy: &Policy,
    request: &Inbound,
    payload: &Payload,
    limits: Limits,
) -> Result<Vec<NewEvent>, Invalid> {
    let Some(split) = &trigger.split else {
        let text = || String::from_utf8_lossy(&payload.text).into_owned();
        return event_of(trigger, policy, request, &payload.value, text, limits).map(|event| vec![event]);
    };
    let members = members_of(split, &payload.value);
    if members.len() > limits.events_max {
        let (found, allowed) = (members.len(), limits.events_max);
        let reason =
            format!("`split` selects {found} members, {allowed} are allowed (events_per_delivery_max)");
        return Err(Invalid::mapping(trigger, &reason));
    }
    let mut bytes = 0;
    let events = members.into_iter().enumerate().map(|(index, member)| {
        let event =
            event_of(trigger, policy, request, member, || member.to_string(), limits).map_err(|invalid| {
                let detail = format!("member {index} of `split`: {}", invalid.detail);
                Invalid { detail, ..invalid }
            })?;
        bytes += event.payload.len();
        if bytes > limits.delivery_bytes_max {
            let allowed = limits.delivery_bytes_max;
            let reason = format!(
                "the events have more than the {allowed} bytes that are allowed (delivery_bytes_max)"
            );
            return Err(Invalid::mapping(trigger, &reason));
        }
        Ok(event)
    });
    events.collect()
}

fn members_of<'a>(split: &JsonPath, payload: &'a Value) -> Vec<&'a Value> {
    match split.select(payload) {
        Selected::Many(members) => members,
        Selected::Nothing | Selected::One(_) => split.value(payload).into_iter().collect(),
    }
}

fn event_of(
    trigger: &Trigger,
    policy: &Policy,
    request: &Inbound,
    payload: &Value,
    text: impl FnOnce() -> String,
    limits: Limits,
) -> Result<NewEvent, Invalid> {
    trigger.schema.check(payload).map_err(|violations| {
        let detail = format!("{}: {}", trigger.reference, told(&violations));
        Invalid { outcome: Outcome::SchemaViolation, detail, violations }
    })?;
    let mapped = trigger.mapping.apply(request, payload, &trigger.reference);
    let mapped = mapped.map_err(|Unmapped(reason)| Invalid::mapping(trigger, &reason))?;
    if let Some(schema) = &trigger.event_schema {
        let own = mapped.as_ref().map(Mapped::to_value);
        schema.check(own.as_ref().unwrap_or(payload)).map_err(|violations| {
            let reason = format!("the mapped event breaks `event_schema`: {}", told(&violations));
            Invalid { violations, ..Invalid::mapping(trigger, &reason) }
        })?;
    }
    let unwritable = |error| Invalid::mapping(trigger, &format!("the event can't be written: {error}"));
    let payload = match mapped {
        Some(mapped) => serde_json::to_string(&mapped).map_err(unwritable)?,
        None => text(),
    };
    if payload.len() > limits.event_bytes_max {
        let (found, allowed) = (payload.len(), limits.event_bytes_max);
        let reason = format!("the event has {found} bytes, {allowed} are allowed (event_bytes_max)");
        return Err(Invalid::mapping(trigger, &reason));
    }
    Ok(NewEvent {
        id: Uuid::now_v7(),
        pack_ref: trigger.pack_ref.clone(),
        trigger_ref: trigger.reference.clone(),
        payload,
        metadata: serde_json::to_string(&metadata(policy, trigger, request)).map_err(unwritable)?,
    })
}

/// What is known of the request beside its payload.
#[derive(Serialize)]
struct Metadata<'a> {
    source: &'static str,
    request_id: Uuid,
    received_at: String,
    source_ip: IpAddr,
    user_agent: Option<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
}

fn metadata<'a>(policy: &'a Policy, trigger: &'a Trigger, request: &'a Inbound) -> Metadata<'a> {
    let always = [&header::CONTENT_TYPE, &header::USER_AGENT].into_iter();
    let names = always.chain(&policy.keep_headers).chain(&trigger.policy.keep_headers);
    Metadata {
        source: "webhook",
        request_id: request.id,
        received_at: request.received_at_text(),
        source_ip: request.source_ip,
        user_agent: request.user_agent(),
        headers: names.filter_map(|name| Some((name.as_str(), request.first_header(name)?))).collect(),
    }
}

/// The first few violations, in a line.
fn told(violations: &[Violation]) -> String {
    const SHOWN: usize = 5;
    let shown = violations.iter().take(SHOWN).map(|violation| {
        let place = if violation.pointer.is_empty() { "the payload" } else { &violation.pointer };
        format!("{place}: {}", violation.message)
    });
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if violations.len() > SHOWN {
        text += &format!("; and {} more", violations.len() - SHOWN);
    }
    text
}

impl Invalid {
    fn mapping(trigger: &Trigger, reason: &str) -> Self {
        let detail = format!("{}: {reason}", trigger.reference);
        Self { outcome: Outcome::MappingFailed, detail, violations: Vec::new() }
    }

    fn refusal(self) -> Refusal {
        match self.outcome {
            Outcome::SchemaViolation => Refusal::violations(self.detail, self.violations),
            _ => Refusal::unmapped(self.detail, self.violations),
        }
    }

    fn quarantined(
        self,
        trigger: &Trigger,
        policy: &Policy,
        request: &Inbound,
        key: Option<String>,
    ) -> Quarantined {
        let secret = policy.verify.token_place();
        let is_secret_header = |name: &http::HeaderName| {
            ["authorization", "proxy-authorization", "cookie"].contains(&name.as_str())
                || matches!(secret, Some(Place::Header(secret)) if secret == name)
        };
        let headers = request.headers.iter().filter(|(name, _)| !is_secret_header(name));
        let headers: Vec<Value> = headers
            .map(|(name, line)| json!([name.as_str(), String::from_utf8_lossy(line.as_bytes())]))
            .collect();
        Quarantined {
            id: Uuid::now_v7(),
            trigger_ref: trigger.reference.clone(),
            cause: self.outcome,
            detail: self.detail,
            // The last part of the path is the endpoint's key.
            path: request.path.rsplit_once('/').map_or_else(String::new, |(path, _)| format!("{path}/…")),
            query: request.query.clone().filter(|_| !matches!(secret, Some(Place::Query(_)))),
            headers: Value::Array(headers).to_string(),
            body: request.body.clone(),
            key,
        }
    }
}
