//! The story of a request without a host: what `pack test` runs. Everything but keys, rates and the store.

use std::time::Instant;

use time::OffsetDateTime;

use super::{Judged, Limits, Refusal, authenticate, handshake, judge, wanted};
use crate::{
    budget::{self, Budget},
    config::Config,
    decode::Coding,
    model::{NewEvent, Outcome},
    registry::Target,
    request::Inbound,
    secret::Secrets,
    steps::Steps,
    verify::{handshake::Shaken, public_key::private},
};

/// What a request came to.
#[derive(Debug)]
pub struct Rehearsed {
    pub status: u16,
    pub outcome: Outcome,
    pub detail: Option<String>,
    pub events: Vec<NewEvent>,
    pub key: Option<String>,
    /// What the sender hears, where the pack declares it.
    pub answer: Option<String>,
}

/// Runs every check that needs no host, in the order of [`super::receive`].
pub async fn rehearse(
    target: &Target,
    request: &Inbound,
    secrets: &Secrets,
    public_url: &str,
    config: &Config,
    now: OffsetDateTime,
) -> Rehearsed {
    match story(target, request, secrets, public_url, config, now).await {
        Ok(Ended::Shaken(shaken)) => Rehearsed {
            status: shaken.status,
            outcome: Outcome::Handshake,
            detail: None,
            events: Vec::new(),
            key: None,
            answer: Some(shaken.body),
        },
        Ok(Ended::Judged(judged)) => {
            let policy = target.policy();
            let answer = policy.answer(String::new);
            let (status, outcome) = match (judged.events.is_empty(), judged.quarantined.is_empty()) {
                (false, _) => (answer.status, Outcome::Accepted),
                (true, false) => (202, Outcome::Quarantined),
                (true, true) => (answer.status, Outcome::Ignored),
            };
            let detail = judged.detail();
            // Our own JSON names ids that nobody can expect; what a pack declares is known word for word.
            let declared = policy.respond.is_some() && outcome != Outcome::Quarantined;
            let answer = declared.then_some(answer.body);
            Rehearsed { status, outcome, detail, events: judged.events, key: judged.key, answer }
        }
        Err(refusal) => Rehearsed {
            status: refusal.status.as_u16(),
            outcome: refusal.outcome,
            detail: refusal.detail,
            events: Vec::new(),
            key: None,
            answer: None,
        },
    }
}

enum Ended {
    Shaken(Shaken),
    Judged(Judged),
}

async fn story(
    target: &Target,
    request: &Inbound,
    secrets: &Secrets,
    public_url: &str,
    config: &Config,
    now: OffsetDateTime,
) -> Result<Ended, Refusal> {
    let policy = target.policy();
    let budget = &Budget::new(budget::Limits::of(config), Instant::now());
    let known = secrets.of(&policy.secrets);
    if !policy.admits(request.source_ip) {
        return Err(Refusal::address(request.source_ip));
    }
    let has_body = request.body.len() <= config.handshake_body_bytes_max.min(policy.body_bytes_max);
    if let Some(shaken) = handshake(target, request, has_body, public_url, secrets, now, budget)? {
        return Ok(Ended::Shaken(shaken));
    }
    if policy.verify.needs_secret() && known.is_empty() {
        return Err(Refusal::secret_missing(&policy.secrets, &[]));
    }
    if request.method != http::Method::POST {
        return Err(Refusal::method(&request.method));
    }
    let coding = Coding::of(&request.headers).map_err(Refusal::media)?;
    if request.body.len() > policy.body_bytes_max {
        return Err(Refusal::too_large(policy.body_bytes_max));
    }
    // Certificates are ours here, as the keys are that cases are signed with.
    let fetched = wanted(target, request, public_url, budget)?.map(|_| private::CERTIFICATE);
    authenticate(target, request, public_url, fetched, &known, now, budget)?;
    let steps = &mut Steps::begin(Instant::now());
    let redacted = policy.verify.body_without_token(request, budget).map_err(Refusal::exhausted)?;
    let redacted = redacted.map(|body| Inbound { body, ..request.clone() });
    let request = redacted.as_ref().unwrap_or(request);
    judge(target, request, coding, Limits::of(config, budget), steps).await.map(Ended::Judged)
}
