//! A request on trial: what would become of it, step by step. Nothing is stored, spent, kept or logged.

use axum::body::Body;
use bytes::Bytes;
use http::{header, request::Parts};
use std::{net::IpAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Course, Passed, Receipt, begin, body::Arrival, pass};
use crate::{
    clock::Clock,
    host::Host,
    model::{LogRow, NewEvent, Outcome, Quarantined},
    registry::{Endpoint, NotAdmitted, Target},
    steps::{Step, Steps},
};

/// What is tried.
#[derive(Debug)]
pub struct Trial {
    pub head: Parts,
    pub body: Bytes,
    pub source_ip: IpAddr,
    /// The time of receipt; `None`: now.
    pub at: Option<OffsetDateTime>,
    /// Whether the signature is looked at.
    pub verify: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Tried {
    pub id: Uuid,
    /// What the sender would hear.
    pub receipt: Receipt,
    pub outcome: Outcome,
    /// What the request log would keep.
    pub detail: Option<String>,
    /// Every step, in order.
    pub steps: Vec<TriedStep>,
    pub events: Vec<NewEvent>,
    pub quarantined: Vec<Quarantined>,
    /// The delivery's idempotency key.
    pub key: Option<String>,
}

#[derive(Debug)]
pub struct TriedStep {
    pub step: Step,
    pub verdict: Verdict,
    pub detail: Option<String>,
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// Sends a request through every step that a webhook's own would take, also where the webhook is disabled.
pub async fn attempt(host: &Host, target: Target, trial: Trial) -> Tried {
    let Trial { head, body, source_ip, at, verify } = trial;
    let clock = at.map_or_else(|| host.clock.clone(), Clock::held);
    let (endpoint, is_open) = endpoint_of(host, target, clock.now());
    let course = Course { host, clock: &clock, is_trial: true, verifies: verify };
    let mut log = begin(&clock, source_ip, &head);
    let mut steps = Steps::begin(log.started);
    let media = media(&head);
    let mut body = Arrival::new(Body::from(body), &head.headers);
    let passed = pass(course, &endpoint, head, &mut body, &mut log, &mut steps).await;
    steps.leave();
    let told = Teller { host, endpoint: &endpoint, is_open, verify, media, log: &log, steps: &steps };
    let verdicts = told.verdicts(&passed).await;
    let (id, detail) = (log.id, log.detail);
    let nothing = (Vec::new(), Vec::new(), None);
    let (receipt, outcome, detail, (events, quarantined, key)) = match passed {
        Ok(Passed::Shaken(shaken)) => (Receipt::Shaken(shaken), Outcome::Handshake, detail, nothing),
        Ok(Passed::Ignored(answer)) => (Receipt::Answered(answer), Outcome::Ignored, detail, nothing),
        Ok(Passed::Deliverable(delivery)) => {
            let made = (delivery.events, delivery.quarantined, delivery.key.map(|key| key.key));
            (Receipt::Answered(delivery.answer), log.outcome, detail, made)
        }
        Err(refusal) => {
            let (outcome, detail) = (refusal.outcome, refusal.detail.clone());
            (Receipt::Refused(refusal), outcome, detail, nothing)
        }
    };
    Tried { id, receipt, outcome, detail, steps: verdicts, events, quarantined, key }
}

/// The endpoint that the main key opens, or the one that there would be, and whether it is there.
fn endpoint_of(host: &Host, target: Target, now: OffsetDateTime) -> (Arc<Endpoint>, bool) {
    let registry = host.registry.load();
    let owner_ref = target.owner_ref();
    let endpoints = registry.endpoints_of(owner_ref);
    let live = endpoints.into_iter().find(|endpoint| endpoint.expires_at.is_none_or(|at| at > now));
    if let Some(endpoint) = live {
        return (endpoint.clone(), true);
    }
    let closed = registry.override_fault(owner_ref).is_some();
    let would_be = Endpoint {
        key_id: Uuid::nil(),
        target,
        paused: false,
        closed,
        key: None,
        label: None,
        expires_at: None,
        is_main: true,
        created_at: now,
        limit: None,
    };
    (Arc::new(would_be), false)
}

fn media(head: &Parts) -> String {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.map_or_else(|| "no content type".into(), |line| String::from_utf8_lossy(line.as_bytes()));
    format!("{}, {kind}", head.method)
}

/// What is said of each step.
struct Teller<'a> {
    host: &'a Host,
    endpoint: &'a Endpoint,
    is_open: bool,
    verify: bool,
    media: String,
    log: &'a LogRow,
    steps: &'a Steps,
}

type Ending = Result<Passed, super::Refusal>;

impl Teller<'_> {
    async fn verdicts(self, ended: &Ending) -> Vec<TriedStep> {
        let (last, failures) = self.ending(ended);
        let mut told = Vec::with_capacity(Step::ALL.len());
        for step in Step::ALL {
            let failure = failures.iter().find(|(failed, _)| *failed == step);
            let (verdict, detail) = match failure {
                Some((_, reason)) => (Verdict::Failed, reason.clone()),
                None if step as usize > last as usize => (Verdict::Skipped, None),
                None => {
                    let (verdict, detail) = self.without_fault(step, ended).await;
                    (verdict, Some(detail).filter(|detail| !detail.is_empty()))
                }
            };
            told.push(TriedStep { step, verdict, detail, took: self.steps.took(step).unwrap_or_default() });
        }
        told
    }

