//! How a signed body may be read.
//!
//! A signature covers the bytes of a body, and rarely the headers that say how to read them: content type, charset,
//! content encoding, the `ce-*` headers of a CloudEvent. Anyone who has a signed request can send it again with other
//! headers. So the bytes themselves have a say, and one body has one idempotency key under every reading that is accepted.

use serde_json::Value;

use super::{Limits, Refusal};
use crate::{
    budget::{Budget, Exhausted},
    decode::{self, Coding, Decoded, Payload},
    policy::{Idempotency, Policy, storable_key},
    request::{Attributes, Inbound},
    selector::Subject,
    verify::{Unverified, Verify},
};

/// Where a rule looks into the body, the body must be decoded as the rule reads it: headers that are not signed must not
/// have a form taken for JSON, or JSON for a form, once it is believed.
pub(super) fn check(verify: &Verify, request: &Inbound) -> Result<(), Unverified> {
    let (json, form) = (verify.reads_json(), verify.reads_form());
    if !json && !form {
        return Ok(());
    }
    let coding = Coding::of(&request.headers).map_err(Unverified::bad)?;
    if (json && !coding.is_json()) || (form && !coding.is_form()) {
        let what = if json { "JSON" } else { "a form in UTF-8" };
        return Err(Unverified::bad(format!(
            "the signature is read from {what}, and the headers say otherwise"
        )));
    }
    Ok(())
}

/// How the idempotency key of a body is found whatever its headers say.
#[derive(Default)]
pub(super) struct Reading {
    is_signed: bool,
    is_cloud_event: bool,
    /// A form in another charset than UTF-8: anything can be read so, compressed bytes too.
    is_odd_form: bool,
    /// The document that the bytes are, where the payload is not that very document.
    document: Option<Value>,
    /// The CloudEvents that the payload would be under their content type.
    cloud_events: Vec<Payload>,
}

impl Reading {
    /// Fails where the headers read signed bytes as what they can't be.
    pub(super) fn of(
        policy: &Policy,
        coding: Coding,
        request: &Inbound,
        decoded: &Decoded,
        limits: Limits<'_>,
    ) -> Result<Self, Refusal> {
        if !policy.verify.signs_body() {
            return Ok(Self::default());
        }
        if coding.is_compressed() && begins_as_json(&request.body) {
            return Err(refused(
                "the signed bytes begin as JSON does, and the headers say that they are compressed",
            ));
        }
        if coding.reads_form() && begins_as_json(&decoded.body) {
            return Err(refused(
                "the signed bytes begin as JSON does, and the headers say that they are a form",
            ));
        }
        let allowed = decode::Limits {
            bytes_max: policy.body_bytes_max,
            payloads_max: limits.events_max,
            form_fields_max: limits.form_fields_max,
        };
        let cloud_events = |value: &Value| decode::cloud_events_of(value, allowed);
        let has_headers_of_event = decode::has_event_headers(&request.headers);
        if has_headers_of_event
            && decoded.payloads.iter().any(|payload| !cloud_events(&payload.value).is_empty())
        {
            return Err(refused("the signed body is a CloudEvent by itself, and headers make another of it"));
        }
        let Some(rule) = policy.idempotency.as_ref().filter(|rule| rule.looks_into_payload()) else {
            return Ok(Self::default());
        };
        if coding.reads_text()
            && !rule.takes_text()
            && decoded.payloads.iter().all(|payload| payload.value.is_string())
        {
            return Err(refused(
                "the idempotency key lies in a member of the signed body, and the headers say that it is text or bytes",
            ));
        }
        let is_cloud_event = coding.reads_cloud_events();
        let is_odd_form = coding.reads_form() && !coding.is_utf8_form();
        let document = coding.own_document(decoded, limits.form_fields_max);
        let cloud_events = match decoded.payloads.as_slice() {
            [only] if !is_cloud_event && !coding.reads_form() => cloud_events(&only.value),
            _ => Vec::new(),
        };
        Ok(Self { is_signed: true, is_cloud_event, is_odd_form, document, cloud_events })
    }

    /// The key in the document that the bytes are, if they are one.
    pub(super) fn key_of_document(
        &self,
        rule: &Idempotency,
        request: &Inbound,
        budget: &Budget,
    ) -> Result<Option<String>, Exhausted> {
        let none = Attributes::new();
        let Some(payload) = &self.document else { return Ok(None) };
        rule.key_of(Subject { request, attributes: &none, payload, budget })
    }

    /// The delivery's key: the same whichever way these bytes are read.
    pub(super) fn key_of_delivery(
        &self,
        rule: &Idempotency,
        subject: Subject<'_>,
    ) -> Result<Option<String>, Exhausted> {
        let Subject { request, budget, .. } = subject;
        let own = rule.key_of(subject)?;
        if !self.is_signed {
            return Ok(own);
        }
        let (envelope, data) = match (self.cloud_events.as_slice(), &self.document) {
            // JSON that could be sent as a CloudEvent.
            ([event], _) => (own, rule.key_of(event.subject(request, budget))?),
            // A CloudEvent that could be sent as JSON.
            (_, Some(_)) if self.is_cloud_event => (self.key_of_document(rule, request, budget)?, own),
            (_, Some(_)) if !rule.looks_into_headers() => return self.key_of_document(rule, request, budget),
            _ => return Ok(own),
        };
        Ok(match (envelope, data) {
            // Two members fit the rule, one under each content type: together they are the key under both.
            (Some(envelope), Some(data)) if envelope != data => storable_key(format!("{envelope}/{data}")),
            (Some(envelope), _) => Some(envelope),
            (None, data) if self.is_cloud_event => data,
            (None, _) => None,
        })
    }

    /// Fails where a request without the key would have one under another content type.
    pub(super) fn check_without_key(&self, rule: &Idempotency, subject: Subject<'_>) -> Result<(), Refusal> {
        for event in &self.cloud_events {
            let key = rule.key_of(event.subject(subject.request, subject.budget));
            if key.map_err(Refusal::exhausted)?.is_some() {
                return Err(refused(
                    "the signed body is a CloudEvent, and the headers say that it is other JSON",
                ));
            }
        }
        if self.is_odd_form {
            return Err(refused(
                "the idempotency key is missing in the signed body, and its charset is not UTF-8",
            ));
        }
        Ok(())
    }
}

/// No form and nothing compressed begins so.
fn begins_as_json(bytes: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start();
    matches!(text.first(), Some(b'{' | b'['))
}

fn refused(detail: &str) -> Refusal {
    Refusal::unverified(Unverified::bad(detail))
}
