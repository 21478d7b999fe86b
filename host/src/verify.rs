//! Verification: is this request from who it says, unchanged, and fresh? Declared in YAML, pure in here.

pub mod digest;
mod fit;
pub mod handshake;
pub mod hmac;
pub mod jwt;
pub mod keys;
pub mod protection;
pub mod public_key;
mod redact;
mod seen;
pub mod signature;
pub mod template;
pub mod token;

use std::{borrow::Cow, collections::HashSet};

use http::HeaderMap;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

pub use self::seen::Seen;
use self::{
    digest::{Encoding, Hash, KeyDecoding},
    jwt::Keys,
    public_key::{Kind, RsaKey},
    signature::{Place, TimestampPlace},
    template::Template,
};
use crate::{budget::Exhausted, model::Outcome, request, secret::SecretValue, selector::JsonPath};

/// How a trigger's requests are verified.
#[derive(Clone, Debug)]
pub enum Verify {
    /// Said in so many words: only the secret URL protects this trigger.
    Nothing,
    Declared(Box<Declared>),
}

#[derive(Clone, Debug)]
pub struct Declared {
    pub scheme: Scheme,
    /// Every item of a batch is checked, and there must be one; `$` in the declaration is the item.
    pub each: Option<JsonPath>,
    /// A digest of the body that lies beside it, and is signed itself.
    pub body_digest: Option<BodyDigest>,
    pub url: UrlForms,
    pub query: QueryRule,
    /// A handshake makes MACs for strangers: see [`handshake::is_challenge`].
    pub refuses_challenges: bool,
}

#[derive(Clone, Debug)]
pub enum Scheme {
    Hmac(hmac::Hmac),
    Token(token::Token),
    PublicKey(public_key::PublicKeyRule),
    Jwt(jwt::Jwt),
}

#[derive(Clone, Debug)]
pub struct BodyDigest {
    pub place: Place,
    pub hash: Hash,
    pub encoding: Encoding,
}

/// What `{url}` may stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlForms {
    #[default]
    Exact,
    /// Some senders name the port, also the one that goes without saying, some don't.
    WithAndWithoutPort,
}

/// What may stand in the query where the path is signed by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryRule {
    /// Nothing that is not signed, too.
    #[default]
    Signed,
    /// Anything: this sender leaves the query out.
    Unsigned,
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

/// Items of a batch that are checked, one by one.
const ITEMS_MAX: usize = 10_000;

impl Verify {
    /// A scheme, and nothing about it.
    pub fn of(scheme: Scheme) -> Self {
        Self::Declared(Box::new(Declared {
            scheme,
            each: None,
            body_digest: None,
            url: UrlForms::Exact,
            query: QueryRule::Signed,
            refuses_challenges: false,
        }))
    }

    fn scheme(&self) -> Option<&Scheme> {
        match self {
            Self::Nothing => None,
            Self::Declared(declared) => Some(&declared.scheme),
        }
    }

