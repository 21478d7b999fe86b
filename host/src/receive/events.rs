//! From one trigger's view of a delivery to its events: split, schema, mapping, event schema.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Instant};

use bytes::Bytes;
use http::header;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Limits, Refusal};
use crate::{
    budget::Exhausted,
    credentials::{HIDDEN, is_secret_header, path_without_key, without_key},
    decode::{Payload, Place},
    form,
    json::BoundedText,
    mapping::{self, Given, Made},
    model::{NewEvent, Outcome, Quarantined, Raw},
    pack::Trigger,
    policy::{Policy, storable_key},
    request::{Attributes, Inbound},
    schema::{Unfit, Violation},
    selector::Subject,
    steps::{Step, Steps},
    verify::signature,
};

/// What becomes of a delivery.
#[derive(Debug)]
pub(super) struct Produced<'s> {
    pub(super) events: Vec<NewEvent>,
    /// Why there are none, or fewer than members.
    pub(super) notes: Vec<String>,
    /// Payloads that lack the key that their events are to have.
    keyless: usize,
    pub(super) steps: &'s mut Steps,
}

impl<'s> Produced<'s> {
    pub(super) fn new(steps: &'s mut Steps) -> Self {
        Self { events: Vec::new(), notes: Vec::new(), keyless: 0, steps }
    }

    /// How many events have no key of their own where one is declared.
    pub(super) fn told_of_keys(&self) -> Option<String> {
        let Self { keyless, .. } = self;
        (*keyless > 0)
            .then(|| format!("{keyless} stored without a key of their own: `event_key` selects nothing"))
    }
}

/// Why a trigger can make nothing of it.
#[derive(Debug)]
pub(super) enum NotProduced {
    Invalid(Invalid),
    /// The key of an event is required and missing.
    KeyMissing,
    /// Too much waits for mappers; nothing is wrong with the request.
    Busy(String),
}

/// A payload that a trigger can't use.
#[derive(Debug)]
pub(super) struct Invalid {
    outcome: Outcome,
    place: Place,
    detail: String,
    violations: Vec<Violation>,
}

/// One trigger's work on one delivery: its limits are those of all the payloads together.
pub(super) struct Maker<'a> {
    pub(super) trigger: &'a Trigger,
    policy: &'a Policy,
    request: &'a Inbound,
    limits: Limits<'a>,
    began: Instant,
    /// Events and bytes that may still come.
    events_left: usize,
    bytes_left: usize,
}

