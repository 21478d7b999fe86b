//! A pack's `tests/*.yaml`: requests as a sender would make them, and what each must come to.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub use super::read_cases::{check, read};
use super::{Pack, diagnostics::Place};
use crate::{
    budget::Budget,
    model::Outcome,
    policy::Policy,
    request::{Inbound, query_text},
    secret::{SecretValue, Secrets},
    selector::JsonPath,
    verify::Seen,
};

#[derive(Clone, Debug)]
pub struct Case {
    /// A sentence about behaviour.
    pub name: String,
    /// The trigger or pack whose URL the request goes to.
    pub target_ref: String,
    /// Where it begins, for reports.
    pub at: Place,
    /// Where `expect` begins: the place of its value.
    pub expect_at: Place,
    pub request: CaseRequest,
    pub expect: Expect,
}

#[derive(Clone, Debug)]
pub struct CaseRequest {
    pub(super) method: Method,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub body: Bytes,
    pub(super) sign: Sign,
    /// Appended to the body after it was signed.
    pub(super) tamper: Option<String>,
    pub source_ip: IpAddr,
}

#[derive(Clone, Debug)]
pub(super) enum Sign {
    No,
    /// With this secret instead of the pack's own, and so many seconds from now.
    Yes {
        secret: Option<String>,
        at: i64,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Expect {
    pub status: u16,
    pub outcome: Option<Outcome>,
    pub events: Option<Vec<ExpectedEvent>>,
    /// Text that the request log's detail contains.
    pub detail: Option<String>,
    /// What the sender hears, word for word.
    pub body: Option<String>,
    /// What its mappers may use at most, in wasmtime's fuel.
    pub fuel_max: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct ExpectedEvent {
    pub trigger: Option<String>,
    /// The exact payload.
    pub payload: Option<Value>,
    /// A part of the payload.
    pub includes: Option<Value>,
    pub key: Option<String>,
}

/// A request, signed and ready to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: Method,
    /// What stands in the URL behind the question mark.
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What every secret of a pack is while its cases run: the same each time, and valid as text, hex and base64, behind the
/// prefix that is declared. Where a public key is wanted, the one that belongs to it. None of them is a host's.
pub fn secrets(pack: &Pack) -> Secrets {
    let mut secrets = Secrets::default();
    for name in pack.secret_names() {
        secrets.insert(name, vec![private(name)]);
    }
    let policies = std::iter::once(&pack.policy).chain(pack.triggers.iter().map(|trigger| &trigger.policy));
    for policy in policies {
        for name in &policy.secrets {
            if let Some(public) = policy.verify.public_half(&private(name)) {
                secrets.insert(name.clone(), vec![public]);
            } else if let Some(prefix) = policy.verify.secret_prefix() {
                let text = [prefix.as_bytes(), private(name).bytes()].concat();
                secrets.insert(name.clone(), vec![SecretValue::new(text)]);
            }
        }
    }
    secrets
}

/// What signs for a secret of this name.
fn private(name: &str) -> SecretValue {
    SecretValue::new(hex::encode(Sha256::digest(format!("a secret for tests: {name}"))))
}

impl CaseRequest {
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl Case {
    /// A case that nobody wrote down: this JSON body to that trigger or pack.
    pub fn of_body(target_ref: &str, body: Vec<u8>, mut headers: HeaderMap) -> Self {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let request = CaseRequest {
            method: Method::POST,
            query: Vec::new(),
            headers,
            body: body.into(),
            sign: Sign::Yes { secret: None, at: 0 },
            tamper: None,
            source_ip: IpAddr::from([127, 0, 0, 1]),
        };
        let at = super::diagnostics::Source::new("", "").start();
        Self {
            name: String::new(),
            target_ref: target_ref.to_owned(),
            expect_at: at.clone(),
            at,
            request,
            expect: Expect::default(),
        }
    }

    /// The same with these headers in place of its own of their names.
    #[must_use]
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        for (name, value) in headers {
            self.request.headers.insert(name, value.clone());
        }
        self
    }

    /// The request as its sender would make it at `now`, to the URL `public_url` + `path`.
    pub fn outgoing(
        &self,
        policy: &Policy,
        secrets: &Secrets,
        public_url: &str,
        path: &str,
        now: OffsetDateTime,
    ) -> Result<Outgoing, String> {
        let CaseRequest { method, query, headers, body, sign, tamper, .. } = &self.request;
        let mut outgoing = Outgoing {
            method: method.clone(),
            query: query_text(query),
            headers: headers.clone(),
            body: body.clone(),
        };
        if let Sign::Yes { secret, at } = sign
            && policy.verify.verifies()
        {
            let at = now + Duration::seconds(*at);
            let secret = secret.as_ref().map(|secret| SecretValue::new(secret.as_str()));
            let secret = match secret {
                Some(secret) => secret,
                None => signing_secret(policy, secrets)?,
            };
            if let Some((path, unit)) = policy.verify.time_in_body() {
                outgoing.body = with_json(&outgoing.body, [(path, unit.write(at))])?;
            }
            let request = self.inbound(&outgoing, path, now);
            let signed =
                policy.verify.sign(&Seen::new(&request, public_url, &Budget::default()), &secret, at)?;
            let query: Vec<_> = query.iter().cloned().chain(signed.query).collect();
            outgoing.query = query_text(&query);
            for (name, value) in &signed.headers {
                outgoing.headers.entry(name).or_insert_with(|| value.clone());
            }
            if !signed.json.is_empty() {
                let texts = signed.json.iter().map(|(path, text)| (path, text.clone()));
                outgoing.body = with_json(&outgoing.body, texts)?;
            }
            if let Some(fields) = query_text(&signed.form) {
                outgoing.body = [&outgoing.body[..], b"&", fields.as_bytes()].concat().into();
            }
        }
        if let Some(tamper) = tamper {
            outgoing.body = [outgoing.body.as_ref(), tamper.as_bytes()].concat().into();
        }
        Ok(outgoing)
    }

    /// The same request as the host would see it.
    pub fn inbound(&self, outgoing: &Outgoing, path: &str, now: OffsetDateTime) -> Inbound {
        Inbound {
            id: Uuid::now_v7(),
            received_at: now,
            source_ip: self.request.source_ip,
            method: outgoing.method.clone(),
            path: path.to_owned(),
            query: outgoing.query.clone(),
            headers: outgoing.headers.clone(),
            body: outgoing.body.clone(),
        }
    }
}

/// The value that a sender would sign with: the host's own, or the half of it that only the sender has.
fn signing_secret(policy: &Policy, secrets: &Secrets) -> Result<SecretValue, String> {
    if !policy.verify.needs_secret() {
        return Ok(private(""));
    }
    let name = policy.secrets.iter().find(|name| !secrets.values(name).is_empty());
    let name =
        name.ok_or_else(|| format!("no value for any of the secrets {}", policy.secrets.join(", ")))?;
    let own = &secrets.values(name)[0];
    match policy.verify.public_half(&private(name)) {
        None => Ok(own.clone()),
        Some(public) if public == *own => Ok(private(name)),
        Some(_) => Err("only the sender can sign with its private key".to_owned()),
    }
}

/// A body of JSON with texts in these places; a number that is there stays a number.
fn with_json<'a>(
    body: &[u8],
    texts: impl IntoIterator<Item = (&'a JsonPath, String)>,
) -> Result<Bytes, String> {
    let mut json = crate::json::parse(body)?;
    for (path, text) in texts {
        let number = path.value(&json).is_some_and(Value::is_number);
        let value = match serde_json::from_str::<Value>(&text) {
            Ok(value) if number && value.is_number() => value,
            _ => Value::String(text),
        };
        if !path.set(&mut json, value) {
            return Err(format!("the body has no place for {}", path.text()));
        }
    }
    Ok(json.to_string().into())
}