    /// The word that stands for it in a declaration.
    pub fn word(&self) -> &'static str {
        match self.scheme() {
            None => "none",
            Some(Scheme::Hmac(rule)) => match rule.keying {
                hmac::Keying::Keyed => "hmac",
                hmac::Keying::Plain => "hash",
            },
            Some(Scheme::Token(_)) => "token",
            Some(Scheme::PublicKey(rule)) => match rule.kind {
                Kind::Ed25519(_) => "ed25519",
                Kind::Ecdsa => "ecdsa",
                Kind::Rsa { .. } => "rsa",
            },
            Some(Scheme::Jwt(_)) => "jwt",
        }
    }

    /// Where a sender shows its secret in the clear, if it does.
    pub fn token_place(&self) -> Option<&Place> {
        match self.scheme() {
            Some(Scheme::Token(token)) => Some(&token.place),
            // Who has it may show it again.
            Some(Scheme::Jwt(jwt)) => Some(&jwt.place),
            _ => None,
        }
    }

    /// Where a sender's proof lies: its secret, or its signature.
    fn proof(&self) -> Option<&Place> {
        Some(match self.scheme()? {
            Scheme::Hmac(rule) => &rule.signing.signature.place,
            Scheme::PublicKey(rule) => &rule.signing.signature.place,
            Scheme::Token(token) => &token.place,
            Scheme::Jwt(jwt) => &jwt.place,
        })
    }

    pub fn is_proof_header(&self, name: &str) -> bool {
        self.proof().is_some_and(|place| place.is_header(name))
    }

    pub fn is_proof_parameter(&self, name: &str) -> bool {
        matches!(self.proof(), Some(Place::Query(own)) if own == name)
    }

    /// Whether a request has to prove anything.
    pub const fn verifies(&self) -> bool {
        matches!(self, Self::Declared(_))
    }

    /// Whether something of the host's own has to be there for it.
    pub fn needs_secret(&self) -> bool {
        match self.scheme() {
            None => false,
            Some(Scheme::PublicKey(rule)) => {
                !matches!(rule.kind, Kind::Rsa { key: RsaKey::Certificate(_), .. })
            }
            Some(Scheme::Jwt(jwt)) => {
                matches!(jwt.keys, Keys::Secrets) || jwt.algorithms.contains(&jwt::Algorithm::Hs256)
            }
            Some(Scheme::Hmac(_) | Scheme::Token(_)) => true,
        }
    }

    /// Whether only the sender can make what is checked: then the secret is a public key.
    pub fn is_asymmetric(&self) -> bool {
        match self.scheme() {
            Some(Scheme::PublicKey(_)) => true,
            Some(Scheme::Jwt(jwt)) => !jwt.algorithms.contains(&jwt::Algorithm::Hs256),
            _ => false,
        }
    }

    /// These random bytes as the text of a shared secret that fits the declaration; an error says why nobody but the
    /// sender can make one.
    pub fn shared_secret(&self, random: &[u8]) -> Result<String, &'static str> {
        match self.scheme() {
            Some(Scheme::Hmac(rule)) => Ok(rule.secret.text(random)),
            Some(Scheme::Token(token)) if token.basic => Err("it is a name and a password, `user:password`"),
            None | Some(Scheme::Token(_)) => Ok(KeyDecoding::default().text(random)),
            Some(Scheme::Jwt(jwt)) if jwt.algorithms.contains(&jwt::Algorithm::Hs256) => {
                Ok(jwt.secret.text(random))
            }
            Some(Scheme::PublicKey(_) | Scheme::Jwt(_)) => {
                Err("it is a public key, whose private half is the sender's")
            }
        }
    }

    /// Whether the sender's signature covers something of the body: then a request that was signed once can be sent again
    /// by others, and only with the same bytes.
    pub fn signs_body(&self) -> bool {
        match self.scheme() {
            Some(Scheme::Hmac(_) | Scheme::PublicKey(_)) => true,
            Some(Scheme::Jwt(jwt)) => jwt.templates().any(Template::covers_parts_of_body),
            Some(Scheme::Token(_)) | None => false,
        }
    }

    /// Whether this header is signed by itself.
    pub fn signs_header(&self, name: &http::HeaderName) -> bool {
        let Self::Declared(declared) = self else { return false };
        declared.templates().any(|template| template.has_header(name))
    }

    /// Whether it looks into the body as JSON.
    pub fn reads_json(&self) -> bool {
        let Self::Declared(declared) = self else { return false };
        declared.each.is_some()
            || declared.places().any(Place::is_json)
            || declared.templates().any(Template::reads_json)
    }

    /// Whether it looks into the body as a form.
    pub fn reads_form(&self) -> bool {
        let Self::Declared(declared) = self else { return false };
        declared.places().any(Place::is_form) || declared.templates().any(Template::reads_form)
    }

    /// The key of a shared secret, for an answer's MAC; `None` where there is none that may be used so: what a JWT's
    /// signature covers looks like a challenge.
    pub fn mac_key(&self, secret: &SecretValue) -> Option<Vec<u8>> {
        match self.scheme()? {
            Scheme::Hmac(rule) => rule.secret.key(secret.bytes()),
            Scheme::Token(_) => Some(secret.bytes().to_vec()),
            Scheme::PublicKey(_) | Scheme::Jwt(_) => None,
        }
    }

    /// Whether an answer's MAC can be made.
    pub fn has_mac_key(&self) -> bool {
        matches!(self.scheme(), Some(Scheme::Hmac(_) | Scheme::Token(_)))
    }

    /// Whether a signature can be checked without asking anybody.
    pub fn is_checked_at_once(&self) -> bool {
        self.verifies()
            && self.needs_secret()
            && !matches!(self.scheme(), Some(Scheme::Jwt(jwt::Jwt { keys: Keys::Jwks(_), .. })))
    }

    /// From now on a message that a handshake could have been asked to sign is no signed delivery.
    pub fn refuse_challenges(&mut self) {
        if let Self::Declared(declared) = self {
            declared.refuses_challenges = true;
        }
    }

    /// The public key that a host is told, where `secret` stands for the private one of a sender in tests.
    pub fn public_half(&self, secret: &SecretValue) -> Option<SecretValue> {
        match self.scheme()? {
            Scheme::PublicKey(rule) => {
                public_key::private::public(&rule.kind, secret.bytes()).map(SecretValue::new)
            }
            Scheme::Hmac(_) | Scheme::Token(_) | Scheme::Jwt(_) => None,
        }
    }

    /// Where the time lies in the body, if it does, with its unit: a sender writes it there before it signs.
    pub fn time_in_body(&self) -> Option<(&JsonPath, signature::Unit)> {
        let signing = match self.scheme()? {
            Scheme::Hmac(rule) => &rule.signing,
            Scheme::PublicKey(rule) => &rule.signing,
            Scheme::Token(_) | Scheme::Jwt(_) => return None,
        };
        match signing.timestamp.as_ref()? {
            signature::TimestampRule { place: TimestampPlace::At(Place::Json(path)), unit, .. } => {
                Some((path, *unit))
            }
            _ => None,
        }
    }

    /// What has to be fetched before the request can be checked: a certificate, or a set of keys.
    pub fn wanted(&self, seen: &Seen<'_>) -> Result<Option<String>, Unverified> {
        match self.scheme() {
            Some(Scheme::PublicKey(own)) => match &own.kind {
                Kind::Rsa { key: RsaKey::Certificate(rule), .. } => {
                    // Nobody is asked for a request that can't be right.
                    own.plausible(seen)?;
                    rule.url(seen).map(Some)
                }
                Kind::Rsa { .. } | Kind::Ed25519(_) | Kind::Ecdsa => Ok(None),
            },
            Some(Scheme::Jwt(jwt)) => Ok(match &jwt.keys {
                Keys::Jwks(url) => Some(url.clone()),
                Keys::Secrets => None,
            }),
            _ => Ok(None),
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
            Self::Declared(declared) => declared.check(seen, secrets, now),
        }
    }

    /// Adds to a request what its sender would: for `send`, `demo` and `pack test`.
    pub fn sign(&self, seen: &Seen<'_>, secret: &SecretValue, now: OffsetDateTime) -> Result<Signed, String> {
        let Self::Declared(declared) = self else { return Ok(Signed::default()) };
        if declared.each.is_some() && !matches!(declared.scheme, Scheme::Token(_)) {
            return Err(
                "each item of this sender's batches is signed; write the signatures yourself".to_owned()
            );
        }
        let mut beside = Vec::new();
        if let Some(BodyDigest { place: Place::Query(name), hash, encoding }) = &declared.body_digest {
            beside.push((name.clone(), encoding.encode(&hash.digest(&seen.request.body))));
        }
        let mut request = Cow::Borrowed(seen.request);
        for (name, value) in &beside {
            let query = request::query_text(&[(name.clone(), value.clone())]);
            let own = request.query.clone();
            request.to_mut().query = own.map_or_else(
                || query.clone(),
                |own| Some(format!("{own}&{}", query.clone().unwrap_or_default())),
            );
        }
        let seen = Seen::new(&request, seen.public_url, seen.budget);
        let mut signed = match &declared.scheme {
            Scheme::Hmac(rule) => rule.sign(&seen, secret, now)?,
            Scheme::Token(token) => token.sign(secret)?,
            Scheme::PublicKey(rule) => rule.sign(&seen, secret, now)?,
            Scheme::Jwt(jwt) => jwt.sign(&seen, secret, now)?,
        };
        beside.append(&mut signed.query);
        signed.query = beside;
        Ok(signed)
    }
}