/// A payload on its way, or a member of it.
struct Piece<'a> {
    subject: Subject<'a>,
    /// Its very text, where it has to be the one that was sent.
    whole: Option<&'a Payload>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(
        trigger: &'a Trigger,
        policy: &'a Policy,
        request: &'a Inbound,
        limits: Limits<'a>,
        began: Instant,
    ) -> Self {
        let (events_left, bytes_left) = (limits.events_max, limits.delivery_bytes_max);
        Self { trigger, policy, request, limits, began, events_left, bytes_left }
    }

    /// Adds every event of a payload, or of each member of it that `split` selects. Events without a key of their own
    /// get `key`, the payload's, if it has one.
    pub(super) async fn produce(
        &mut self,
        payload: &Payload,
        key: Option<&str>,
        produced: &mut Produced<'_>,
    ) -> Result<(), NotProduced> {
        let before = produced.events.len();
        self.pieces(payload, produced).await.map_err(|failure| failure.at(payload.place))?;
        give_key(&mut produced.events[before..], key);
        Ok(())
    }

    /// The key that `event_key` finds in what an event is made of.
    fn key_of(
        &self,
        subject: Subject<'_>,
        produced: &mut Produced<'_>,
    ) -> Result<Option<String>, NotProduced> {
        let rule = self.policy.idempotency.as_ref().filter(|rule| rule.event_key.is_some());
        let Some(rule) = rule else { return Ok(None) };
        let key = rule.key_of_event(subject).map_err(|exhausted| self.exhausted(exhausted))?;
        if key.is_none() && rule.required {
            return Err(NotProduced::KeyMissing);
        }
        produced.keyless += usize::from(key.is_none());
        Ok(key)
    }

    async fn pieces(&mut self, payload: &Payload, produced: &mut Produced<'_>) -> Result<(), NotProduced> {
        let (trigger, events_max) = (self.trigger, self.limits.events_max);
        let subject = payload.subject(self.request, self.limits.budget);
        let Some(split) = &trigger.split else {
            self.in_time()?;
            return self.make(&Piece { subject, whole: Some(payload) }, produced).await;
        };
        let selected = split.all(&payload.value, self.limits.budget);
        let members = selected.map_err(|exhausted| self.exhausted(exhausted))?;
        if members.len() > events_max {
            let found = members.len();
            let reason = format!(
                "`split` selects {found} members, {events_max} are allowed (events_per_delivery_max)"
            );
            return Err(Invalid::mapping(trigger, &reason).into());
        }
        if members.is_empty() {
            produced.notes.push(format!("{}: `split` selects nothing", trigger.reference));
        }
        for (index, member) in members.into_iter().enumerate() {
            self.in_time()?;
            let piece = Piece { subject: Subject { payload: member, ..subject }, whole: None };
            self.make(&piece, produced).await.map_err(|failure| failure.of_member(index))?;
        }
        Ok(())
    }

    /// What it means for the delivery that the request's budget is exhausted: a machine that was too busy must not make
    /// it final.
    pub(super) fn exhausted(&self, exhausted: Exhausted) -> NotProduced {
        match exhausted {
            Exhausted::Steps(_) | Exhausted::Bytes(_) | Exhausted::Depth => {
                Invalid::mapping(self.trigger, &exhausted.to_string()).into()
            }
            Exhausted::Time(_) => NotProduced::Busy(format!("{}: {exhausted}", self.trigger.reference)),
        }
    }

    /// Each piece may wait for a worker; nobody waits for a thousand of them.
    fn in_time(&self) -> Result<(), NotProduced> {
        let allowed = self.limits.delivery_time;
        if self.began.elapsed() <= allowed {
            return Ok(());
        }
        Err(NotProduced::Busy(format!(
            "{}: the delivery takes longer than {} s (mapper_delivery_seconds)",
            self.trigger.reference,
            allowed.as_secs()
        )))
    }
}

/// Gives events without a key of their own this one: the second of them gets `KEY/1`, and so on.
fn give_key(events: &mut [NewEvent], key: Option<&str>) {
    let Some(key) = key else { return };
    for (index, event) in events.iter_mut().filter(|event| event.key.is_none()).enumerate() {
        event.key = match index {
            0 => Some(key.to_owned()),
            _ => storable_key(format!("{key}/{index}")),
        };
    }
}

impl Piece<'_> {
    fn text(&self) -> Bytes {
        self.whole.map_or_else(|| self.subject.payload.to_string().into(), Payload::text)
    }
}

