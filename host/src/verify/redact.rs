//! Takes the token out of a body that showed it: a sender's secret is no part of an event.

use std::{borrow::Cow, collections::HashSet};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;

use super::{Verify, signature::Place};
use crate::{
    budget::{Budget, Exhausted},
    form, json,
    request::Inbound,
    selector::JsonPath,
};

/// What stands for a token in what is kept; for one that is a number, 0.
pub(super) const REDACTED: &str = "[redacted]";

impl Verify {
    /// The body without the token, where the declaration says that it lies there; `None` where it holds none.
    pub fn body_without_token(&self, request: &Inbound, budget: &Budget) -> Result<Option<Bytes>, Exhausted> {
        let body = &request.body;
        Ok(match self.token_place() {
            Some(Place::Json(path)) => match json::parse(body) {
                Ok(document) => {
                    let redacted = without(&document, path, self.each(), budget)?;
                    redacted.map(|document| document.to_string().into())
                }
                Err(_) => None,
            },
            Some(Place::Form(name)) => Some(form_without(body, name, |_| REDACTED.to_owned())),
            Some(Place::FormJson(member)) => Some(form_without(body, &member.field, |text| {
                let document = json::parse(text).ok();
                let redacted = document.and_then(|document| without_one(&document, &member.path));
                redacted.map_or_else(|| REDACTED.to_owned(), |document| document.to_string())
            })),
            Some(Place::Header(_) | Place::Headers(_) | Place::HeaderGlob { .. } | Place::Query(_))
            | None => None,
        })
    }

    fn each(&self) -> Option<&JsonPath> {
        match self {
            Self::Nothing => None,
            Self::Declared(declared) => declared.each.as_ref(),
        }
    }
}

/// A document whose token, or the token of each item, is replaced; `None` where there is none.
fn without(
    document: &Value,
    path: &JsonPath,
    each: Option<&JsonPath>,
    budget: &Budget,
) -> Result<Option<Value>, Exhausted> {
    let Some(each) = each else { return Ok(without_one(document, path)) };
    let items = each.all(document, budget)?;
    let tokens: HashSet<*const Value> =
        items.into_iter().filter_map(|item| path.value(item)).map(std::ptr::from_ref).collect();
    Ok((!tokens.is_empty()).then(|| replaced(document, &tokens)))
}

fn without_one(document: &Value, path: &JsonPath) -> Option<Value> {
    let token = path.value(document)?;
    Some(replaced(document, &HashSet::from([std::ptr::from_ref(token)])))
}

fn replaced(value: &Value, tokens: &HashSet<*const Value>) -> Value {
    match value {
        own if tokens.contains(&std::ptr::from_ref(own)) => match own {
            Value::Number(_) => 0.into(),
            _ => REDACTED.into(),
        },
        Value::Array(items) => items.iter().map(|item| replaced(item, tokens)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), replaced(member, tokens))).collect()
        }
        other => other.clone(),
    }
}

/// A form in which every field of this name has another value; the others stay as they were sent.
fn form_without(body: &[u8], field: &str, value: impl Fn(&[u8]) -> String) -> Bytes {
    let fields = body.split(|byte| *byte == b'&').map(|own| match form::pairs(own).next() {
        Some((name, text)) if name == field.as_bytes() => {
            let name = percent_encode(field.as_bytes(), NON_ALPHANUMERIC);
            let text = value(&text);
            Cow::Owned(format!("{name}={}", percent_encode(text.as_bytes(), NON_ALPHANUMERIC)).into_bytes())
        }
        _ => Cow::Borrowed(own),
    });
    fields.collect::<Vec<_>>().join(&b'&').into()
}