impl Declared {
    fn places(&self) -> impl Iterator<Item = &Place> {
        let own: Vec<&Place> = match &self.scheme {
            Scheme::Hmac(rule) => rule.signing.places().collect(),
            Scheme::PublicKey(rule) => rule.signing.places().chain(rule.certificate_place()).collect(),
            Scheme::Token(token) => vec![&token.place],
            Scheme::Jwt(jwt) => vec![&jwt.place],
        };
        own.into_iter().chain(self.body_digest.as_ref().map(|rule| &rule.place))
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let own: Vec<&Template> = match &self.scheme {
            Scheme::Hmac(rule) => vec![&rule.signing.signed],
            Scheme::PublicKey(rule) => vec![&rule.signing.signed],
            Scheme::Token(_) => Vec::new(),
            Scheme::Jwt(jwt) => jwt.templates().collect(),
        };
        own.into_iter()
    }

    fn check(&self, seen: &Seen<'_>, secrets: &[SecretValue], now: OffsetDateTime) -> Result<(), Unverified> {
        if let Some(rule) = &self.body_digest {
            rule.check(seen)?;
        }
        self.check_query(seen)?;
        let Some(each) = &self.each else { return self.check_one(seen, secrets, now) };
        let json = seen.json().ok_or_else(|| Unverified::bad("the body is no JSON"))?;
        let exhausted = |error: Exhausted| Unverified::bad(error.to_string());
        let items = each.all(json, seen.budget).map_err(exhausted)?;
        if items.is_empty() {
            return Err(Unverified::bad(format!("the body has no item at {}", each.text())));
        }
        if items.len() > ITEMS_MAX {
            return Err(Unverified::bad(format!("more than {ITEMS_MAX} items at {}", each.text())));
        }
        for item in items {
            // A digest of the whole body for each item takes long and no steps.
            seen.budget.check_time().map_err(exhausted)?;
            self.check_one(&seen.item(item), secrets, now)?;
        }
        Ok(())
    }