    /// The last step that says anything, and the steps that failed, with the reason.
    fn ending(&self, ended: &Ending) -> (Step, Vec<(Step, Option<String>)>) {
        match ended {
            Err(refusal) => {
                let (at, reason) = (self.steps.current(), refusal.detail.as_ref().unwrap_or(&refusal.told));
                (at, vec![(at, Some(reason.clone()))])
            }
            Ok(Passed::Shaken(_)) => (Step::Handshake, Vec::new()),
            Ok(Passed::Ignored(_)) if self.steps.took(Step::Schema).is_none() => {
                (Step::Match, vec![(Step::Match, self.log.detail.clone())])
            }
            Ok(Passed::Ignored(_)) => (Step::Mapping, Vec::new()),
            Ok(Passed::Deliverable(delivery)) => {
                let failed = delivery.quarantined.iter().map(|kept| match kept.cause {
                    Outcome::SchemaViolation => (Step::Schema, Some(kept.detail.clone())),
                    _ => (Step::Mapping, Some(kept.detail.clone())),
                });
                (Step::Store, failed.collect())
            }
        }
    }

    async fn without_fault(&self, step: Step, ended: &Ending) -> (Verdict, String) {
        let policy = self.endpoint.target.policy();
        let passed = |detail: String| (Verdict::Passed, detail);
        let skipped = |detail: &str| (Verdict::Skipped, detail.to_owned());
        match step {
            Step::Key if self.is_open => passed(String::new()),
            Step::Key => skipped("this webhook is not enabled: senders hear 404"),
            Step::Handshake if policy.handshakes.is_empty() => skipped("none is declared"),
            Step::Handshake => match ended {
                Ok(Passed::Shaken(shaken)) if shaken.store.is_some() => {
                    let name = policy.secrets.first().map_or("", String::as_str);
                    passed(format!("answered; the secret that it brings would be kept as {name}"))
                }
                Ok(Passed::Shaken(_)) => passed("answered; nothing is stored".to_owned()),
                _ => passed("it is none".to_owned()),
            },
            Step::Open if policy.secrets.is_empty() => passed("no secret is needed".to_owned()),
            Step::Open => passed(format!("secrets: {}", policy.secrets.join(", "))),
            Step::Media => passed(self.media.clone()),
            Step::Body => {
                passed(format!("{} bytes of at most {}", self.log.body_bytes, policy.body_bytes_max))
            }
            Step::Address if policy.ip_allowlist.is_none() => passed("from anywhere".to_owned()),
            Step::Address => passed(format!("{} is on the allow-list", self.log.source_ip)),
            Step::HostLimits => (Verdict::Skipped, self.host_limits()),
            Step::Signature if !policy.verify.verifies() => {
                skipped("`verify: none`: anyone who knows the URL may send")
            }
            Step::Signature if !self.verify => skipped("left out, as asked"),
            Step::Signature => passed("authentic and fresh".to_owned()),
            Step::RateLimit => (Verdict::Skipped, self.rate_limit().await),
            Step::Decode | Step::Match | Step::Schema => passed(String::new()),
            Step::Mapping => match ended {
                Ok(Passed::Deliverable(delivery)) => {
                    let count = delivery.events.len();
                    passed(format!("{count} event{}", if count == 1 { "" } else { "s" }))
                }
                _ => passed(self.log.detail.clone().unwrap_or_default()),
            },
            Step::Store => skipped("a dry run stores nothing"),
        }
    }

    fn host_limits(&self) -> String {
        let config = &self.host.config;
        let told = |whose: &str, limit: Option<crate::config::RateLimit>| {
            limit.map(|limit| format!("{} in {} s {whose}", limit.requests, limit.window_seconds))
        };
        let limits =
            [told("of one address", config.source_rate_limit), told("in all", config.total_rate_limit)];
        let limits: Vec<_> = limits.into_iter().flatten().collect();
        if limits.is_empty() {
            return "none is set".to_owned();
        }
        format!("a dry run spends none: {}", limits.join(", "))
    }

    async fn rate_limit(&self) -> String {
        let Some(limit) = self.endpoint.target.policy().rate_limit else {
            return "none is declared".to_owned();
        };
        let declared = format!("a dry run spends none: {} in {} s", limit.requests, limit.window_seconds);
        let Some(counted) = &self.endpoint.limit else { return declared };
        let stands = match counted.standing().await {
            Ok(()) => "one more would be let through now".to_owned(),
            Err(NotAdmitted::Over(over)) => {
                format!("another one would hear 429 now, for {} s", over.retry_after.as_secs())
            }
            Err(NotAdmitted::Unknown(reason)) => format!("what is left can't be told: {reason}"),
        };
        format!("{declared}; {stands}")
    }
}
