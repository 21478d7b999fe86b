//! The `jwt` scheme: a signed token whose claims vouch for the request (RFC 7519).
//!
//! Written here and not taken from `jsonwebtoken` 12, which was looked at: it brings a second cryptographic library
//! beside `ring` (its own providers are `RustCrypto` and aws-lc), takes a claim that it can't read for one that is missing
//! unless it is required, and has no place for claims that are made of the request. What a strict reader refuses is
//! refused here: a name that stands twice, `crit`, times that are not numbers, keys that are for something else.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    Seen, Signed, Unverified,
    digest::{Encoding, Hash, KeyDecoding},
    keys::{Ecdsa, PublicKey},
    signature::Place,
    template::Template,
};
use crate::{
    json::{self, same},
    secret::SecretValue,
};

#[derive(Clone, Debug)]
pub struct Jwt {
    pub place: Place,
    /// In front of the token, for example `Bearer `.
    pub prefix: Option<String>,
    /// The only ones that count, whatever a token says of itself.
    pub algorithms: Vec<Algorithm>,
    pub secret: KeyDecoding,
    pub keys: Keys,
    /// Seconds since it was issued.
    pub max_age: Option<u32>,
    pub claims: Vec<(String, Claim)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// Where the keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// The secrets: text for HS256, PEM or a JWK set for the others.
    Secrets,
    /// A JWK set at this URL.
    Jwks(String),
}

#[derive(Clone, Debug)]
pub enum Claim {
    Const(Value),
    /// Made of the request.
    Template(Template),
}

impl Algorithm {
    pub const NAMES: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether a key is one for it: a token must not choose what its key is taken for.
    pub(super) const fn is_for(self, key: &PublicKey) -> bool {
        matches!(
            (self, key),
            (Self::Rs256, PublicKey::Rsa(_) | PublicKey::RsaNumbers(..))
                | (Self::Es256, PublicKey::P256(_))
                | (Self::EdDsa, PublicKey::Ed25519(_))
        )
    }
}

/// Longer tokens are none.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Clocks differ.
const LEEWAY: i64 = 60;
/// Keys of one set that are tried.
const KEYS_MAX: usize = 32;

/// A token, taken apart.
struct Parts<'a> {
    /// What is signed: header and claims as they came.
    signed: &'a str,
    header: Value,
    claims: Value,
    signature: Vec<u8>,
}

impl Jwt {
    pub fn check(
        &self,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
        now: OffsetDateTime,
    ) -> Result<(), Unverified> {
        let text = self.place.one(seen).map_err(Unverified::bad)?;
        let Some(token) = text.strip_prefix(self.prefix.as_deref().unwrap_or_default()) else {
            return Err(Unverified::bad("the token lacks its declared prefix"));
        };
        let parts = parts(token).ok_or_else(|| Unverified::bad("the token is no JWT"))?;
        // Extensions that must be understood (RFC 7515, section 4.1.11), and none is.
        if parts.header.get("crit").is_some() {
            return Err(Unverified::bad("the token names critical extensions, and none is understood"));
        }
        let algorithm = parts.header["alg"].as_str().and_then(Algorithm::from_name);
        let Some(algorithm) = algorithm.filter(|algorithm| self.algorithms.contains(algorithm)) else {
            return Err(Unverified::bad("the token's algorithm is not one that the trigger declares"));
        };
        if !self.is_signed(&parts, algorithm, seen, secrets)? {
            return Err(Unverified::bad("the token's signature does not match under any of the keys"));
        }
        self.vouches(&parts.claims, seen)?;
        self.fresh(&parts.claims, now)
    }

