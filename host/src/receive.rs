//! The story of one request: from the door to the table, and what its sender hears.

pub mod again;
mod body;
mod events;
mod headers;
mod judge;
mod reading;
mod refusal;
pub mod rehearse;
mod source;
pub mod trial;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use axum::body::Body;
use http::request::Parts;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use self::body::Arrival;
pub use self::{
    judge::{Judged, Limits, authenticate, handshake, handshake_reads_body, judge, wanted},
    refusal::{Problem, Refusal},
    source::source_of,
};
use crate::{
    budget::{self, Budget},
    clock::Clock,
    config::Config,
    credentials::without_key,
    decode::Coding,
    host::Host,
    ingest::NotStored,
    limits::RowSize,
    model::{Answer, Delivery, DeliveryKey, LogRow, NewEvent, Outcome, body_checksum},
    registry::{Endpoint, Target},
    request::{Inbound, rfc3339},
    secret::{SecretValue, Secrets},
    steps::{Step, Steps},
    store::batch::Stored,
    traces::{self, Trace},
    verify::handshake::Shaken,
};

/// Keys that were fetched so lately are not fetched again for a signature that they don't fit.
const KEYS_AGE_MIN: Duration = Duration::from_mins(1);

/// What goes back to the sender.
#[derive(Debug)]
pub enum Receipt {
    Answered(Answer),
    /// The same answer as the first delivery of this key got, or the ids of events that all were there already.
    Replayed(Answer),
    /// A handshake's own answer.
    Shaken(Shaken),
    Refused(Refusal),
}

/// What a request may do here: for good, everything; on trial it spends nothing and keeps nothing.
#[derive(Clone, Copy)]
struct Course<'a> {
    host: &'a Host,
    clock: &'a Clock,
    is_trial: bool,
    /// Whether the signature is looked at; a trial may leave it out.
    verifies: bool,
}

/// How far a request came that was not refused.
#[expect(clippy::large_enum_variant, reason = "one a request, taken apart at once")]
enum Passed {
    Deliverable(Delivery),
    Ignored(Answer),
    Shaken(Shaken),
}

/// How a request ended that was not refused.
enum Ended {
    Stored(Stored),
    Ignored(Answer),
    Shaken(Shaken),
}

/// Takes one request from the door to the table; the sender's answer follows from what this returns, with
/// the id of the request's row in the log.
pub async fn receive(host: &Host, peer: IpAddr, key: &str, head: Parts, body: Body) -> (Uuid, Receipt) {
    let _in_flight = host.metrics.request_begins();
    let source_ip = source_of(peer, &head.headers, &host.config.trusted_proxies);
    let mut log = begin(&host.clock, source_ip, &head);
    let mut steps = Steps::begin(log.started);
    let (id, method) = (log.id, method_word(&head.method));
    let asked = traces::asked(&head.headers);
    let traced = host.traces.as_ref().and_then(|traces| Some((traces, traces.sample(id, asked.as_ref())?)));
    log.trace_id = traced.as_ref().map(|(_, context)| context).or(asked.as_ref()).map(|known| known.trace_id);
    let span = tracing::debug_span!("request", request_id = %id, trace_id = log.trace_id.map(display));
    let mut body = Arrival::new(body, &head.headers);
    let ended = story(host, key, head, &mut body, &mut log, &mut steps).instrument(span).await;
    body.discard_rest();
    steps.leave();
    match &ended {
        Ok(Ended::Stored(Stored::First(_))) => {}
        Ok(Ended::Stored(Stored::Repeated(_))) => log.outcome = Outcome::Duplicate,
        Ok(Ended::Ignored(answer)) => (log.status, log.outcome) = (answer.status, Outcome::Ignored),
        Ok(Ended::Shaken(shaken)) => (log.status, log.outcome) = (shaken.status, Outcome::Handshake),
        Err(refusal) => {
            (log.status, log.outcome) = (refusal.status.as_u16(), refusal.outcome);
            log.detail.clone_from(&refusal.detail);
        }
    }
    let owner_ref = log.trigger_ref.as_deref().unwrap_or_default();
    let took = log.started.elapsed();
    host.metrics.request_ended(owner_ref, log.outcome, took, &steps);
    tracing::debug!(
        request_id = %id,
        trace_id = log.trace_id.map(display),
        trigger = log.trigger_ref,
        outcome = log.outcome.word(),
        status = log.status,
        duration_us = took.as_micros(),
        "a request has ended"
    );
    if let Some((traces, context)) = traced {
        traces.send(Trace {
            context,
            request_id: id,
            began_at: log.received_at,
            took,
            steps,
            method,
            trigger_ref: log.trigger_ref.clone(),
            outcome: log.outcome,
            status: log.status,
            body_bytes: log.body_bytes,
        });
    }
    let receipt = match ended {
        // The writer has its row.
        Ok(Ended::Stored(Stored::First(answer))) => Receipt::Answered(answer),
        Ok(Ended::Stored(Stored::Repeated(answer))) => Receipt::Replayed(answer),
        Ok(Ended::Ignored(answer)) => {
            note(host, log);
            Receipt::Answered(answer)
        }
        Ok(Ended::Shaken(shaken)) => {
            note(host, log);
            Receipt::Shaken(shaken)
        }
        Err(refusal) => {
            note(host, log);
            Receipt::Refused(refusal)
        }
    };
    (id, receipt)
}

