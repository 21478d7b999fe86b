//! Mapping: from the decoded payload to the event's payload.

pub mod fields;
pub mod template;

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

impl Mapping {
    /// The event's payload; `None` when it is the payload as it came.
    pub fn apply(
        &self,
        request: &Inbound,
        payload: &Value,
        trigger_ref: &str,
    ) -> Result<Option<Value>, Unmapped> {
        match self {
            Self::Nothing => Ok(None),
            Self::Fields(tree) => tree.map(request, payload).map(Some),
            Self::Template(template) => template.render(request, payload, trigger_ref).map(Some),
        }
    }
}
