//! From the bytes on the wire to JSON documents, within limits.

mod cloudevents;
mod content_type;
mod document;

use std::{fmt, io::Read};

use bytes::Bytes;
use encoding_rs::{UTF_8, WINDOWS_1252};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use serde_json::Value;

use self::document::Document;
use crate::{
    budget::Budget,
    json,
    request::{Attributes, Inbound},
    selector::Subject,
};

/// How a body is written, as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    content: Content,
    compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// The body is the payload; it may be the data of a CloudEvent whose attributes are headers.
    Document(Document),
    /// NDJSON: each line is a payload.
    Lines,
    /// A CloudEvent in JSON: its data is the payload.
    CloudEvent,
    /// A list of them.
    CloudEvents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Identity,
    Gzip,
    Deflate,
}

/// What a body may take, once decoded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the inflated body.
    pub bytes_max: usize,
    /// Of a batch.
    pub payloads_max: usize,
    pub form_fields_max: usize,
}

/// A decoded body.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub shape: Shape,
    pub payloads: Vec<Payload>,
    /// The bytes that they were read from, inflated.
    pub body: Bytes,
}

/// What a body consists of; its content type says so, not the number of its payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    Lines,
    CloudEvents,
}

#[derive(Clone, Debug)]
pub struct Payload {
    pub value: Value,
    pub attributes: Attributes,
    /// Where in the body it stands, when it isn't all of it.
    pub place: Place,
    /// JSON in UTF-8 as it was sent, when it was sent as JSON.
    sent: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Whole,
    /// Counted from 1, with the empty ones.
    Line(usize),
    /// Of a batch, counted from 0 as in a JSON Pointer.
    Member(usize),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// The inflated body would pass the limit.
    TooLarge,
    TooManyPayloads,
    Broken(String),
}

impl Coding {
    /// What the headers declare; the error is for the sender.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        Ok(Self {
            content: content_type::content_of(headers)?,
            compression: content_type::compression_of(headers)?,
        })
    }

    /// Whether what is decoded is, or is made of, the very document that the raw bytes are as JSON.
    pub fn is_json(self) -> bool {
        let of_json = match self.content {
            Content::Document(document) => document.is_json(),
            Content::CloudEvent | Content::CloudEvents => true,
            Content::Lines => false,
        };
        of_json && self.compression == Compression::Identity
    }

    /// Whether what is decoded is made of the very fields that the raw bytes are as a form in UTF-8.
    pub fn is_form(self) -> bool {
        self.is_utf8_form() && self.compression == Compression::Identity
    }

    /// How many bytes a body of so many may be once it is inflated.
    pub fn bytes_max(self, length: usize, bytes_max: usize) -> usize {
        match self.compression {
            Compression::Identity => length,
            Compression::Gzip | Compression::Deflate => {
                length.saturating_mul(DEFLATE_RATIO_MAX).min(bytes_max)
            }
        }
    }

    pub fn decode(self, request: &Inbound, limits: Limits) -> Result<Decoded, Undecodable> {
        let body = self.compression.inflated(&request.body, limits.bytes_max)?;
        let (shape, payloads) = match self.content {
            // Everything is in the headers (Google's push notifications): nothing says that there is a document.
            _ if request.body.is_empty() && !request.headers.contains_key(header::CONTENT_TYPE) => {
                let attributes = cloudevents::of_headers(&request.headers)?;
                (
                    Shape::One,
                    vec![Payload { value: Value::Null, attributes, place: Place::Whole, sent: None }],
                )
            }
            Content::Document(document) => {
                let attributes = cloudevents::of_headers(&request.headers)?;
                let (value, sent) = document.read(body.clone(), limits.form_fields_max)?;
                (Shape::One, vec![Payload { value, attributes, place: Place::Whole, sent }])
            }
            Content::Lines => {
                let attributes = cloudevents::of_headers(&request.headers)?;
                (Shape::Lines, lines(&body, &attributes, limits.payloads_max)?)
            }
            Content::CloudEvent => {
                let event = document::json(&body)?;
                (Shape::One, vec![cloudevents::payload(event, Place::Whole, limits)?])
            }
            Content::CloudEvents => (Shape::CloudEvents, cloudevents::batch(document::json(&body)?, limits)?),
        };
        Ok(Decoded { shape, payloads, body })
    }

    /// Whether the body is inflated before it is read.
    pub fn is_compressed(self) -> bool {
        self.compression != Compression::Identity
    }

    /// Whether it is read as a form, in any charset, also one that is compressed.
    pub fn reads_form(self) -> bool {
        matches!(self.content, Content::Document(Document::Form(_)))
    }

    /// Whether it is read as a form in UTF-8.
    pub fn is_utf8_form(self) -> bool {
        matches!(self.content, Content::Document(document) if document.is_form())
    }

    /// Whether it is read as a string or as bytes, in which no member can be found. Plain text may be JSON all the same.
    pub fn reads_text(self) -> bool {
        matches!(
            self.content,
            Content::Document(Document::PlainText(_) | Document::Text(_) | Document::Bytes)
        )
    }

    /// Whether it is read as CloudEvents in JSON, one or a list of them.
    pub fn reads_cloud_events(self) -> bool {
        matches!(self.content, Content::CloudEvent | Content::CloudEvents)
    }

    /// The document that these bytes are whatever charset or kind of batch the headers make of them; `None` where the
    /// payload is that very document, or where there is no such document.
    pub fn own_document(self, decoded: &Decoded, form_fields_max: usize) -> Option<Value> {
        match self.content {
            Content::Document(Document::Form(charset)) if charset != UTF_8 => {
                let read = |charset| Document::Form(charset).read(decoded.body.clone(), form_fields_max);
                read(UTF_8).or_else(|_| read(WINDOWS_1252)).ok().map(|(value, _)| value)
            }
            Content::Document(_) => None,
            Content::Lines => match decoded.payloads.as_slice() {
                [only] => Some(only.value.clone()),
                _ => None,
            },
            Content::CloudEvent | Content::CloudEvents => document::json(&decoded.body).ok(),
        }
    }
}

