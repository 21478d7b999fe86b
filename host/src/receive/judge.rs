//! The checks that need no host: is it authentic, what does it say, what becomes of it. `pack test` runs these too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use super::{
    Refusal,
    events::{Maker, NotProduced, Produced},
    reading::{self, Reading},
};
use crate::{
    budget::{Budget, Exhausted},
    config::Config,
    decode::{self, Coding, Decoded, Place, Shape, Undecodable},
    matching::Line,
    model::{NewEvent, Quarantined},
    pack::Trigger,
    policy::{Idempotency, KeySource, OnInvalid, Policy},
    registry::Target,
    request::Inbound,
    secret::{SecretValue, Secrets},
    selector::{Selector, Subject},
    steps::{Step, Steps},
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
    /// The delivery's; events of a batch may have their own.
    pub key: Option<String>,
    /// Whether the body was a batch, of however many.
    pub is_batch: bool,
    /// Why nothing is stored, or what is odd about what is.
    notes: Vec<String>,
}

impl Judged {
    /// Whether the delivery is kept for this trigger instead of its events.
    fn keeps(&self, trigger: &Trigger) -> bool {
        self.quarantined.iter().any(|quarantined| quarantined.trigger_ref == trigger.reference)
    }

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
pub struct Limits<'a> {
    pub form_fields_max: usize,
    pub events_max: usize,
    pub event_bytes_max: usize,
    pub delivery_bytes_max: usize,
    pub delivery_time: Duration,
    /// The request's own, of which its verification has spent a part.
    pub budget: &'a Budget,
}

impl<'a> Limits<'a> {
    pub fn of(config: &Config, budget: &'a Budget) -> Self {
        Self {
            form_fields_max: config.form_fields_max,
            events_max: config.events_per_delivery_max,
            event_bytes_max: config.event_bytes_max,
            delivery_bytes_max: config.delivery_bytes_max,
            delivery_time: Duration::from_secs(config.mapper_delivery_seconds),
            budget,
        }
    }
}

/// Whether the body has to be read to tell if the request is a handshake, as far as its head says.
pub fn handshake_reads_body(target: &Target, request: &Inbound) -> bool {
    let handshakes = &target.policy().handshakes;
    handshakes.iter().any(|handshake| handshake.fits_head(request) && handshake.reads_body())
}

/// The answer to the first handshake that the request is. Without the body the ones that lie in it are passed over.
pub fn handshake(
    target: &Target,
    request: &Inbound,
    has_body: bool,
    public_url: &str,
    known: &Secrets,
    now: OffsetDateTime,
    budget: &Budget,
) -> Result<Option<Shaken>, Refusal> {
    let policy = target.policy();
    if policy.handshakes.is_empty() {
        return Ok(None);
    }
    let _timed = budget.timed();
    let secrets = known.of(&policy.secrets);
    let seen = Seen::new(request, public_url, budget);
    for handshake in policy.handshakes.iter().filter(|handshake| has_body || !handshake.reads_body()) {
        let shaken = handshake.shake(&seen, &policy.verify, &secrets, known, now);
        if let Some(shaken) = shaken.map_err(|Rejected(status)| Refusal::handshake(status))? {
            return Ok(Some(shaken));
        }
    }
    Ok(None)
}

/// What has to be fetched before the request can be checked.
pub fn wanted(
    target: &Target,
    request: &Inbound,
    public_url: &str,
    budget: &Budget,
) -> Result<Option<String>, Refusal> {
    let _timed = budget.timed();
    target.policy().verify.wanted(&Seen::new(request, public_url, budget)).map_err(Refusal::unverified)
}

/// Signature and freshness, over the raw bytes; `fetched` is what was wanted.
pub fn authenticate(
    target: &Target,
    request: &Inbound,
    public_url: &str,
    fetched: Option<&str>,
    secrets: &[SecretValue],
    now: OffsetDateTime,
    budget: &Budget,
) -> Result<(), Refusal> {
    let _timed = budget.timed();
    let verify = &target.policy().verify;
    reading::check(verify, request).map_err(Refusal::unverified)?;
    let seen = Seen::new(request, public_url, budget).with(fetched);
    verify.check(&seen, secrets, now).map_err(Refusal::unverified)
}

/// Decodes an authentic request and lets every trigger that a payload of it matches make its events: all or none.
pub async fn judge(
    target: &Target,
    request: &Inbound,
    coding: Coding,
    limits: Limits<'_>,
    steps: &mut Steps,
) -> Result<Judged, Refusal> {
    judge_for(target.policy(), target.triggers(), None, request, coding, limits, steps).await
}