    /// Where the path is signed by itself, every parameter is signed, too, or is the signature; and each stands once, for
    /// of two the first is signed.
    fn check_query(&self, seen: &Seen<'_>) -> Result<(), Unverified> {
        let signs_path_alone = self.templates().any(Template::has_path)
            && !self.templates().any(Template::has_whole_query)
            && self.query == QueryRule::Signed;
        if !signs_path_alone || seen.request.query.is_none() {
            return Ok(());
        }
        let signed = self.templates().flat_map(Template::query_parameters);
        let places = self.places().filter_map(|place| match place {
            Place::Query(name) => Some(name.as_str()),
            _ => None,
        });
        let known: HashSet<&str> = signed.chain(places).collect();
        let mut names = HashSet::new();
        if seen.request.query_pairs().any(|(name, _)| !known.contains(name.as_str()) || !names.insert(name)) {
            return Err(Unverified::bad(
                "the path is signed, and the query has more than is signed of it (`query: unsigned` allows that)",
            ));
        }
        Ok(())
    }

    /// Under any of the forms that the URL may have.
    fn check_one(
        &self,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
        now: OffsetDateTime,
    ) -> Result<(), Unverified> {
        if self.refuses_challenges {
            let is_challenge = match &self.scheme {
                Scheme::Hmac(rule) => {
                    rule.message(seen).is_some_and(|message| handshake::is_challenge(&message))
                }
                // All that it signs looks like one.
                Scheme::Jwt(jwt) => jwt.algorithms.contains(&jwt::Algorithm::Hs256),
                Scheme::Token(_) | Scheme::PublicKey(_) => false,
            };
            if is_challenge {
                return Err(Unverified::bad("what is signed could have been signed by the handshake"));
            }
        }
        let checked = self.scheme.check(seen, secrets, now);
        match (&checked, self.url) {
            (Err(Unverified { outcome: Outcome::BadSignature, .. }), UrlForms::WithAndWithoutPort) => {
                match other_form(seen.public_url) {
                    Some(other) => self.scheme.check(&seen.at(&other), secrets, now),
                    None => checked,
                }
            }
            _ => checked,
        }
    }
}

impl Scheme {
    fn check(&self, seen: &Seen<'_>, secrets: &[SecretValue], now: OffsetDateTime) -> Result<(), Unverified> {
        match self {
            Self::Hmac(rule) => rule.check(seen, secrets, now),
            Self::Token(token) => token.check(seen, secrets),
            Self::PublicKey(rule) => rule.check(seen, secrets, now),
            Self::Jwt(jwt) => jwt.check(seen, secrets, now),
        }
    }
}

impl BodyDigest {
    fn check(&self, seen: &Seen<'_>) -> Result<(), Unverified> {
        let text = self.place.one(seen).map_err(Unverified::bad)?;
        let own = self.hash.digest(&seen.request.body);
        let same = self.encoding.decode(&text).is_some_and(|told| own.ct_eq(&told).into());
        if same { Ok(()) } else { Err(Unverified::bad("the digest beside the body is not that of the body")) }
    }
}

/// `https://a.example` as `https://a.example:443`, and with any port the same without it, as Twilio's libraries try it
/// (<https://github.com/twilio/twilio-node/blob/main/src/webhooks/webhooks.ts>).
fn other_form(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let port = if scheme == "https" { ":443" } else { ":80" };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let bare = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match bare.rsplit_once(':') {
        Some((_, own)) => Some(format!("{scheme}://{}{path}", &host[..host.len() - own.len() - 1])),
        None => Some(format!("{scheme}://{host}{port}{path}")),
    }
}

/// What a sender adds to a request to sign it.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    pub headers: HeaderMap,
    pub query: Vec<(String, String)>,
    /// Texts that belong into the body's JSON, and fields of a form.
    pub json: Vec<(JsonPath, String)>,
    pub form: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::other_form;

    #[test]
    fn the_port_that_goes_without_saying_is_said_and_left_out() {
        for (one, other) in [
            ("https://a.example", Some("https://a.example:443")),
            ("https://a.example:443/x", Some("https://a.example/x")),
            ("http://a.example/x", Some("http://a.example:80/x")),
            ("https://[2001:db8::1]/x", Some("https://[2001:db8::1]:443/x")),
            ("https://a.example:8443", Some("https://a.example")),
            ("https://a.example:8443/x:1", Some("https://a.example/x:1")),
            ("https://[2001:db8::1]:8443/x", Some("https://[2001:db8::1]/x")),
            ("a.example", None),
        ] {
            assert_eq!(other_form(one).as_deref(), other, "{one}");
        }
    }
}
