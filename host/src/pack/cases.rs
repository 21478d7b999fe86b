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
    model::Outcome,
    policy::Policy,
    request::Inbound,
    secret::{SecretValue, Secrets},
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

/// What every secret of a pack is while its cases run: the same each time, and valid as text, hex and base64.
pub fn secrets(pack: &Pack) -> Secrets {
    let mut secrets = Secrets::default();
    for name in pack.secret_names() {
        let value = hex::encode(Sha256::digest(format!("a secret for tests: {name}")));
        secrets.insert(name, vec![SecretValue::new(value)]);
    }
    secrets
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
            && policy.verify.needs_secret()
        {
            let own = || policy.secrets.iter().flat_map(|name| secrets.values(name)).next().cloned();
            let secret = secret.as_ref().map(|secret| SecretValue::new(secret.as_str())).or_else(own);
            let secret = secret
                .ok_or_else(|| format!("no value for any of the secrets {}", policy.secrets.join(", ")))?;
            let request = self.inbound(&outgoing, path, now);
            let signed = policy.verify.sign(
                &Seen::new(&request, public_url),
                &secret,
                now + Duration::seconds(*at),
            )?;
            let query: Vec<_> = query.iter().cloned().chain(signed.query).collect();
            outgoing.query = query_text(&query);
            for (name, value) in &signed.headers {
                outgoing.headers.entry(name).or_insert_with(|| value.clone());
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

pub(super) fn query_text(pairs: &[(String, String)]) -> Option<String> {
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}