    fn is_signed(
        &self,
        parts: &Parts<'_>,
        algorithm: Algorithm,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
    ) -> Result<bool, Unverified> {
        if algorithm == Algorithm::Hs256 {
            let fits = |secret: &SecretValue| {
                let key = self.secret.key(secret.bytes());
                let key = key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
                key.is_some_and(|key| hmac::verify(&key, parts.signed.as_bytes(), &parts.signature).is_ok())
            };
            return Ok(secrets.iter().any(fits));
        }
        let kid = match &parts.header["kid"] {
            Value::Null => None,
            Value::String(kid) => Some(kid.as_str()),
            _ => return Err(Unverified::bad("the token's key id is not a text")),
        };
        let keys = match &self.keys {
            Keys::Jwks(_) => {
                let text =
                    seen.fetched.ok_or_else(|| Unverified::bad("the sender's keys could not be had"))?;
                keys_of(text, kid, algorithm)
            }
            Keys::Secrets => {
                let texts = secrets.iter().filter_map(|secret| std::str::from_utf8(secret.bytes()).ok());
                texts.flat_map(|text| keys_of(text, kid, algorithm)).collect()
            }
        };
        let message = parts.signed.as_bytes();
        let fits = |key: &PublicKey| key.verifies(message, &parts.signature, Hash::Sha256, Ecdsa::Fixed);
        Ok(keys.iter().filter(|key| algorithm.is_for(key)).any(fits))
    }

    fn vouches(&self, claims: &Value, seen: &Seen<'_>) -> Result<(), Unverified> {
        for (name, wanted) in &self.claims {
            let own = &claims[name.as_str()];
            let holds = match (own, name.as_str()) {
                // It may be a list of those whom it is for (RFC 7519, section 4.1.3).
                (Value::Array(all), "aud") => {
                    let mut holds = false;
                    for own in all {
                        holds |= wanted.is(own, seen)?;
                    }
                    holds
                }
                (own, _) => wanted.is(own, seen)?,
            };
            if !holds {
                return Err(Unverified::bad(format!(
                    "the token's claim `{name}` does not vouch for this request"
                )));
            }
        }
        Ok(())
    }

    fn fresh(&self, claims: &Value, now: OffsetDateTime) -> Result<(), Unverified> {
        let now = now.unix_timestamp();
        let (exp, nbf, iat) = (time(claims, "exp")?, time(claims, "nbf")?, time(claims, "iat")?);
        if exp.is_some_and(|exp| now > exp.saturating_add(LEEWAY)) {
            return Err(Unverified::stale("the token has expired"));
        }
        if nbf.is_some_and(|nbf| now < nbf.saturating_sub(LEEWAY)) {
            return Err(Unverified::stale("the token is not valid yet"));
        }
        if let Some(max_age) = self.max_age {
            let Some(iat) = iat else {
                return Err(Unverified::bad("the token does not say when it was issued"));
            };
            if now.saturating_sub(iat).unsigned_abs() > u64::from(max_age) {
                return Err(Unverified::stale(format!(
                    "the token was issued more than {max_age} s from now"
                )));
            }
        }
        Ok(())
    }

    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.claims.iter().filter_map(|(_, claim)| match claim {
            Claim::Template(template) => Some(template),
            Claim::Const(_) => None,
        })
    }

    /// As a sender would, with a shared secret; other keys are the sender's alone.
    pub fn sign(&self, seen: &Seen<'_>, secret: &SecretValue, now: OffsetDateTime) -> Result<Signed, String> {
        if !self.algorithms.contains(&Algorithm::Hs256) {
            return Err("only the sender can sign with its private key".to_owned());
        }
        let mut claims = serde_json::Map::new();
        for (name, claim) in &self.claims {
            let value = match claim {
                Claim::Const(value) => value.clone(),
                Claim::Template(template) => {
                    Value::String(String::from_utf8_lossy(&template.bytes(seen, None)?).into_owned())
                }
            };
            claims.insert(name.clone(), value);
        }
        claims.insert("iat".to_owned(), now.unix_timestamp().into());
        claims.insert("exp".to_owned(), (now.unix_timestamp() + 300).into());
        let encode = |value: &Value| Encoding::Base64Url.encode(value.to_string().as_bytes());
        let header = serde_json::json!({"alg": Algorithm::Hs256.name(), "typ": "JWT"});
        let text = format!("{}.{}", encode(&header), encode(&Value::Object(claims)));
        let key =
            self.secret.key(secret.bytes()).ok_or("the secret is not encoded as the trigger declares")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signature = Encoding::Base64Url.encode(hmac::sign(&key, text.as_bytes()).as_ref());
        let mut signed = Signed::default();
        let prefix = self.prefix.as_deref().unwrap_or_default();
        self.place.put(format!("{prefix}{text}.{signature}"), &mut signed)?;
        Ok(signed)
    }
}

