//! Handshakes: a sender asks whether the URL is meant for it, and hears the answer that it waits for.
//!
//! An answer holds the asker's own words, or a MAC over a short word of theirs. So that no stranger can make the host
//! sign things, such a word is never taken for a signed message: see [`is_challenge`].

use http::{HeaderName, Method};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::{
    Seen, Verify,
    digest::{Encoding, Hash, KeyedDigest},
    signature::Place,
    token::Token,
};
use crate::{
    constant::Constant,
    request::{HeaderLine, Inbound},
    secret::{SecretValue, Secrets},
    selector::JsonPath,
};

#[derive(Clone, Debug)]
pub struct Handshake {
    pub when: When,
    pub proof: Proof,
    /// The secret that the asker brings: kept under the trigger's first name of a secret, while that has no value.
    pub store: Option<Echo>,
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
    Value(Constant),
    AnyOf(Vec<Constant>),
    /// `null`: it is not there.
    Absent,
}

/// What the asker must show.
#[derive(Clone, Debug)]
pub enum Proof {
    Nothing,
    /// The trigger's own signature.
    Signature,
    /// A token. With a secret of its own name, whoever learns it can't sign deliveries with it.
    Token(Token, Option<String>),
    /// What lies there is this, made of the request and the trigger's `params`.
    Equals(Place, Echo),
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
    /// Looked up in the trigger's `params` when the pack loads.
    Param(String),
    /// A MAC under the trigger's first secret.
    Mac(Hash, Encoding, Box<Part>),
    /// SHA-1 in hex over these, sorted and joined (WeChat).
    Sha1Sorted(Vec<Part>),
}

/// The parts that an echo may have, for whoever wrote another one.
pub const HELP: &str = "the parts of an answer are {query:NAME}, {header:NAME}, {json:$.path}, {param:NAME} and \
    {hmac-sha256-hex:PART}, {hmac-sha256-base64:PART} (or sha1, sha512) over one of these";

/// What a handshake may be asked to make a MAC over: a short word without a blank, a bracket or a quote, as every
/// sender's challenge is. A message that looks so is no signed delivery where strangers can ask.
pub fn is_challenge(message: &[u8]) -> bool {
    const CHALLENGE_BYTES_MAX: usize = 256;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    (1..=CHALLENGE_BYTES_MAX).contains(&message.len()) && message.iter().all(plain)
}

/// How a handshake is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaken {
    pub status: u16,
    pub content_type: String,
    pub headers: Vec<(HeaderName, String)>,
    pub body: String,
    /// The secret that it brought, to be kept before it is answered.
    pub store: Option<SecretValue>,
}

/// What a sender brings as a secret: shorter is none that protects, longer none at all.
const SECRET_BYTES_MIN: usize = 16;
const SECRET_BYTES_MAX: usize = 1024;

/// What any request hears whose signature does not hold.
const UNVERIFIED_STATUS: u16 = 401;

/// The asker could not prove itself, and its status is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected(pub u16);