/// The same for these triggers; with `on_invalid` it is not up to them what becomes of a payload that they can't use.
pub(super) async fn judge_for(
    policy: &Policy,
    triggers: &[Arc<Trigger>],
    on_invalid: Option<OnInvalid>,
    request: &Inbound,
    coding: Coding,
    limits: Limits<'_>,
    steps: &mut Steps,
) -> Result<Judged, Refusal> {
    limits.budget.allow_for_body(request.body.len());
    let _timed = limits.budget.timed();
    steps.enter(Step::Decode);
    let decoded = decoded(coding, request, policy, limits)?;
    let mut judged = Judged { is_batch: decoded.shape.is_batch(), ..Judged::default() };
    let mut produced = Produced::new(steps);
    let mut unmatched = Unmatched::default();
    let reading = Reading::of(policy, coding, request, &decoded, limits)?;
    let mut keys = Keys::of(policy, request, reading, decoded.shape, limits.budget)?;
    let began = Instant::now();
    let mut makers: Vec<_> =
        triggers.iter().map(|trigger| Maker::new(trigger, policy, request, limits, began)).collect();
    for payload in &decoded.payloads {
        produced.steps.enter(Step::Match);
        let subject = payload.subject(request, limits.budget);
        let (matching, unmet) = matching(&mut makers, subject);
        if matching.is_empty() {
            unmatched.add(payload.place, unmet);
            continue;
        }
        let key = keys.key_of(subject)?;
        for Matching { maker, exhausted } in matching {
            // Kept whole already: with everything that it would be part of.
            if judged.keeps(maker.trigger) {
                continue;
            }
            let made = match exhausted {
                Some(exhausted) => Err(maker.exhausted(exhausted)),
                None => maker.produce(payload, key.as_deref(), &mut produced).await,
            };
            match made {
                Ok(()) => {}
                Err(NotProduced::Busy(reason)) => return Err(Refusal::mapper_busy(reason)),
                Err(NotProduced::KeyMissing) => return Err(Refusal::key_missing()),
                Err(NotProduced::Invalid(invalid)) => {
                    match on_invalid.unwrap_or(maker.trigger.policy.on_invalid) {
                        OnInvalid::Reject => return Err(invalid.refusal()),
                        OnInvalid::Quarantine => {
                            produced.events.retain(|event| event.trigger_ref != maker.trigger.reference);
                            let key = keys.of_delivery.clone();
                            judged.quarantined.push(invalid.quarantined(maker.trigger, policy, request, key));
                        }
                    }
                }
            }
        }
    }
    judged.notes = unmatched.told(decoded.payloads.len(), judged.is_batch);
    judged.notes.extend(keys.told());
    judged.notes.extend(produced.told_of_keys());
    judged.notes.extend(produced.notes);
    judged.events = produced.events;
    judged.key = keys.of_delivery;
    Ok(judged)
}

fn decoded(
    coding: Coding,
    request: &Inbound,
    policy: &Policy,
    limits: Limits<'_>,
) -> Result<Decoded, Refusal> {
    let allowed = decode::Limits {
        bytes_max: policy.body_bytes_max,
        payloads_max: limits.events_max,
        form_fields_max: limits.form_fields_max,
    };
    let decoded = coding.decode(request, allowed);
    let decoded = decoded.and_then(|decoded| match policy.json_fields.as_slice() {
        names if coding.reads_form() => decoded.with_json_fields(names),
        _ => Ok(decoded),
    });
    decoded.map_err(|error| match error {
        Undecodable::TooLarge => Refusal::inflated_too_large(allowed.bytes_max),
        Undecodable::TooManyPayloads => Refusal::too_many_payloads(allowed.payloads_max),
        Undecodable::Broken(reason) => Refusal::undecodable(reason),
    })
}

/// A trigger that a payload is for, or whose `match` could not be evaluated to its end.
struct Matching<'m, 'a> {
    maker: &'m mut Maker<'a>,
    exhausted: Option<Exhausted>,
}

/// A trigger that a payload is not for, and the first line that says so.
struct Unmet<'a>(&'a Trigger, &'a Line);