/// One of the words that there are for methods: a sender's own could be anything.
fn method_word(method: &http::Method) -> &'static str {
    match method.as_str() {
        "POST" => "POST",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "_OTHER",
    }
}

/// A delivery that gets through every check is committed, with its row in the request log, before this returns.
async fn story(
    host: &Host,
    key: &str,
    head: Parts,
    body: &mut Arrival,
    log: &mut LogRow,
    steps: &mut Steps,
) -> Result<Ended, Refusal> {
    let registry = host.registry.load_full();
    let Some(endpoint) = registry.endpoint(key) else {
        log.headers = host.config.log_headers.then(|| headers::logged(&head.headers, head.uri.path(), None));
        log.trigger_ref = registry.refused(key).map(str::to_owned);
        return Err(if log.trigger_ref.is_some() { Refusal::pack_refused() } else { Refusal::unknown_key() });
    };
    let course = Course { host, clock: &host.clock, is_trial: false, verifies: true };
    let delivery = match pass(course, endpoint, head, body, log, steps).await? {
        Passed::Deliverable(delivery) => delivery,
        Passed::Ignored(answer) => return Ok(Ended::Ignored(answer)),
        Passed::Shaken(shaken) => return Ok(Ended::Shaken(shaken)),
    };
    steps.enter(Step::Store);
    match host.ingest.store(delivery).await {
        Ok(stored) => Ok(Ended::Stored(stored)),
        Err(NotStored::Full(setting)) => Err(Refusal::store_full(setting)),
        Err(NotStored::Unavailable) => Err(Refusal::store_away()),
        Err(NotStored::Refused(reason)) => Err(Refusal::store_refused(reason)),
    }
}

/// As far as a request comes; what is not accepted leaves its headers in the log.
async fn pass(
    course: Course<'_>,
    endpoint: &Endpoint,
    head: Parts,
    body: &mut Arrival,
    log: &mut LogRow,
    steps: &mut Steps,
) -> Result<Passed, Refusal> {
    let mut request = inbound(log, head);
    let passed = check(course, endpoint, &mut request, body, log, steps).await;
    // What waits for the store from here on has its own limit.
    body.release();
    if course.host.config.log_headers && !matches!(passed, Ok(Passed::Deliverable(_))) {
        log.headers = Some(headers::logged(&request.headers, &request.path, Some(endpoint.target.policy())));
    }
    passed
}

