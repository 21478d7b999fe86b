//! Mapping: from the decoded payload to the event's payload.

pub mod fields;
pub mod template;

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::request::Inbound;

#[derive(Clone, Debug)]
pub enum Mapping {
    /// The decoded payload is the event's payload.
    Nothing,
    Fields(fields::Tree),
    Template(template::Template),
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
    /// The event's payload; `None` when it is the payload as it came.
    pub fn apply<'a>(
        &'a self,
        request: &'a Inbound,
        payload: &'a Value,
        trigger_ref: &str,
    ) -> Result<Option<Mapped<'a>>, Unmapped> {
        match self {
            Self::Nothing => Ok(None),
            Self::Fields(tree) => tree.map(request, payload).map(Some),
            Self::Template(template) => {
                let rendered = template.render(request, payload, trigger_ref)?;
                Ok(Some(Mapped::Value(Cow::Owned(rendered))))
            }
        }
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