impl Claim {
    /// Whether a claim of the token says what is wanted of this request.
    fn is(&self, own: &Value, seen: &Seen<'_>) -> Result<bool, Unverified> {
        match self {
            Self::Const(wanted) => Ok(same(own, wanted)),
            Self::Template(template) => {
                let wanted = template.bytes(seen, None).map_err(Unverified::bad)?;
                let Some(own) = own.as_str() else { return Ok(false) };
                // Senders of base64 differ in its padding.
                let own = if template.ends_in_base64() { own.trim_end_matches('=') } else { own };
                let wanted =
                    if template.ends_in_base64() { without_padding(&wanted) } else { wanted.as_slice() };
                Ok(own.as_bytes() == wanted)
            }
        }
    }
}

/// The time that a claim names, if it is there: a number of seconds (RFC 7519, section 2), which may have a fraction or
/// an exponent. One that can't be read is not one that is missing.
fn time(claims: &Value, name: &str) -> Result<Option<i64>, Unverified> {
    match &claims[name] {
        Value::Null if claims.get(name).is_none() => Ok(None),
        Value::Number(number) => match number.as_f64().filter(|seconds| seconds.is_finite()) {
            Some(seconds) => Ok(Some(whole(seconds))),
            None => Err(Unverified::bad(format!("the token's `{name}` is out of range"))),
        },
        _ => Err(Unverified::bad(format!("the token's `{name}` is not a number"))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a time out of range is clamped, and then too far away")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

fn without_padding(text: &[u8]) -> &[u8] {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    &text[..text.len() - padding]
}

/// A token in its three parts; `None` where it is none, or could be read in two ways.
fn parts(token: &str) -> Option<Parts<'_>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    // Without padding and with no stray bits (RFC 7515, section 2).
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let read = |text: &str| {
        let text = decode(text)?;
        let value = json::parse(&text).ok().filter(Value::is_object)?;
        // Another parser could take the first of two.
        (!json::repeats_a_name(&value, &text)).then_some(value)
    };
    Some(Parts { signed, header: read(header)?, claims: read(claims)?, signature: decode(signature)? })
}

/// The keys of a text: a JWK set, one JWK, PEM, or base64. Of JWKs, those that are for signatures of this algorithm and
/// have the key id, where the token names one.
fn keys_of(text: &str, kid: Option<&str>, algorithm: Algorithm) -> Vec<PublicKey> {
    let named = |jwk: &Value| kid.is_none() || jwk["kid"].is_null() || jwk["kid"].as_str() == kid;
    keys_where(text, |jwk| named(jwk) && is_for_signatures(jwk, algorithm))
}

/// The keys of a text, of JWKs those that fit.
pub(super) fn keys_where(text: &str, fits: impl Fn(&Value) -> bool) -> Vec<PublicKey> {
    let Ok(document) = json::parse(text.as_bytes()) else {
        return PublicKey::parse(text).into_iter().collect();
    };
    let one = std::slice::from_ref(&document);
    let keys = document["keys"].as_array().map_or(one, Vec::as_slice);
    keys.iter().filter(|jwk| fits(jwk)).take(KEYS_MAX).filter_map(PublicKey::from_jwk).collect()
}

/// Whether nothing in a JWK says that it is for something else (RFC 7517, sections 4.2 to 4.4).
fn is_for_signatures(jwk: &Value, algorithm: Algorithm) -> bool {
    let absent_or = |name: &str, wanted: &str| jwk[name].is_null() || jwk[name] == wanted;
    let verifies = jwk["key_ops"].is_null()
        || jwk["key_ops"].as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
    absent_or("use", "sig") && absent_or("alg", algorithm.name()) && verifies
}