impl Decoded {
    /// The same with JSON in the place of these fields' texts; the error names the field whose text is none.
    pub fn with_json_fields(mut self, names: &[String]) -> Result<Self, Undecodable> {
        for payload in &mut self.payloads {
            let Value::Object(fields) = &mut payload.value else { continue };
            for name in names {
                let Some(Value::String(text)) = fields.get(name) else { continue };
                let value = json::parse(text.as_bytes()).map_err(|error| {
                    format!("the field `{}` is not valid JSON: {error}", name.escape_debug())
                })?;
                fields.insert(name.clone(), value);
            }
        }
        Ok(self)
    }
}

/// Whether headers make a CloudEvent of the body.
pub fn has_event_headers(headers: &HeaderMap) -> bool {
    cloudevents::is_binary(headers)
}

/// The CloudEvents that a JSON document is, one or a list of them; none where it is something else.
pub fn cloud_events_of(document: &Value, limits: Limits) -> Vec<Payload> {
    let has_version = |event: &Value| event.get("specversion").is_some();
    match document {
        Value::Object(_) if has_version(document) => {
            cloudevents::payload(document.clone(), Place::Whole, limits).into_iter().collect()
        }
        Value::Array(events) if events.first().is_some_and(has_version) => {
            cloudevents::batch(document.clone(), limits).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// One byte of deflate stands for no more.
const DEFLATE_RATIO_MAX: usize = 1032;

/// Every line that is not blank is a document.
fn lines(body: &Bytes, attributes: &Attributes, payloads_max: usize) -> Result<Vec<Payload>, Undecodable> {
    let mut payloads = Vec::new();
    let body = &document::unmarked(body);
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if payloads.len() >= payloads_max {
            return Err(Undecodable::TooManyPayloads);
        }
        let number = index + 1;
        let value = json::parse(line).map_err(|error| {
            let error = error.replace("line 1 column", "column");
            Undecodable::Broken(format!("line {number} is not valid JSON: {error}"))
        })?;
        let (attributes, place) = (attributes.clone(), Place::Line(number));
        payloads.push(Payload { value, attributes, place, sent: Some(body.slice_ref(line)) });
    }
    Ok(payloads)
}

impl Payload {
    /// What selectors look at.
    pub fn subject<'a>(&'a self, request: &'a Inbound, budget: &'a Budget) -> Subject<'a> {
        Subject { request, attributes: &self.attributes, payload: &self.value, budget }
    }

    /// The document's very text: what is stored when nothing is mapped, and what a mapper is given.
    pub fn text(&self) -> Bytes {
        self.sent.clone().unwrap_or_else(|| self.value.to_string().into())
    }
}

impl Shape {
    /// Whether each payload stands for itself, however many there are.
    pub fn is_batch(self) -> bool {
        self != Self::One
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the payload"),
            Self::Line(number) => write!(f, "line {number}"),
            Self::Member(index) => write!(f, "member {index} of the batch"),
        }
    }
}

impl From<String> for Undecodable {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

impl Compression {
    fn inflated(self, body: &Bytes, bytes_max: usize) -> Result<Bytes, Undecodable> {
        match self {
            Self::Identity => Ok(body.clone()),
            Self::Gzip => inflate(MultiGzDecoder::new(&body[..]), bytes_max),
            // RFC 9110 means zlib by `deflate`; some senders leave zlib's two bytes of header away.
            Self::Deflate if body.first().is_some_and(|byte| byte & 0x0f == 8) => {
                inflate(ZlibDecoder::new(&body[..]), bytes_max)
            }
            Self::Deflate => inflate(DeflateDecoder::new(&body[..]), bytes_max),
        }
    }
}

/// Never holds more than one byte past the limit, however well a bomb is packed.
fn inflate(decoder: impl Read, bytes_max: usize) -> Result<Bytes, Undecodable> {
    let mut inflated = Vec::new();
    match decoder.take(bytes_max as u64 + 1).read_to_end(&mut inflated) {
        Ok(read) if read > bytes_max => Err(Undecodable::TooLarge),
        Ok(_) => Ok(inflated.into()),
        Err(error) => Err(Undecodable::Broken(format!("the compressed body is damaged: {error}"))),
    }
}

#[cfg(test)]
mod tests;