impl Handshake {
    /// The secret that it names beside the trigger's own.
    pub fn secret_name(&self) -> Option<&str> {
        match &self.proof {
            Proof::Token(_, name) => name.as_deref(),
            Proof::Nothing | Proof::Signature | Proof::Equals(..) => None,
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
        if !self.when.fits_head(seen.request) {
            return Ok(None);
        }
        // An unsigned body need not be parsed: without the handshake the request is refused with the same status.
        let signature_first = matches!(self.proof, Proof::Signature)
            && !secrets.is_empty()
            && self.reject_status.is_none_or(|status| status == UNVERIFIED_STATUS);
        if signature_first && !self.is_proven(seen, verify, secrets, known, now) {
            return Ok(None);
        }
        if !self.when.fits_body(seen) {
            return Ok(None);
        }
        if !signature_first && !self.is_proven(seen, verify, secrets, known, now) {
            return self.reject_status.map_or(Ok(None), |status| Err(Rejected(status)));
        }
        let store = match &self.store {
            // Whoever comes later brings nothing that is wanted.
            Some(echo) if !secrets.is_empty() => match echo.text(seen, None) {
                // The very one again: the answer was lost.
                Some(text) if secrets.iter().any(|own| own.bytes().ct_eq(text.as_bytes()).into()) => None,
                _ => return Ok(None),
            },
            Some(echo) => {
                let long = |text: &String| (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&text.len());
                let brought = echo.text(seen, None).filter(long).map(SecretValue::new);
                match brought.filter(|brought| verify.fits(brought).is_ok()) {
                    Some(brought) => Some(brought),
                    None => return Ok(None),
                }
            }
            None => None,
        };
        let key = secrets.first().and_then(|secret| verify.mac_key(secret));
        Ok(self.respond.answer(seen, key.as_deref()).map(|shaken| Shaken { store, ..shaken }))
    }

    fn is_proven(
        &self,
        seen: &Seen<'_>,
        verify: &Verify,
        secrets: &[SecretValue],
        known: &Secrets,
        now: OffsetDateTime,
    ) -> bool {
        match &self.proof {
            Proof::Nothing => true,
            Proof::Signature => !secrets.is_empty() && verify.check(seen, secrets, now).is_ok(),
            Proof::Token(token, None) => token.check(seen, secrets).is_ok(),
            Proof::Token(token, Some(name)) => token.check(seen, known.values(name)).is_ok(),
            Proof::Equals(place, echo) => match (place.one(seen), echo.text(seen, None)) {
                (Ok(shown), Some(expected)) => shown.as_bytes().ct_eq(expected.as_bytes()).into(),
                _ => false,
            },
        }
    }

    /// Whether it makes a MAC of something that was asked.
    pub fn computes(&self) -> bool {
        self.respond.computes()
    }

    /// Whether the head of a request leaves it possible that it is this handshake.
    pub fn fits_head(&self, request: &Inbound) -> bool {
        self.when.fits_head(request)
    }

    /// Whether the body is needed to tell, or to answer.
    pub fn reads_body(&self) -> bool {
        let proof = match &self.proof {
            Proof::Nothing => false,
            Proof::Signature => true,
            Proof::Token(token, _) => token.place.is_json() || token.place.is_form(),
            Proof::Equals(place, echo) => place.is_json() || place.is_form() || echo.reads_json(),
        };
        let store = self.store.as_ref().is_some_and(Echo::reads_json);
        proof || store || !self.when.json.is_empty() || self.respond.reads_json()
    }
}

impl When {
    fn fits_head(&self, request: &Inbound) -> bool {
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
    }

    fn fits_body(&self, seen: &Seen<'_>) -> bool {
        self.json.iter().all(|(path, wanted)| match (seen.json().map(|json| path.value(json)), wanted) {
            (Some(None | Some(Value::Null)), Wanted::Absent) => true,
            (Some(Some(value)), wanted) => wanted.is(value),
            _ => false,
        })
    }
}

impl Wanted {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Anything => true,
            Self::Value(wanted) => wanted.equals(value),
            Self::AnyOf(wanted) => wanted.iter().any(|wanted| wanted.equals(value)),
            Self::Absent => false,
        }
    }
}

impl Respond {
    fn reads_json(&self) -> bool {
        let in_body = match &self.body {
            Body::Text(echo) => echo.reads_json(),
            Body::Json(tree) => tree.reads_json(),
        };
        in_body || self.headers.iter().any(|(_, echo)| echo.reads_json())
    }

    fn computes(&self) -> bool {
        let in_body = match &self.body {
            Body::Text(echo) => echo.computes(),
            Body::Json(tree) => tree.computes(),
        };
        in_body || self.headers.iter().any(|(_, echo)| echo.computes())
    }

    /// `None` when the request lacks what the answer is to hold.
    fn answer(&self, seen: &Seen<'_>, key: Option<&[u8]>) -> Option<Shaken> {
        let header = |(name, echo): &(HeaderName, Echo)| Some((name.clone(), echo.text(seen, key)?));
        Some(Shaken {
            status: self.status,
            content_type: self.content_type.clone(),
            headers: self.headers.iter().map(header).collect::<Option<_>>()?,
            body: match &self.body {
                Body::Text(echo) => echo.text(seen, key)?,
                Body::Json(tree) => tree.value(seen, key)?.to_string(),
            },
            store: None,
        })
    }
}

impl EchoTree {
    fn reads_json(&self) -> bool {
        match self {
            Self::Const(_) => false,
            Self::Echo(echo) => echo.reads_json(),
            Self::List(items) => items.iter().any(Self::reads_json),
            Self::Object(members) => members.iter().any(|(_, tree)| tree.reads_json()),
        }
    }

    fn computes(&self) -> bool {
        match self {
            Self::Const(_) => false,
            Self::Echo(echo) => echo.computes(),
            Self::List(items) => items.iter().any(Self::computes),
            Self::Object(members) => members.iter().any(|(_, tree)| tree.computes()),
        }
    }

