//! The checks that need no host: is it authentic, what does it say, what becomes of it. `pack test` runs these too.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Refusal,
    events::{NotProduced, produce},
};
use crate::{
    config::Config,
    decode::{Coding, Undecodable},
    matching::Line,
    model::{NewEvent, Quarantined},
    pack::Trigger,
    policy::{OnInvalid, Policy},
    registry::Target,
    request::Inbound,
    secret::{SecretValue, Secrets},
    verify::{
        Seen,
        handshake::{Rejected, Shaken},
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
    /// For a row of the log: the first few notes, and how many more there are.
    pub fn detail(&self) -> Option<String> {
        let kept = self.quarantined.iter().map(|quarantined| &quarantined.detail);
        let notes: Vec<&str> = self.notes.iter().chain(kept).map(String::as_str).collect();
        let (told, more) = notes.split_at(notes.len().min(NOTES_TOLD));
        let mut text: String = told.join("; ").chars().take(DETAIL_CHARACTERS_MAX).collect();
        if !more.is_empty() {
            text += &format!("; and {} more", more.len());
        }
        (!notes.is_empty()).then_some(text)
    }
}

/// A delivery may have a thousand members, each with something to say.
const NOTES_TOLD: usize = 10;
const DETAIL_CHARACTERS_MAX: usize = 4000;

/// The limits that hold while a payload is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub events_max: usize,
    pub event_bytes_max: usize,
    pub delivery_bytes_max: usize,
    pub delivery_time: Duration,
}

impl Limits {
    pub fn of(config: &Config) -> Self {
        Self {
            events_max: config.events_per_delivery_max,
            event_bytes_max: config.event_bytes_max,
            delivery_bytes_max: config.delivery_bytes_max,
            delivery_time: Duration::from_secs(config.mapper_delivery_seconds),
        }
    }
}

/// The answer to the first handshake that the request is.
pub fn handshake(
    target: &Target,
    request: &Inbound,
    public_url: &str,
    fetched: Option<&str>,
    known: &Secrets,
    now: OffsetDateTime,
) -> Result<Option<Shaken>, Refusal> {
    let policy = target.policy();
    if policy.handshakes.is_empty() {
        return Ok(None);
    }
    let secrets = known.of(&policy.secrets);
    let seen = Seen::new(request, public_url).with(fetched);
    for handshake in &policy.handshakes {
        let shaken = handshake.shake(&seen, &policy.verify, &secrets, known, now);
        if let Some(shaken) = shaken.map_err(|Rejected(status)| Refusal::handshake(status))? {
            return Ok(Some(shaken));
        }
    }
    Ok(None)
}

/// What has to be fetched before the request can be checked.
pub fn wanted(target: &Target, request: &Inbound, public_url: &str) -> Result<Option<String>, Refusal> {
    target.policy().verify.wanted(&Seen::new(request, public_url)).map_err(Refusal::unverified)
}

/// Signature and freshness, over the raw bytes; `fetched` is what was wanted.
pub fn authenticate(
    target: &Target,
    request: &Inbound,
    public_url: &str,
    fetched: Option<&str>,
    secrets: &[SecretValue],
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    let seen = Seen::new(request, public_url).with(fetched);
    target.policy().verify.check(&seen, secrets, now).map_err(Refusal::unverified)
}

/// Decodes an authentic request and lets every trigger that it matches make its events: all or none.
pub async fn judge(
    target: &Target,
    request: &Inbound,
    coding: Coding,
    limits: Limits,
) -> Result<Judged, Refusal> {
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
        match produce(trigger, policy, request, &payload, limits).await {
            Ok(produced) => {
                judged.notes.extend(produced.notes);
                judged.events.extend(produced.events);
            }
            Err(NotProduced::Busy(reason)) => return Err(Refusal::mapper_busy(reason)),
            Err(NotProduced::Invalid(invalid)) => match trigger.policy.on_invalid {
                OnInvalid::Reject => return Err(invalid.refusal()),
                OnInvalid::Quarantine => {
                    let key = judged.key.clone();
                    judged.quarantined.push(invalid.quarantined(trigger, policy, request, key));
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
