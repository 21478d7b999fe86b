//! One document, however it is written, as JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use encoding_rs::{Encoding, UTF_8};
use serde_json::{Map, Value, map::Entry};

use crate::{form, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Json,
    /// An object of texts; or the JSON in its only field, `payload`.
    Form(&'static Encoding),
    /// A string; or JSON, which some (Amazon SNS) call plain text.
    PlainText(&'static Encoding),
    Text(&'static Encoding),
    /// A string, in base64.
    Bytes,
}

impl Document {
    /// Plain text is JSON where it can be read so, and else a string in which nothing can be found.
    pub(super) fn is_json(self) -> bool {
        match self {
            Self::Json => true,
            Self::PlainText(charset) => charset == UTF_8,
            Self::Form(_) | Self::Text(_) | Self::Bytes => false,
        }
    }

    pub(super) fn is_form(self) -> bool {
        matches!(self, Self::Form(charset) if charset == UTF_8)
    }

    /// The document, and its very text where it was sent as JSON; the error is for the sender.
    pub(super) fn read(self, body: Bytes, form_fields_max: usize) -> Result<(Value, Option<Bytes>), String> {
        match self {
            Self::Json => Ok((json(&body)?, Some(unmarked(&body)))),
            Self::PlainText(charset) => match structure(&body).filter(|_| charset == UTF_8) {
                Some(value) => Ok((value, Some(unmarked(&body)))),
                None => Self::Text(charset).read(body, form_fields_max),
            },
            Self::Text(charset) => Ok((Value::String(text(charset, &body)?), None)),
            Self::Form(charset) => fields(charset, &body, form_fields_max).map(unwrapped),
            Self::Bytes => Ok((Value::String(BASE64_STANDARD.encode(body)), None)),
        }
    }
}

/// The body as it is stored: without a byte order mark, which JSON has no place for.
pub(super) fn unmarked(body: &Bytes) -> Bytes {
    body.slice_ref(json::without_bom(body))
}

pub(super) fn json(body: &[u8]) -> Result<Value, String> {
    json::parse(json::without_bom(body)).map_err(|error| format!("the body is not valid JSON: {error}"))
}

/// An object or list of JSON, if that is what this is.
fn structure(text: &[u8]) -> Option<Value> {
    let text = json::without_bom(text);
    let is_one = matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
    is_one.then(|| json::parse(text).ok()).flatten()
}

fn text(charset: &'static Encoding, bytes: &[u8]) -> Result<String, String> {
    let text = charset.decode_without_bom_handling_and_without_replacement(bytes);
    text.map(Into::into).ok_or_else(|| format!("the body is not valid {}", charset.name()))
}

/// Texts under their names; a name that comes again has a list of them.
fn fields(charset: &'static Encoding, body: &[u8], fields_max: usize) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    for (index, (name, value)) in form::pairs(body).enumerate() {
        if index >= fields_max {
            return Err(format!(
                "the form has more than the {fields_max} fields that are allowed (form_fields_max)"
            ));
        }
        let name = text(charset, &name)?;
        if json::is_reserved(&name) {
            return Err(json::reserved());
        }
        let value = Value::String(text(charset, &value)?);
        match fields.entry(name) {
            Entry::Vacant(free) => {
                free.insert(value);
            }
            Entry::Occupied(mut taken) => match taken.get_mut() {
                Value::Array(values) => values.push(value),
                first => *first = Value::Array(vec![first.take(), value]),
            },
        }
    }
    Ok(fields)
}

/// Senders of JSON who were asked for a form (GitHub, Slack) put it into one field.
fn unwrapped(fields: Map<String, Value>) -> (Value, Option<Bytes>) {
    if fields.len() == 1
        && let Some(Value::String(text)) = fields.get("payload")
        && let Some(value) = structure(text.as_bytes())
    {
        return (value, Some(unmarked(&text.clone().into())));
    }
    (Value::Object(fields), None)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use encoding_rs::{GBK, WINDOWS_1252};
    use serde_json::json;

    use super::*;

    fn read(document: Document, body: &[u8]) -> Result<(Value, Option<String>), String> {
        let (value, sent) = document.read(Bytes::copy_from_slice(body), 5)?;
        Ok((value, sent.map(|sent| String::from_utf8(sent.to_vec()).unwrap())))
    }

    #[test]
    fn a_form_is_an_object_of_texts_or_the_json_in_its_payload() {
        for (body, expected) in [
            ("", json!({})),
            ("b=2&a=1", json!({"b": "2", "a": "1"})),
            ("a=1&b=x&a=&a=3", json!({"a": ["1", "", "3"], "b": "x"})),
            ("a+b=%C3%A9+%2B&c", json!({"a b": "é +", "c": ""})),
            ("payload=text", json!({"payload": "text"})),
            ("payload=1", json!({"payload": "1"})),
            ("payload=%7B%22a%22", json!({"payload": "{\"a\""})),
            ("payload=[1]&payload=[2]", json!({"payload": ["[1]", "[2]"]})),
            ("payload={}&x=1", json!({"payload": "{}", "x": "1"})),
        ] {
            assert_eq!(read(Document::Form(UTF_8), body.as_bytes()), Ok((expected, None)), "{body}");
        }
        let names: Vec<_> = ["b", "a"].map(str::to_owned).into();
        let (value, _) = read(Document::Form(UTF_8), b"b=1&a=2&b=3").unwrap();
        assert_eq!(value.as_object().unwrap().keys().cloned().collect::<Vec<_>>(), names, "in their order");

        let (value, sent) = read(Document::Form(UTF_8), b"payload=+%7B%22a%22:1.10,%22a%22:2%7D").unwrap();
        assert_eq!(value, json!({"a": 2}));
        assert_eq!(sent.as_deref(), Some(" {\"a\":1.10,\"a\":2}"), "as it was sent");
    }

    #[test]
    fn a_form_has_limits_and_takes_linear_time() {
        for (body, named) in [
            (&b"a=%ff"[..], "UTF-8"),
            (b"a=%C3", "UTF-8"),
            (b"\xff=1", "UTF-8"),
            (b"a&b&c&d&e&f", "more than the 5 fields"),
            (b"%24serde_json::private::Number=1", "$serde_json"),
        ] {
            let error = read(Document::Form(UTF_8), body).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let began = Instant::now();
        let one_name: String = "a=1&".repeat(500_000);
        let (value, _) = Document::Form(UTF_8).read(one_name.into(), usize::MAX).unwrap();
        assert_eq!(value["a"].as_array().unwrap().len(), 500_000);
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_text_is_a_string_in_its_charset() {
        for (document, body, expected) in [
            (Document::Text(UTF_8), "Grüße\n".as_bytes(), json!("Grüße\n")),
            (Document::Text(UTF_8), b"", json!("")),
            (Document::Text(UTF_8), "\u{feff}x".as_bytes(), json!("\u{feff}x")),
            (Document::Text(WINDOWS_1252), b"Gr\xfc\xdfe \x80", json!("Grüße €")),
            (Document::Form(WINDOWS_1252), b"a=%FC\xdf", json!({"a": "üß"})),
            (Document::Form(GBK), b"a=%C4%E3", json!({"a": "你"})),
            (Document::Text(UTF_8), b"{\"a\":1}", json!("{\"a\":1}")),
            (Document::PlainText(UTF_8), b"{\"a\":1", json!("{\"a\":1")),
            (Document::PlainText(UTF_8), b"\"a\"", json!("\"a\"")),
            (Document::PlainText(WINDOWS_1252), b"{}", json!("{}")),
            (Document::Bytes, &[0, 255, 1, 2], json!("AP8BAg==")),
        ] {
            assert_eq!(read(document, body), Ok((expected, None)), "{document:?} {body:?}");
        }
        let sent = " {\"Type\": \"Notification\", \"n\": 1.0}\n";
        assert_eq!(read(Document::PlainText(UTF_8), sent.as_bytes()).unwrap().1.as_deref(), Some(sent));
        for document in [Document::Text(UTF_8), Document::PlainText(UTF_8)] {
            assert!(read(document, b"\xfc").unwrap_err().contains("UTF-8"));
        }
        assert!(read(Document::Text(GBK), b"\x81").unwrap_err().contains("GBK"));
    }
}
