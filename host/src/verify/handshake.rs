//! Handshakes: a sender asks whether the URL is meant for it, and hears the answer that it waits for.
//!
//! What an answer may hold is the asker's own words back, so that no stranger can make the host sign things.

use http::{HeaderName, Method};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Seen, Verify, token::Token};
use crate::{
    request::HeaderLine,
    secret::{SecretValue, Secrets},
    selector::JsonPath,
};

#[derive(Clone, Debug)]
pub struct Handshake {
    pub when: When,
    pub proof: Proof,
    /// The status for who fails the proof; `None`: the request goes on like any other.
    pub reject_status: Option<u16>,
    pub respond: Respond,
}

/// Every condition must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    pub method: Option<Method>,
    pub query: Vec<(String, Wanted)>,
    pub headers: Vec<(HeaderName, Wanted)>,
    pub json: Vec<(JsonPath, Wanted)>,
}

#[derive(Clone, Debug)]
pub enum Wanted {
    /// `"*"`: it is there.
    Anything,
    Value(Value),
    AnyOf(Vec<Value>),
}

/// What the asker must show.
#[derive(Clone, Debug)]
pub enum Proof {
    Nothing,
    /// The trigger's own signature.
    Signature,
    /// A token. With a secret of its own name, whoever learns it can't sign deliveries with it.
    Token(Token, Option<String>),
}

#[derive(Clone, Debug)]
pub struct Respond {
    pub status: u16,
    pub content_type: String,
    pub headers: Vec<(HeaderName, Echo)>,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Text(Echo),
    Json(EchoTree),
}

/// A JSON document whose strings may echo.
#[derive(Clone, Debug)]
pub enum EchoTree {
    Const(Value),
    Echo(Echo),
    List(Vec<EchoTree>),
    Object(Vec<(String, EchoTree)>),
}

/// Text with parts of the request in it: `{query:challenge}`, `{header:NAME}`, `{json:$.path}`.
#[derive(Clone, Debug)]
pub struct Echo(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Query(String),
    Header(HeaderName),
    Json(JsonPath),
}

/// The parts that an echo may have, for whoever wrote another one.
pub const HELP: &str = "the parts of an answer are {query:NAME}, {header:NAME} and {json:$.path}";

/// How a handshake is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaken {
    pub status: u16,
    pub content_type: String,
    pub headers: Vec<(HeaderName, String)>,
    pub body: String,
}

/// The asker could not prove itself, and its status is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected(pub u16);

impl Handshake {
    /// The secret that it names beside the trigger's own.
    pub fn secret_name(&self) -> Option<&str> {
        match &self.proof {
            Proof::Token(_, name) => name.as_deref(),
            Proof::Nothing | Proof::Signature => None,
        }
    }

    /// Nothing when the request is not this handshake, or fails its proof and goes on like any other.
    pub fn shake(
        &self,
        seen: &Seen<'_>,
        verify: &Verify,
        secrets: &[SecretValue],
        known: &Secrets,
        now: OffsetDateTime,
    ) -> Result<Option<Shaken>, Rejected> {
        if !self.when.holds(seen) {
            return Ok(None);
        }
        let proven = match &self.proof {
            Proof::Nothing => true,
            Proof::Signature => !secrets.is_empty() && verify.check(seen, secrets, now).is_ok(),
            Proof::Token(token, None) => token.check(seen, secrets).is_ok(),
            Proof::Token(token, Some(name)) => token.check(seen, known.values(name)).is_ok(),
        };
        if !proven {
            return self.reject_status.map_or(Ok(None), |status| Err(Rejected(status)));
        }
        Ok(self.respond.answer(seen))
    }
}

impl When {
    fn holds(&self, seen: &Seen<'_>) -> bool {
        let request = seen.request;
        let text = |text: &str| Value::String(text.to_owned());
        self.method.as_ref().is_none_or(|method| request.method == *method)
            && self
                .query
                .iter()
                .all(|(name, wanted)| request.query_value(name).is_some_and(|value| wanted.is(&text(&value))))
            && self.headers.iter().all(|(name, wanted)| match request.header(name) {
                HeaderLine::One(value) => wanted.is(&text(&value)),
                HeaderLine::Missing | HeaderLine::Several => false,
            })
            && self.json.iter().all(|(path, wanted)| {
                seen.json().and_then(|json| path.value(json)).is_some_and(|value| wanted.is(value))
            })
    }
}

impl Wanted {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Anything => true,
            Self::Value(wanted) => wanted == value,
            Self::AnyOf(wanted) => wanted.contains(value),
        }
    }
}

impl Respond {
    /// `None` when the request lacks what the answer is to hold.
    fn answer(&self, seen: &Seen<'_>) -> Option<Shaken> {
        let header = |(name, echo): &(HeaderName, Echo)| Some((name.clone(), echo.text(seen)?));
        Some(Shaken {
            status: self.status,
            content_type: self.content_type.clone(),
            headers: self.headers.iter().map(header).collect::<Option<_>>()?,
            body: match &self.body {
                Body::Text(echo) => echo.text(seen)?,
                Body::Json(tree) => tree.value(seen)?.to_string(),
            },
        })
    }
}

impl EchoTree {
    fn value(&self, seen: &Seen<'_>) -> Option<Value> {
        match self {
            Self::Const(value) => Some(value.clone()),
            Self::Echo(echo) => echo.text(seen).map(Value::String),
            Self::List(items) => items.iter().map(|item| item.value(seen)).collect(),
            Self::Object(members) => {
                let member = |(name, tree): &(String, Self)| Some((name.clone(), tree.value(seen)?));
                members.iter().map(member).collect::<Option<Map<_, _>>>().map(Value::Object)
            }
        }
    }
}

impl Echo {
    /// Reads an echo; the error says in the author's words what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let Some(length) = rest[open..].find('}') else {
                return Err(format!("`{}` is never closed", &rest[open..]));
            };
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(Part::parse(&rest[open + 1..open + length])?);
            rest = &rest[open + length + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    fn text(&self, seen: &Seen<'_>) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(own) => text.push_str(own),
                Part::Query(name) => text.push_str(&seen.request.query_value(name)?),
                Part::Header(name) => match seen.request.header(name) {
                    HeaderLine::One(value) => text.push_str(&value),
                    HeaderLine::Missing | HeaderLine::Several => return None,
                },
                Part::Json(path) => match path.value(seen.json()?)? {
                    Value::String(value) => text.push_str(value),
                    value @ (Value::Number(_) | Value::Bool(_)) => text.push_str(&value.to_string()),
                    Value::Null | Value::Array(_) | Value::Object(_) => return None,
                },
            }
        }
        Some(text)
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            Some(("header", name)) => {
                name.parse().map(Self::Header).map_err(|_| format!("`{name}` can't be the name of a header"))
            }
            Some(("json", path)) => {
                let path = JsonPath::parse(path)?;
                if path.is_singular() {
                    Ok(Self::Json(path))
                } else {
                    Err(format!("`{{{text}}}` can select more than one value"))
                }
            }
            _ => Err(format!("`{{{text}}}` can't stand in an answer")),
        }
    }
}