/// Every check in its order; the first that fails ends it.
async fn check(
    course: Course<'_>,
    endpoint: &Endpoint,
    request: &mut Inbound,
    body: &mut Arrival,
    log: &mut LogRow,
    steps: &mut Steps,
) -> Result<Passed, Refusal> {
    let Course { host, is_trial, .. } = course;
    // As they are now, to the end: packs and their secrets may be swapped meanwhile.
    let known = host.secrets_of(&endpoint.target);
    let budget = &Budget::new(budget::Limits::of(&host.config), Instant::now());
    let policy = endpoint.target.policy();
    log.trigger_ref = Some(endpoint.target.owner_ref().to_owned());
    log.endpoint_key_id = Some(endpoint.key_id);
    log.pack_version = Some(endpoint.target.pack_version().to_owned());
    if endpoint.expires_at.is_some_and(|at| at <= log.received_at) {
        return Err(Refusal::key_expired());
    }
    if endpoint.closed {
        return Err(Refusal::policy_unfit());
    }

    steps.enter(Step::Address);
    if !policy.admits(request.source_ip) {
        return Err(Refusal::address(request.source_ip));
    }
    if !is_trial {
        steps.enter(Step::HostLimits);
        host.limits.admit(request.source_ip).map_err(Refusal::over_host_limit)?;
        body.charge(host.limits.bodies.lease(request.source_ip, endpoint.key_id));
    }
    if !policy.handshakes.is_empty() {
        steps.enter(Step::Body);
        let has_body = small_body(request, &endpoint.target, body, &host.config).await;
        steps.enter(Step::Handshake);
        if let Some(shaken) = shake(course, endpoint, &known.usable, request, has_body, budget).await? {
            return Ok(Passed::Shaken(shaken));
        }
    }
    steps.enter(Step::Open);
    let secrets = open(endpoint, &known)?;
    steps.enter(Step::Media);
    let coding = understood(request)?;
    steps.enter(Step::Body);
    request.body = body.whole(policy, &host.config).await?;
    log.body_bytes = i64::try_from(request.body.len()).unwrap_or(i64::MAX);
    let bytes = coding.bytes_max(request.body.len(), policy.body_bytes_max);
    let checks = async {
        if course.verifies {
            steps.enter(Step::Signature);
            believe(course, &endpoint.target, request, &secrets, budget).await?;
            log.verified = policy.verify.verifies();
        }
        if let Some(body) = policy.verify.body_without_token(request, budget).map_err(Refusal::exhausted)? {
            request.body = body;
        }
        if let Some(limit) = endpoint.limit.as_ref().filter(|_| !is_trial) {
            steps.enter(Step::RateLimit);
            limit.admit().await.map_err(Refusal::not_admitted)?;
        }
        judge(&endpoint.target, request, coding, Limits::of(&host.config, budget), steps).await
    };
    let judged = host.limits.offload.run(endpoint.key_id, bytes, checks).await?;
    Ok(match deliverable(&endpoint.target, request, judged, log) {
        Some(mut delivery) => {
            let is_kept = host.config.kept_request_days.is_some() && !delivery.events.is_empty() && !is_trial;
            delivery.raw = is_kept.then(|| events::raw(policy, request));
            Passed::Deliverable(delivery)
        }
        None => Passed::Ignored(ignored(&endpoint.target)),
    })
}

fn begin(clock: &Clock, source_ip: IpAddr, head: &Parts) -> LogRow {
    LogRow {
        id: Uuid::now_v7(),
        trace_id: None,
        received_at: clock.now(),
        trigger_ref: None,
        endpoint_key_id: None,
        source_ip,
        user_agent: head
            .headers
            .get(http::header::USER_AGENT)
            .map(|line| clipped(&without_key(&String::from_utf8_lossy(line.as_bytes()), head.uri.path()))),
        method: clipped(head.method.as_str()),
        body_bytes: 0,
        status: 0,
        outcome: Outcome::UnknownKey,
        detail: None,
        verified: false,
        started: Instant::now(),
        took: None,
        pack_version: None,
        headers: None,
    }
}

/// Not paused, and its secrets are there: a trigger that is to verify and can't lets nobody through.
fn open(
    endpoint: &Endpoint,
    known: &crate::policy_secrets::PolicySecrets,
) -> Result<Vec<SecretValue>, Refusal> {
    if endpoint.paused {
        return Err(Refusal::paused());
    }
    let policy = endpoint.target.policy();
    let secrets = known.usable.of(&policy.secrets);
    if policy.verify.needs_secret() && secrets.is_empty() {
        return Err(Refusal::secret_missing(&policy.secrets, &known.problems));
    }
    Ok(secrets)
}

/// Reads the body where a handshake may lie in it and it is small. Whether the request has it now.
async fn small_body(request: &mut Inbound, target: &Target, body: &mut Arrival, config: &Config) -> bool {
    if !handshake_reads_body(target, request) {
        return false;
    }
    let bytes_max = config.handshake_body_bytes_max.min(target.policy().body_bytes_max);
    let Some(bytes) = body.small(bytes_max, config).await else { return false };
    request.body = bytes;
    true
}

