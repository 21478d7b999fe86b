//! CloudEvents 1.0 over HTTP: attributes in headers (binary), one document (structured), a list of them (batched).
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode;
use serde_json::Value;

use super::{Limits, Payload, Place, Undecodable, content_type::document_of, document::Document};
use crate::{request::Attributes, selector::is_attribute_name};

/// What every event has.
const REQUIRED: [HeaderName; 4] = [
    HeaderName::from_static("ce-specversion"),
    HeaderName::from_static("ce-id"),
    HeaderName::from_static("ce-source"),
    HeaderName::from_static("ce-type"),
];
const PREFIX: &str = "ce-";

/// Whether a header says that the request is an event in binary mode.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    REQUIRED.iter().any(|name| headers.contains_key(name))
}

/// The attributes of an event in binary mode; none when no header says that the request is one.
pub(super) fn of_headers(headers: &HeaderMap) -> Result<Attributes, String> {
    if !is_binary(headers) {
        return Ok(Attributes::new());
    }
    let mut attributes = Attributes::new();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        // `ce-a-b` is a header of somebody else: no attribute can have that name.
        if is_attribute_name(attribute) && attribute != CONTENT_TYPE {
            attributes.insert(attribute.to_owned(), header_text(headers, name)?);
        }
    }
    if headers.contains_key(header::CONTENT_TYPE) {
        attributes.insert(CONTENT_TYPE.to_owned(), header_text(headers, &header::CONTENT_TYPE)?);
    }
    complete(attributes)
}

/// In binary mode the Content-Type is this attribute's only place.
const CONTENT_TYPE: &str = "datacontenttype";

/// A header's only line: unquoted, then percent-decoded once.
fn header_text(headers: &HeaderMap, name: &HeaderName) -> Result<String, String> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(format!("the header {name} of the CloudEvent stands twice"));
    };
    let text = if *name == header::CONTENT_TYPE { line.as_bytes().to_vec() } else { decoded(line) };
    String::from_utf8(text).map_err(|_| format!("the header {name} of the CloudEvent is not UTF-8"))
}

fn decoded(line: &HeaderValue) -> Vec<u8> {
    let text = line.as_bytes();
    let Some(quoted) = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) else {
        return percent_decode(text).collect();
    };
    let mut bytes = quoted.iter();
    let mut unquoted = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte };
        unquoted.push(*byte);
    }
    percent_decode(&unquoted).collect()
}

/// Each event of a batch.
pub(super) fn batch(document: Value, limits: Limits) -> Result<Vec<Payload>, Undecodable> {
    let Value::Array(events) = document else {
        return Err(Undecodable::Broken("a batch of CloudEvents is a JSON list".to_owned()));
    };
    if events.len() > limits.payloads_max {
        return Err(Undecodable::TooManyPayloads);
    }
    let events = events.into_iter().enumerate();
    events.map(|(index, event)| payload(event, Place::Member(index), limits)).collect()
}

/// The data of an event, with its attributes.
pub(super) fn payload(event: Value, place: Place, limits: Limits) -> Result<Payload, Undecodable> {
    let payload = read(event, place, limits.form_fields_max);
    payload.map_err(|reason| match place {
        Place::Whole => Undecodable::Broken(reason),
        Place::Line(_) | Place::Member(_) => Undecodable::Broken(format!("{place}: {reason}")),
    })
}