/// The triggers whose every `match` line holds, and the others.
fn matching<'m, 'a>(
    makers: &'m mut [Maker<'a>],
    subject: Subject<'_>,
) -> (Vec<Matching<'m, 'a>>, Vec<Unmet<'a>>) {
    let (mut matching, mut unmet) = (Vec::new(), Vec::new());
    for maker in makers {
        let trigger = maker.trigger;
        match trigger.matching.first_unmet(subject) {
            Ok(None) => matching.push(Matching { maker, exhausted: None }),
            Ok(Some(line)) => unmet.push(Unmet(trigger, line)),
            Err(exhausted) => matching.push(Matching { maker, exhausted: Some(exhausted) }),
        }
    }
    (matching, unmet)
}

/// Payloads that no trigger is for.
#[derive(Default)]
struct Unmatched {
    count: usize,
    /// Why not, of the first of them.
    first: Vec<String>,
}

impl Unmatched {
    fn add(&mut self, place: Place, unmet: Vec<Unmet<'_>>) {
        self.count += 1;
        if self.count > 1 {
            return;
        }
        self.first.extend(unmet.into_iter().map(|Unmet(trigger, line)| match place {
            Place::Whole => format!("{}: `{}` does not match", trigger.reference, line.text),
            Place::Line(_) | Place::Member(_) => {
                format!("{place}: {}: `{}` does not match", trigger.reference, line.text)
            }
        }));
    }

    fn told(self, of: usize, is_batch: bool) -> Vec<String> {
        let Self { count, first } = self;
        let counted = match (is_batch, of, count) {
            (true, 0, _) => Some("the batch is empty".to_owned()),
            (true, _, 1..) => Some(format!("{count} of {of} match nothing")),
            _ => None,
        };
        counted.into_iter().chain(first).collect()
    }
}

/// What tells deliveries apart, or the payloads of a batch.
struct Keys<'a> {
    rule: Option<&'a Idempotency>,
    each: bool,
    reading: Reading,
    /// Payloads that were looked at, and those that lack it.
    looked: usize,
    keyless: usize,
    of_delivery: Option<String>,
}

impl<'a> Keys<'a> {
    fn of(
        policy: &'a Policy,
        request: &Inbound,
        reading: Reading,
        shape: Shape,
        budget: &Budget,
    ) -> Result<Self, Refusal> {
        let rule = policy.idempotency.as_ref();
        let each = rule.is_some_and(|rule| rule.event_key.is_none() && is_of_each(&rule.key, shape));
        // The same bytes may come again under a content type that makes no batch of them.
        let of_delivery = match rule {
            Some(rule) if each => {
                reading.key_of_document(rule, request, budget).map_err(Refusal::exhausted)?
            }
            _ => None,
        };
        Ok(Self { rule, each, reading, looked: 0, keyless: 0, of_delivery })
    }

    /// The key of this payload's events, where each payload has its own; else the delivery's is looked for, once.
    fn key_of(&mut self, subject: Subject<'_>) -> Result<Option<String>, Refusal> {
        let is_asked = |rule: &&Idempotency| rule.tells_deliveries_apart() && (self.each || self.looked == 0);
        let Some(rule) = self.rule.filter(is_asked) else { return Ok(None) };
        let key = if self.each { rule.key_of(subject) } else { self.reading.key_of_delivery(rule, subject) };
        let key = key.map_err(Refusal::exhausted)?;
        if key.is_none() {
            self.reading.check_without_key(rule, subject)?;
            if rule.required {
                return Err(Refusal::key_missing());
            }
        }
        self.looked += 1;
        self.keyless += usize::from(key.is_none());
        if self.each {
            return Ok(key);
        }
        self.of_delivery = key;
        Ok(None)
    }

    fn told(&self) -> Option<String> {
        let Self { each, looked, keyless, .. } = self;
        match (each, keyless) {
            (_, 0) => None,
            (false, _) => Some("stored without an idempotency key: the request lacks it".to_owned()),
            (true, _) => {
                Some(format!("{keyless} of {looked} stored without an idempotency key: they lack it"))
            }
        }
    }
}

/// A payload of a batch is known by what stands in it: it may come again in another batch. What stands elsewhere in the
/// request tells whole deliveries apart.
fn is_of_each(key: &KeySource, shape: Shape) -> bool {
    match key {
        KeySource::Select(Selector::Json(_)) => shape.is_batch(),
        // Those of lines are headers.
        KeySource::Select(Selector::Attribute(_)) => shape == Shape::CloudEvents,
        KeySource::BodyDigest
        | KeySource::Nothing
        | KeySource::Select(
            Selector::Header(_) | Selector::Query(_) | Selector::Path | Selector::Method | Selector::Body,
        ) => false,
    }
}