    fn value(&self, seen: &Seen<'_>, key: Option<&[u8]>) -> Option<Value> {
        match self {
            Self::Const(value) => Some(value.clone()),
            Self::Echo(echo) => echo.text(seen, key).map(Value::String),
            Self::List(items) => items.iter().map(|item| item.value(seen, key)).collect(),
            Self::Object(members) => {
                let member = |(name, tree): &(String, Self)| Some((name.clone(), tree.value(seen, key)?));
                members.iter().map(member).collect::<Option<Map<_, _>>>().map(Value::Object)
            }
        }
    }
}

impl Echo {
    /// Reads an echo; the error says in the author's words what is wrong with it.
    pub fn parse(text: &str, param: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let Some(length) = rest[open..].find('}') else {
                return Err(format!("`{}` is never closed", &rest[open..]));
            };
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(Part::parse(&rest[open + 1..open + length], &param)?);
            rest = &rest[open + length + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    fn computes(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Mac(..)))
    }

    fn reads_json(&self) -> bool {
        self.0.iter().any(Part::reads_json)
    }

    fn text(&self, seen: &Seen<'_>, key: Option<&[u8]>) -> Option<String> {
        self.0.iter().map(|part| part.text(seen, key)).collect()
    }
}

impl Part {
    fn reads_json(&self) -> bool {
        match self {
            Self::Json(_) => true,
            Self::Mac(_, _, of) => of.reads_json(),
            Self::Sha1Sorted(of) => of.iter().any(Self::reads_json),
            Self::Text(_) | Self::Query(_) | Self::Header(_) | Self::Param(_) => false,
        }
    }

    fn text(&self, seen: &Seen<'_>, key: Option<&[u8]>) -> Option<String> {
        match self {
            Self::Text(own) | Self::Param(own) => Some(own.clone()),
            Self::Query(name) => seen.request.query_value(name).map(std::borrow::Cow::into_owned),
            Self::Header(name) => match seen.request.header(name) {
                HeaderLine::One(value) => Some(value.into_owned()),
                HeaderLine::Missing | HeaderLine::Several => None,
            },
            Self::Json(path) => match path.value(seen.json()?)? {
                Value::String(value) => Some(value.clone()),
                value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            },
            Self::Mac(hash, encoding, of) => {
                let word = of.text(seen, None).filter(|word| is_challenge(word.as_bytes()))?;
                let mut mac = KeyedDigest::new(*hash, key?)?;
                mac.update(word.as_bytes());
                Some(encoding.encode(&mac.finish()))
            }
            Self::Sha1Sorted(of) => {
                let mut words = of.iter().map(|part| part.text(seen, None)).collect::<Option<Vec<_>>>()?;
                words.sort();
                Some(hex::encode(Hash::Sha1.digest(words.concat().as_bytes())))
            }
        }
    }

    fn parse(text: &str, param: &impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (kind, argument) = text.split_once(':').unwrap_or((text, ""));
        if let Some((hash, encoding)) = kind.strip_prefix("hmac-").and_then(|rest| rest.split_once('-')) {
            let (Some(hash), Some(encoding)) = (Hash::from_name(hash), Encoding::from_name(encoding)) else {
                return Err(format!("`{kind}` is no MAC: write hmac-sha256-hex or hmac-sha256-base64"));
            };
            let of = Self::parse(argument, param)?;
            if matches!(of, Self::Mac(..) | Self::Sha1Sorted(_)) {
                return Err(format!("`{{{text}}}`: a MAC is made over a part of the request"));
            }
            return Ok(Self::Mac(hash, encoding, Box::new(of)));
        }
        match kind {
            "query" if !argument.is_empty() => Ok(Self::Query(argument.to_owned())),
            "header" => argument
                .parse()
                .map(Self::Header)
                .map_err(|_| format!("`{argument}` can't be the name of a header")),
            "json" => {
                let path = JsonPath::parse(argument)?;
                if path.is_singular() {
                    Ok(Self::Json(path))
                } else {
                    Err(format!("`{{{text}}}` can select more than one value"))
                }
            }
            "param" => match param(argument) {
                Some(value) => Ok(Self::Param(value)),
                None => Err(format!("`{{{text}}}`: there is no `{argument}` under `params`")),
            },
            "sha1hex-sorted" if !argument.is_empty() => {
                let parts = argument.split(',').map(|part| Self::parse(part.trim(), param));
                Ok(Self::Sha1Sorted(parts.collect::<Result<_, _>>()?))
            }
            _ => Err(format!("`{{{text}}}` can't stand in an answer")),
        }
    }
}
