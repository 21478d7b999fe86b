//! Selectors: how any part of a request is named (`header:NAME`, `query:NAME`, `attribute:NAME`, `path`, `method`,
//! `body`, `$…`).

use std::{borrow::Cow, fmt};

use http::HeaderName;
use serde_json::Value;

pub use crate::jsonpath::JsonPath;
use crate::{
    budget::{Budget, Exhausted},
    request::{Attributes, Inbound},
};

/// What selectors look at: a request, and one payload of it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub request: &'a Inbound,
    pub attributes: &'a Attributes,
    pub payload: &'a Value,
    pub budget: &'a Budget,
}

#[derive(Clone, Debug)]
pub enum Selector {
    Header(HeaderName),
    Query(String),
    /// Of a CloudEvent.
    Attribute(String),
    Path,
    Method,
    Body,
    Json(JsonPath),
}

/// What a selector found.
#[derive(Debug, PartialEq)]
pub enum Selected<'a> {
    Nothing,
    One(Cow<'a, Value>),
    /// Of a query that can select many; perhaps none.
    Many(Vec<&'a Value>),
}

impl Selector {
    /// Whether a string is meant as a selector where it could also be plain text.
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with('$') || ["header:", "query:", "attribute:"].iter().any(|kind| text.starts_with(kind))
    }

    /// Reads a selector; the error says in the author's words what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return JsonPath::parse(text).map(Self::Json);
        }
        match text.split_once(':') {
            Some(("header", name)) => match name.parse() {
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(format!("`{name}` can't be the name of a header")),
            },
            Some(("query", "")) => Err("`query:` needs the name of a parameter".to_owned()),
            Some(("query", name)) => Ok(Self::Query(name.to_owned())),
            Some(("attribute", name)) if is_attribute_name(name) => Ok(Self::Attribute(name.to_owned())),
            Some(("attribute", name)) => {
                Err(format!("`{name}` can't be an attribute of a CloudEvent: those have a-z and 0-9 only"))
            }
            _ => match text {
                "path" => Ok(Self::Path),
                "method" => Ok(Self::Method),
                "body" => Ok(Self::Body),
                _ => Err(format!("`{text}` is not a selector")),
            },
        }
    }

    /// What would have been right, for whoever wrote one wrong.
    pub const HELP: &str = "a selector is `header:NAME`, `query:NAME`, `attribute:NAME` (of a CloudEvent), `path`, `method`, `body` or a JSONPath (RFC 9535) such as `$.a.b`";

    /// Whether it can only ever select one value.
    pub fn is_singular(&self) -> bool {
        match self {
            Self::Header(_)
            | Self::Query(_)
            | Self::Attribute(_)
            | Self::Path
            | Self::Method
            | Self::Body => true,
            Self::Json(path) => path.is_singular(),
        }
    }

    pub fn select<'a>(&self, subject: Subject<'a>) -> Result<Selected<'a>, Exhausted> {
        let Subject { request, attributes, payload, budget } = subject;
        let text = |text: Cow<'a, str>| Selected::One(Cow::Owned(Value::String(text.into_owned())));
        Ok(match self {
            Self::Header(name) => request.first_header(name).map_or(Selected::Nothing, text),
            Self::Query(name) => request.query_value(name).map_or(Selected::Nothing, text),
            Self::Attribute(name) => {
                attributes.get(name).map_or(Selected::Nothing, |value| text(Cow::Borrowed(value)))
            }
            Self::Path => text(Cow::Borrowed(&request.path)),
            Self::Method => text(Cow::Borrowed(request.method.as_str())),
            Self::Body => {
                budget.spend_bytes(request.body.len())?;
                text(String::from_utf8_lossy(&request.body))
            }
            Self::Json(path) if path.is_singular() => {
                path.value(payload).map_or(Selected::Nothing, |value| Selected::One(Cow::Borrowed(value)))
            }
            Self::Json(path) => Selected::Many(path.all(payload, budget)?),
        })
    }
}

/// As CloudEvents names them.
pub fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::Method => f.write_str("method"),
            Self::Body => f.write_str("body"),
            Self::Attribute(name) => write!(f, "attribute:{name}"),
            Self::Json(path) => f.write_str(path.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::tests::post;

    #[test]
    fn every_part_of_a_request_can_be_named() {
        let request = post(&[("x-event", "push")], "raw");
        let payload = json!({"a": {"b.c": [10, 20]}, "list": [{"id": 1}, {"no": 2}, {"id": 3}], "n": null});
        let attributes = Attributes::from([("type".to_owned(), "push".to_owned())]);
        let budget = &Budget::default();
        let subject = Subject { request: &request, attributes: &attributes, payload: &payload, budget };
        let one = |value: Value| Selected::One(Cow::Owned(value));
        let table = [
            ("header:X-Event", one(json!("push"))),
            ("header:X-Other", Selected::Nothing),
            ("query:a", one(json!("1"))),
            ("attribute:type", one(json!("push"))),
            ("attribute:subject", Selected::Nothing),
            ("path", one(json!("/api/v1/webhooks/wh_x"))),
            ("method", one(json!("POST"))),
            ("body", one(json!("raw"))),
            ("$.a['b.c'][-1]", one(json!(20))),
            ("$.a.nothing", Selected::Nothing),
            ("$.n", one(Value::Null)),
            ("$", one(payload.clone())),
        ];
        for (text, expected) in table {
            assert_eq!(Selector::parse(text).unwrap().select(subject), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("$.list[*].id", json!([1, 3])),
            ("$.nothing[*]", json!([])),
            ("$..id", json!([1, 3])),
            ("$.list[?@.id > 1].id", json!([3])),
            ("$.a[*][*]", json!([10, 20])),
            ("$.list[*][*]", json!([1, 2, 3])),
            ("$.a[*].nothing[*]", json!([])),
            ("$[*][*].id", json!([1, 3])),
            ("$.list[0:2]", json!([{"id": 1}, {"no": 2}])),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert!(!selector.is_singular(), "{text}");
            let Ok(Selected::Many(found)) = selector.select(subject) else { panic!("{text}") };
            assert_eq!(json!(found), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_selector_says_what_is_wrong() {
        for text in [
            "$.a[",
            "$.a..",
            "header:",
            "header:a b",
            "query:",
            "attribute:",
            "attribute:ce-id",
            "headers:x",
            "$.a[?length()]",
            "$.a b",
        ] {
            let error = Selector::parse(text).unwrap_err();
            println!("{error}");
            assert!(error.contains('`'), "{error}");
        }
    }
}