/// The answer to a handshake, when the request is one that the policy declares. A secret that it brings is kept first.
async fn shake(
    course: Course<'_>,
    endpoint: &Endpoint,
    known: &Secrets,
    request: &Inbound,
    has_body: bool,
    budget: &Budget,
) -> Result<Option<Shaken>, Refusal> {
    let (host, Endpoint { target, .. }) = (course.host, endpoint);
    // What has to be fetched is fetched for deliveries; no sender's handshake is signed so.
    let now = course.clock.now();
    let shaken = handshake(target, request, has_body, &host.public_url, known, now, budget)?;
    let Some(Shaken { store: Some(secret), .. }) = &shaken else { return Ok(shaken) };
    // More than an answer: what holds for deliveries holds for this.
    if endpoint.paused {
        return Err(Refusal::paused());
    }
    let (pack_ref, Some(name)) = (target.pack_ref(), target.policy().secrets.first()) else {
        return Ok(None);
    };
    let kept = if course.is_trial {
        Ok(host.awaits_secret(pack_ref, name))
    } else {
        host.keep_secret(pack_ref, name, secret).await
    };
    match kept {
        Ok(true) => Ok(shaken),
        // Somebody else was first: this one is a stranger.
        Ok(false) => Ok(None),
        Err(error) => {
            let (request_id, error) = (request.id, format!("{error:#}"));
            tracing::error!(%request_id, name, error, "a secret that a handshake brought can't be kept");
            Err(Refusal::store_away())
        }
    }
}

/// Signature and freshness. Keys that the sender publishes are fetched before, and once more where they are not the
/// ones that it signs with by now.
async fn believe(
    course: Course<'_>,
    target: &Target,
    request: &Inbound,
    secrets: &[SecretValue],
    budget: &Budget,
) -> Result<(), Refusal> {
    let host = course.host;
    let check = |fetched: Option<&str>| {
        authenticate(target, request, &host.public_url, fetched, secrets, course.clock.now(), budget)
    };
    let Some(url) = wanted(target, request, &host.public_url, budget)? else { return check(None) };
    let fetch = async |newer_than| {
        let fetched = host.fetcher.get(&url, newer_than).await;
        fetched.map_err(|error| Refusal::keys_unavailable(&format!("{error:#}")))
    };
    let first = fetch(None).await?;
    let checked = check(Some(&first));
    match checked {
        Err(refusal) if refusal.outcome == Outcome::BadSignature => {
            let second = fetch(Some(KEYS_AGE_MIN)).await?;
            if second == first { Err(refusal) } else { check(Some(&second)) }
        }
        checked => checked,
    }
}

/// Method, content type and encoding.
fn understood(request: &Inbound) -> Result<Coding, Refusal> {
    if request.method != http::Method::POST {
        return Err(Refusal::method(&request.method));
    }
    Coding::of(&request.headers).map_err(Refusal::media)
}

/// The request as far as it has arrived: its body is still to come.
fn inbound(log: &LogRow, head: Parts) -> Inbound {
    Inbound {
        id: log.id,
        received_at: log.received_at,
        source_ip: log.source_ip,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        method: head.method,
        headers: head.headers,
        body: bytes::Bytes::new(),
    }
}

/// What is to be stored, with the answer that its sender will hear; `None` when nothing is.
fn deliverable(target: &Target, request: &Inbound, judged: Judged, log: &mut LogRow) -> Option<Delivery> {
    log.detail = judged.detail();
    let Judged { events, quarantined, key, is_batch, .. } = judged;
    if events.is_empty() && quarantined.is_empty() {
        return None;
    }
    let policy = target.policy();
    let answer = if events.is_empty() {
        log.outcome = Outcome::Quarantined;
        let body = quarantined_json(target, request.received_at);
        Answer { status: 202, content_type: "application/json".to_owned(), body }
    } else {
        log.outcome = Outcome::Accepted;
        policy.answer(|| accepted_json(target, request.received_at, &events, is_batch))
    };
    log.status = answer.status;
    // A quarantined delivery is not yet stored as an event: its sender may send it again.
    let key = key.filter(|_| !events.is_empty()).zip(policy.idempotency.as_ref());
    let key = key.map(|(key, rule)| DeliveryKey {
        owner_ref: target.owner_ref().to_owned(),
        key,
        window: rule.window,
        is_held: false,
        body_checksum: body_checksum(&request.body),
    });
    Some(Delivery { events, quarantined, key, answer, log: log.clone(), raw: None })
}