fn read(event: Value, place: Place, form_fields_max: usize) -> Result<Payload, String> {
    let Value::Object(members) = event else { return Err("a CloudEvent is a JSON object".to_owned()) };
    let (mut attributes, mut data, mut data_base64) = (Attributes::new(), None, None);
    for (name, value) in members {
        match (name.as_str(), value) {
            ("data", value) => data = Some(value),
            (_, Value::Null) => {}
            ("data_base64", Value::String(text)) => data_base64 = Some(text),
            ("data_base64", _) => return Err("`data_base64` of the CloudEvent is not a string".to_owned()),
            (_, value) if is_attribute_name(&name) => {
                let text =
                    text_of(&value).ok_or_else(|| format!("the attribute `{name}` is not a single value"))?;
                attributes.insert(name, text);
            }
            _ => {
                return Err(format!(
                    "`{name}` can't be an attribute of a CloudEvent: those have a-z and 0-9 only"
                ));
            }
        }
    }
    let attributes = complete(attributes)?;
    let (value, sent) = match (data, data_base64) {
        (Some(_), Some(_)) => return Err("the CloudEvent has `data` and `data_base64`".to_owned()),
        (data, None) => (data.unwrap_or_default(), None),
        (None, Some(text)) => data_of(&text, attributes.get(CONTENT_TYPE), form_fields_max)?,
    };
    Ok(Payload { value, attributes, place, sent })
}

/// In text, as it would stand in a header: an attribute is the same whichever way an event is sent.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Bytes are what they would be as a body of that content type.
fn data_of(
    text: &str,
    content_type: Option<&String>,
    form_fields_max: usize,
) -> Result<(Value, Option<Bytes>), String> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let Ok(bytes) = BASE64.decode(text) else {
        return Err("`data_base64` of the CloudEvent is not base64".to_owned());
    };
    let document = content_type.map_or(Ok(Document::Bytes), |content_type| document_of(content_type))?;
    let data = document.read(bytes.into(), form_fields_max);
    data.map_err(|reason| format!("`data_base64` of the CloudEvent: {reason}"))
}

