//! Mapping: from the decoded payload to the payloads of events.

pub mod fields;
mod mapper;
pub mod template;

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{budget::Exhausted, json, selector::Subject, verify::Verify, wasm};

#[derive(Clone, Debug)]
pub enum Mapping {
    /// The decoded payload is the event's payload.
    Nothing,
    Fields(fields::Tree),
    Template(template::Template),
    Wasm(wasm::Mapper),
}

/// What is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The request, and the decoded payload or the member of it that `split` selects.
    pub subject: Subject<'a>,
    pub trigger_ref: &'a str,
    /// How the request was verified: what a mapper is not to see.
    pub verify: &'a Verify,
}

/// What became of a payload.
#[derive(Debug)]
pub enum Made<'a> {
    /// The payload as it came.
    TheSame,
    One(Mapped<'a>),
    /// What a mapper returned; perhaps none.
    Events(Vec<wasm::Event>),
    /// A mapper found nothing to store, for this reason.
    Skipped(String),
}

/// Why nothing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Unmapped(String),
    /// Too much is waiting for mappers; the same request may succeed later.
    Busy(String),
    Exhausted(Exhausted),
}

/// Why a payload can't be mapped, in the pack author's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmapped(pub String);

/// A mapped payload: what is selected is borrowed from the request until it is written.
#[derive(Debug)]
pub enum Mapped<'a> {
    Value(Cow<'a, Value>),
    List(Vec<Mapped<'a>>),
    Object(Vec<(&'a str, Mapped<'a>)>),
}

impl Mapping {
    /// Maps one payload; `text` is its very text.
    pub async fn apply<'a>(
        &'a self,
        given: Given<'a>,
        text: impl FnOnce() -> Bytes,
    ) -> Result<Made<'a>, Failure> {
        match self {
            Self::Nothing => Ok(Made::TheSame),
            Self::Fields(tree) => Ok(Made::One(tree.map(given.subject)?)),
            Self::Template(template) => {
                let rendered = template.render(given.subject, given.trigger_ref)?;
                Ok(Made::One(Mapped::Value(Cow::Owned(rendered))))
            }
            Self::Wasm(mapper) => {
                let text = text();
                // The mapper is to see what the schema saw, whichever of two members its parser would take.
                let repeats = json::repeats_a_name(given.subject.payload, &text);
                let text = if repeats { given.subject.payload.to_string().into() } else { text };
                let delivery = mapper::delivery(&given, text);
                let transforming = mapper.transform(delivery, given.subject.request.received_at);
                match given.subject.budget.waiting(transforming).await.result {
                    Ok(wasm::Transformed::Events(events)) => Ok(Made::Events(events)),
                    Ok(wasm::Transformed::Skipped(reason)) => Ok(Made::Skipped(reason)),
                    Err(wasm::Failure::InvalidPayload(reason)) => {
                        Err(Failure::Unmapped(format!("{}: not for this mapper: {reason}", mapper.file)))
                    }
                    Err(wasm::Failure::Failed(reason)) => {
                        Err(Failure::Unmapped(format!("{}: {reason}", mapper.file)))
                    }
                    Err(wasm::Failure::Busy(reason)) => Err(Failure::Busy(reason)),
                }
            }
        }
    }
}

impl From<Unmapped> for Failure {
    fn from(Unmapped(reason): Unmapped) -> Self {
        Self::Unmapped(reason)
    }
}

impl From<Exhausted> for Failure {
    fn from(exhausted: Exhausted) -> Self {
        Self::Exhausted(exhausted)
    }
}

impl Mapped<'_> {
    /// The same as a document of its own, for a schema to look at.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Value(value) => value.clone().into_owned(),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(members) => Value::Object(
                members.iter().map(|(name, mapped)| ((*name).to_owned(), mapped.to_value())).collect(),
            ),
        }
    }
}

impl Serialize for Mapped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::List(items) => items.serialize(serializer),
            Self::Object(members) => {
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (name, mapped) in members {
                    object.serialize_entry(name, mapped)?;
                }
                object.end()
            }
        }
    }
}