impl Maker<'_> {
    /// Checks and maps one piece, and adds what becomes of it.
    async fn make(&mut self, piece: &Piece<'_>, produced: &mut Produced<'_>) -> Result<(), NotProduced> {
        let key = self.key_of(piece.subject, produced)?;
        let before = produced.events.len();
        self.map(piece, produced).await?;
        give_key(&mut produced.events[before..], key.as_deref());
        Ok(())
    }

    async fn map(&mut self, piece: &Piece<'_>, produced: &mut Produced<'_>) -> Result<(), NotProduced> {
        let (trigger, subject) = (self.trigger, piece.subject);
        produced.steps.enter(Step::Schema);
        trigger.schema.check(subject.payload, subject.budget).map_err(|unfit| match unfit {
            Unfit::Violates(violations) => Invalid::schema(trigger, violations).into(),
            Unfit::Exhausted(exhausted) => self.exhausted(exhausted),
        })?;
        produced.steps.enter(Step::Mapping);
        let given = Given { subject, trigger_ref: &trigger.reference, verify: &self.policy.verify };
        let made = trigger.mapping.apply(given, || piece.text()).await.map_err(|failure| match failure {
            mapping::Failure::Unmapped(reason) => NotProduced::from(Invalid::mapping(trigger, &reason)),
            mapping::Failure::Busy(reason) => NotProduced::Busy(format!("{}: {reason}", trigger.reference)),
            mapping::Failure::Exhausted(exhausted) => self.exhausted(exhausted),
        })?;
        let attributes = subject.attributes;
        match made {
            Made::TheSame => {
                self.check(|| Cow::Borrowed(subject.payload))?;
                let text = String::from_utf8_lossy(&piece.text()).into_owned();
                self.add(text, None, attributes, produced)
            }
            Made::One(mapped) => {
                // Many fields can hold the same large member: not all of it is written.
                let mut text = BoundedText::new(self.limits.event_bytes_max);
                serde_json::to_writer(&mut text, &mapped).map_err(|error| self.unwritable(&error))?;
                self.check(|| Cow::Owned(mapped.to_value()))?;
                let text = text.into_string();
                self.add(text, None, attributes, produced)
            }
            Made::Events(events) => {
                if events.is_empty() {
                    produced.notes.push(format!("{}: the mapper returned no events", trigger.reference));
                }
                for event in events {
                    // Read where there is a schema for it.
                    if let Some(value) = &event.value {
                        self.check(|| Cow::Borrowed(value))?;
                    }
                    self.add(event.payload, event.key, attributes, produced)?;
                }
                Ok(())
            }
            Made::Skipped(reason) => {
                produced.notes.push(format!("{}: skipped by the mapper: {reason}", trigger.reference));
                Ok(())
            }
        }
    }

    /// Whether a mapped event is what the pack says it is.
    fn check<'v>(&self, event: impl FnOnce() -> Cow<'v, Value>) -> Result<(), NotProduced> {
        let Some(schema) = &self.trigger.event_schema else { return Ok(()) };
        schema.check(&event(), self.limits.budget).map_err(|unfit| match unfit {
            Unfit::Violates(violations) => {
                let reason = format!("the mapped event breaks `event_schema`: {}", told(&violations));
                Invalid { violations, ..Invalid::mapping(self.trigger, &reason) }.into()
            }
            Unfit::Exhausted(exhausted) => self.exhausted(exhausted),
        })
    }

    /// Adds an event, within the limits of size and number.
    fn add(
        &mut self,
        payload: String,
        key: Option<String>,
        attributes: &Attributes,
        produced: &mut Produced<'_>,
    ) -> Result<(), NotProduced> {
        let Limits { events_max, event_bytes_max, delivery_bytes_max, .. } = self.limits;
        let invalid = |reason: String| Err(Invalid::mapping(self.trigger, &reason).into());
        // Attributes come from the body, and with each of its members again.
        let said = attributes.iter().map(|(name, text)| name.len() + text.len());
        let found = payload.len() + said.sum::<usize>();
        if found > event_bytes_max {
            return invalid(format!(
                "the event has {found} bytes, {event_bytes_max} are allowed (event_bytes_max)"
            ));
        }
        let Some(left) = self.bytes_left.checked_sub(found) else {
            return invalid(format!(
                "the events have more than the {delivery_bytes_max} bytes that are allowed (delivery_bytes_max)"
            ));
        };
        let Some(events_left) = self.events_left.checked_sub(1) else {
            return invalid(format!(
                "these are more than the {events_max} events that are allowed (events_per_delivery_max)"
            ));
        };
        (self.bytes_left, self.events_left) = (left, events_left);
        let metadata = metadata(self.policy, self.trigger, self.request, attributes);
        let metadata = serde_json::to_string(&metadata).map_err(|error| self.unwritable(&error))?;
        produced.events.push(NewEvent {
            id: Uuid::now_v7(),
            pack_ref: self.trigger.pack_ref.clone(),
            pack_version: self.trigger.pack_version.clone(),
            pack_hash: self.trigger.pack_hash,
            trigger_ref: self.trigger.reference.clone(),
            key: key.and_then(storable_key),
            key_window: self.trigger.policy.event_key_window(),
            payload,
            metadata,
        });
        Ok(())
    }

    fn unwritable(&self, error: &serde_json::Error) -> Invalid {
        if error.is_io() {
            let bytes_max = self.limits.event_bytes_max;
            let reason =
                format!("the event has more than the {bytes_max} bytes that are allowed (event_bytes_max)");
            return Invalid::mapping(self.trigger, &reason);
        }
        Invalid::mapping(self.trigger, &format!("the event can't be written: {error}"))
    }
}

/// What is known of the request beside its payload.
#[derive(Serialize)]
struct Metadata<'a> {
    source: &'static str,
    request_id: Uuid,
    received_at: String,
    source_ip: IpAddr,
    user_agent: Option<String>,
    headers: BTreeMap<&'a str, String>,
    /// Of a CloudEvent.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    attributes: &'a Attributes,
}