/// `{"data": {"event_id", "trigger_ref", "received_at", "message", "events"?}}`
///
/// Made before anything is stored. What turns out to have been stored before gets its first id in this very text
/// (`Answer::renamed`).
#[derive(Serialize)]
struct Accepted<'a> {
    data: AcceptedData<'a>,
}

#[derive(Serialize)]
struct AcceptedData<'a> {
    event_id: Uuid,
    trigger_ref: &'a str,
    received_at: String,
    message: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<AcceptedEvent<'a>>,
}

#[derive(Serialize)]
struct AcceptedEvent<'a> {
    event_id: Uuid,
    trigger_ref: &'a str,
}

impl<'a> AcceptedEvent<'a> {
    fn of(event: &'a NewEvent) -> Self {
        Self { event_id: event.id, trigger_ref: &event.trigger_ref }
    }
}

fn accepted_json(
    target: &Target,
    received_at: OffsetDateTime,
    events: &[NewEvent],
    is_batch: bool,
) -> String {
    let splits = || target.triggers().iter().any(|trigger| trigger.split.is_some());
    let listed = is_batch || events.len() > 1 || matches!(target, Target::Pack(_)) || splits();
    let data = AcceptedData {
        event_id: events[0].id,
        trigger_ref: &events[0].trigger_ref,
        received_at: rfc3339(received_at),
        message: "Webhook received successfully",
        events: if listed { events.iter().map(AcceptedEvent::of).collect() } else { Vec::new() },
    };
    serde_json::to_string(&Accepted { data }).unwrap_or_default()
}

fn quarantined_json(target: &Target, received_at: OffsetDateTime) -> String {
    json!({"data": {
        "quarantined": true,
        "trigger_ref": target.owner_ref(),
        "received_at": rfc3339(received_at),
        "message": "Webhook kept for review",
    }})
    .to_string()
}

fn ignored(target: &Target) -> Answer {
    target.policy().answer(|| {
        json!({"data": {
            "ignored": true,
            "trigger_ref": target.owner_ref(),
            "message": "Webhook acknowledged; nothing here is waiting for it",
        }})
        .to_string()
    })
}

/// Logs a request that was not stored. Of the ones that nothing vouches for only so many have a row, and only some of
/// those a long one: what any client can send must not fill the disk. All are counted.
fn note(host: &Host, mut log: LogRow) {
    let Some((size, left_out)) = admitted(host, &log) else {
        host.ingest.count(log);
        return;
    };
    if size == RowSize::Short {
        log.headers = None;
        log.user_agent = log.user_agent.as_deref().map(|text| cut(text, SHORT_USER_AGENT_CHARACTERS));
        log.detail = log.detail.as_deref().map(|text| cut(text, SHORT_DETAIL_CHARACTERS));
    }
    if left_out > 0 {
        let told = format!("{left_out} more like it were left out of the log since the last such row");
        log.detail = Some(log.detail.map_or_else(|| told.clone(), |detail| format!("{detail}; {told}")));
    }
    host.ingest.log(log);
}

const SHORT_USER_AGENT_CHARACTERS: usize = 80;
const SHORT_DETAIL_CHARACTERS: usize = 200;

/// How long the row of a request may be, and how many were left out before it; `None` when it has none.
fn admitted(host: &Host, log: &LogRow) -> Option<(RowSize, u64)> {
    let is_stranger = matches!(log.outcome, Outcome::UnknownKey | Outcome::Handshake)
        || (log.outcome == Outcome::RateLimited && !log.verified);
    if is_stranger {
        let left_out = host.strangers.sample()?;
        return Some((host.limits.log_rows.size(), left_out));
    }
    if log.verified {
        return Some((RowSize::Whole, 0));
    }
    host.limits.log_rows.admit(log.endpoint_key_id.unwrap_or_default())
}

fn cut(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).collect()
}

fn clipped(text: &str) -> String {
    text.chars().take(500).collect()
}
