//! Verification: is this request from who it says, unchanged, and fresh? Declared in YAML, pure in here.

pub mod digest;
pub mod handshake;
pub mod hmac;
pub mod signature;
pub mod template;
pub mod token;

use std::cell::OnceCell;

use http::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{json, model::Outcome, request::Inbound, secret::SecretValue};

/// How a trigger's requests are verified.
#[derive(Clone, Debug)]
pub enum Verify {
    /// Said in so many words: only the secret URL protects this trigger.
    Nothing,
    Hmac(hmac::Hmac),
    Token(token::Token),
}

/// Why a request is not believed; the detail is for the request log, never for the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    pub outcome: Outcome,
    pub detail: String,
}

impl Unverified {
    pub fn bad(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::BadSignature, detail: detail.into() }
    }

    pub fn stale(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Stale, detail: detail.into() }
    }
}

impl Verify {
    /// Where a sender shows its secret in the clear, if it does.
    pub const fn token_place(&self) -> Option<&signature::Place> {
        match self {
            Self::Token(token) => Some(&token.place),
            Self::Nothing | Self::Hmac(_) => None,
        }
    }

    /// Where a sender's proof lies: its secret, or its signature.
    const fn proof(&self) -> Option<&signature::Place> {
        match self {
            Self::Nothing => None,
            Self::Hmac(hmac) => Some(&hmac.signature.place),
            Self::Token(token) => Some(&token.place),
        }
    }

    pub fn is_proof_header(&self, name: &str) -> bool {
        self.proof().is_some_and(|place| place.is_header(name))
    }

    pub fn is_proof_parameter(&self, name: &str) -> bool {
        matches!(self.proof(), Some(signature::Place::Query(own)) if own == name)
    }

    pub const fn needs_secret(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Hmac(_) | Self::Token(_) => true,
        }
    }

    /// Whether any of `secrets` vouches for the request at `now`. No secret, no trust.
    pub fn check(
        &self,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
        now: OffsetDateTime,
    ) -> Result<(), Unverified> {
        match self {
            Self::Nothing => Ok(()),
            Self::Hmac(hmac) => hmac.check(seen, secrets, now),
            Self::Token(token) => token.check(seen, secrets),
        }
    }

    /// Adds to a request what its sender would: for `send`, `demo` and `pack test`.
    pub fn sign(&self, seen: &Seen<'_>, secret: &SecretValue, now: OffsetDateTime) -> Result<Signed, String> {
        match self {
            Self::Nothing => Ok(Signed::default()),
            Self::Hmac(hmac) => hmac.sign(seen, secret, now),
            Self::Token(token) => token.sign(secret),
        }
    }
}

/// What a sender adds to a request to sign it.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
}

/// A request as verification looks at it: raw, with its JSON parsed at most once and only when a rule asks.
#[derive(Debug)]
pub struct Seen<'a> {
    pub request: &'a Inbound,
    /// The host's configured public URL, without a trailing slash; never a guess from `Host`.
    pub public_url: &'a str,
    json: OnceCell<Option<Value>>,
}

impl<'a> Seen<'a> {
    pub const fn new(request: &'a Inbound, public_url: &'a str) -> Self {
        Self { request, public_url, json: OnceCell::new() }
    }

    /// The body as JSON; `None` when it isn't.
    pub fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| json::parse(&self.request.body).ok()).as_ref()
    }

    /// The public URL of this very request: base, path and query.
    pub fn url(&self) -> String {
        let Inbound { path, query, .. } = self.request;
        match query {
            Some(query) => format!("{}{path}?{query}", self.public_url),
            None => format!("{}{path}", self.public_url),
        }
    }
}