fn metadata<'a>(
    policy: &'a Policy,
    trigger: &'a Trigger,
    request: &'a Inbound,
    attributes: &'a Attributes,
) -> Metadata<'a> {
    let always = [&header::CONTENT_TYPE, &header::USER_AGENT].into_iter();
    let names = always.chain(&policy.keep_headers).chain(&trigger.policy.keep_headers);
    Metadata {
        source: "webhook",
        request_id: request.id,
        received_at: request.received_at_text(),
        source_ip: request.source_ip,
        user_agent: request.user_agent().map(|line| without_key(&line, &request.path)),
        headers: names
            .filter_map(|name| {
                Some((name.as_str(), without_key(&request.first_header(name)?, &request.path)))
            })
            .collect(),
        attributes,
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

impl From<Invalid> for NotProduced {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl NotProduced {
    fn at(self, place: Place) -> Self {
        match (self, place) {
            (Self::Invalid(invalid), Place::Line(_) | Place::Member(_)) => {
                let detail = format!("{place}: {}", invalid.detail);
                Self::Invalid(Invalid { place, detail, ..invalid })
            }
            (other, _) => other,
        }
    }

    fn of_member(self, index: usize) -> Self {
        match self {
            Self::Invalid(invalid) => {
                let detail = format!("member {index} of `split`: {}", invalid.detail);
                Self::Invalid(Invalid { detail, ..invalid })
            }
            Self::Busy(reason) => Self::Busy(reason),
            Self::KeyMissing => Self::KeyMissing,
        }
    }
}

impl Invalid {
    fn schema(trigger: &Trigger, violations: Vec<Violation>) -> Self {
        let detail = format!("{}: {}", trigger.reference, told(&violations));
        Self { outcome: Outcome::SchemaViolation, place: Place::Whole, detail, violations }
    }

    fn mapping(trigger: &Trigger, reason: &str) -> Self {
        let detail = format!("{}: {reason}", trigger.reference);
        Self { outcome: Outcome::MappingFailed, place: Place::Whole, detail, violations: Vec::new() }
    }

    pub(super) fn refusal(self) -> Refusal {
        let whose = self.place.to_string();
        match self.outcome {
            Outcome::SchemaViolation => Refusal::violations(&whose, self.detail, self.violations),
            _ => Refusal::unmapped(&whose, self.detail, self.violations),
        }
    }

    pub(super) fn quarantined(
        self,
        trigger: &Trigger,
        policy: &Policy,
        request: &Inbound,
        key: Option<String>,
    ) -> Quarantined {
        let Raw { path, query, headers, body } = raw(policy, request);
        let (id, trigger_ref) = (Uuid::now_v7(), trigger.reference.clone());
        Quarantined {
            id,
            trigger_ref,
            cause: self.outcome,
            detail: self.detail,
            path,
            query,
            headers,
            body,
            key,
        }
    }
}

/// A request as it is kept: all of it but its credentials, of which the names stay. (A token in the body was taken out
/// before.)
pub(super) fn raw(policy: &Policy, request: &Inbound) -> Raw {
    let token = policy.verify.token_place();
    let is_secret = |name: &str| is_secret_header(name) || token.is_some_and(|place| place.is_header(name));
    let value = |name: &str, line: &[u8]| {
        if is_secret(name) {
            HIDDEN.to_owned()
        } else {
            without_key(&String::from_utf8_lossy(line), &request.path)
        }
    };
    let headers = request.headers.iter();
    let headers: Vec<Value> =
        headers.map(|(name, line)| json!([name.as_str(), value(name.as_str(), line.as_bytes())])).collect();
    let query = request.query.as_deref().map(|query| match token {
        Some(signature::Place::Query(name)) => without_parameter(query, name),
        _ => query.to_owned(),
    });
    Raw {
        path: path_without_key(&request.path),
        query: query.map(|query| without_key(&query, &request.path)).filter(|query| !query.is_empty()),
        headers: Value::Array(headers).to_string(),
        body: request.body.clone(),
    }
}

/// A query without every parameter of this name.
fn without_parameter(query: &str, name: &str) -> String {
    let is_other =
        |pair: &&str| form::pairs(pair.as_bytes()).next().is_none_or(|(own, _)| own != name.as_bytes());
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}