/// Whether it is a CloudEvent of the version that is understood here.
fn complete(attributes: Attributes) -> Result<Attributes, String> {
    for name in REQUIRED {
        let name = &name.as_str()[PREFIX.len()..];
        match attributes.get(name).map(String::as_str) {
            None | Some("") => return Err(format!("the CloudEvent has no `{name}`")),
            Some(version) if name == "specversion" && version != "1.0" => {
                let version: String = version.chars().take(20).collect();
                return Err(format!("the CloudEvent's `specversion` is `{version}`; send 1.0"));
            }
            Some(_) => {}
        }
    }
    // Not allowed by the specification, and a NUL couldn't be stored in the metadata.
    match attributes.iter().find(|(_, text)| text.contains(char::is_control)) {
        Some((name, _)) => Err(format!("the attribute `{name}` has a control character")),
        None => Ok(attributes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::tests::post;

    const LIMITS: Limits = Limits { bytes_max: 1000, payloads_max: 3, form_fields_max: 3 };

    fn binary(more: &[(&str, &str)]) -> Result<Attributes, String> {
        let known = [("ce-specversion", "1.0"), ("ce-id", "A1"), ("ce-source", "/shop"), ("ce-type", "paid")];
        let mut headers = HeaderMap::new();
        for (name, value) in known.into_iter().chain(more.iter().copied()) {
            let name: HeaderName = name.parse().unwrap();
            if value.is_empty() {
                headers.remove(name);
            } else {
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
        of_headers(&headers)
    }

    fn structured(more: &Value) -> Result<Payload, String> {
        let mut event = json!({"specversion": "1.0", "id": "A1", "source": "/shop", "type": "paid"});
        for (name, value) in more.as_object().unwrap() {
            event[name] = value.clone();
        }
        read(event, Place::Whole, 3)
    }

    #[test]
    fn attributes_in_headers_are_unquoted_and_decoded_once() {
        let got = binary(&[
            ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("ce-a", "\"x \\\"y\\\" \\\\ %41\""),
            ("ce-b", "%2541%zz"),
            ("ce-c", "é"),
            ("ce-not-one", "x"),
            ("ce-datacontenttype", "text/x-lie"),
            ("content-type", "application/json;x=%41"),
            ("other", "x"),
        ]);
        let expected = [
            ("a", "x \"y\" \\ A"),
            ("b", "%41%zz"),
            ("c", "é"),
            ("datacontenttype", "application/json;x=%41"),
            ("id", "A1"),
            ("source", "/shop"),
            ("specversion", "1.0"),
            ("subject", "Euro € 😀"),
            ("type", "paid"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(got.unwrap().into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(of_headers(&post(&[("ce-subject", "x")], "").headers), Ok(Attributes::new()));
    }

    #[test]
    fn an_incomplete_event_says_what_it_lacks() {
        for (more, named) in [
            (("ce-id", ""), "no `id`"),
            (("ce-specversion", ""), "no `specversion`"),
            (("ce-type", "again"), "ce-type of the CloudEvent stands twice"),
            (("ce-subject", "%ff"), "ce-subject of the CloudEvent is not UTF-8"),
            (("ce-subject", "a%00"), "`subject` has a control character"),
        ] {
            let error = binary(&[more]).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for (more, named) in [
            (json!({"id": null}), "no `id`"),
            (json!({"source": ""}), "no `source`"),
            (json!({"specversion": "0.3"}), "`0.3`"),
            (json!({"subject": "\0"}), "`subject` has a control character"),
            (json!({"type": {}}), "`type` is not a single value"),
            (json!({"fooBar": 1}), "`fooBar`"),
            (json!({"data": 1, "data_base64": "AA=="}), "`data` and `data_base64`"),
            (json!({"data_base64": 1}), "not a string"),
            (json!({"data_base64": "%"}), "not base64"),
            (json!({"data_base64": "AA==", "datacontenttype": "application/json"}), "not valid JSON"),
            (json!({"data_base64": "AA==", "datacontenttype": "text/plain; charset=x"}), "charset `x`"),
        ] {
            let error = structured(&more).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for event in [json!([]), json!("x"), Value::Null] {
            assert!(read(event, Place::Whole, 3).is_err());
        }
    }

    #[test]
    fn the_data_is_what_it_would_be_as_a_body() {
        for (more, expected) in [
            (json!({}), Value::Null),
            (json!({"data": null}), Value::Null),
            (json!({"data": {"n": 1}, "subject": null}), json!({"n": 1})),
            (json!({"data": "<a/>", "datacontenttype": "text/xml"}), json!("<a/>")),
            (json!({"data_base64": "eyJuIjoxfQ==", "datacontenttype": "application/json"}), json!({"n": 1})),
            (json!({"data_base64": "eyJuIjoxfQ", "datacontenttype": "text/html"}), json!("{\"n\":1}")),
            (json!({"data_base64": "eyJuIjoxfQ"}), json!("eyJuIjoxfQ==")),
            (json!({"data_base64": "AP8=", "datacontenttype": "application/octet-stream"}), json!("AP8=")),
        ] {
            assert_eq!(structured(&more).unwrap().value, expected, "{more}");
        }
        let payload = structured(&json!({"priority": 7, "urgent": true, "x1": "y"})).unwrap();
        for (name, text) in [("priority", "7"), ("urgent", "true"), ("x1", "y"), ("id", "A1")] {
            assert_eq!(payload.attributes[name], text);
        }
    }

    #[test]
    fn a_batch_names_the_member_that_is_wrong() {
        let event = json!({"specversion": "1.0", "id": "A1", "source": "/shop", "type": "paid"});
        let payloads = batch(json!([event, event]), LIMITS).unwrap();
        assert_eq!(
            payloads.iter().map(|payload| payload.place).collect::<Vec<_>>(),
            [Place::Member(0), Place::Member(1)]
        );
        assert!(batch(json!([]), LIMITS).unwrap().is_empty());
        let broken = |document: Value| match batch(document, LIMITS) {
            Err(Undecodable::Broken(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(broken(json!([event, {}])), "member 1 of the batch: the CloudEvent has no `specversion`");
        assert_eq!(broken(json!({})), "a batch of CloudEvents is a JSON list");
        let many = json!([event, event, event, event]);
        assert_eq!(batch(many, LIMITS).unwrap_err(), Undecodable::TooManyPayloads);
    }
}
