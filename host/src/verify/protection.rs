//! What a declaration protects a request from: worked out from what is signed, not from who signs.

use super::{Declared, Scheme, Verify, signature::Place, template::Template};

/// What only the sender can have written, in a request that is believed; from the weakest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// Nothing is verified.
    Url,
    /// A secret is shown, and nothing signed: with one request in hand, others can be made up.
    Token,
    /// What is signed are the signature's own fields: with one request in hand, others can be made up.
    SignatureFields,
    /// A checksum of the body is signed, and another body of the same checksum is easily made.
    Checksum,
    /// Some members of the body are signed.
    Parts,
    Body,
}

impl Protection {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Url => "secret URL only",
            Self::Token => "token only",
            Self::SignatureFields => "no payload",
            Self::Checksum => "checksum of the body",
            Self::Parts => "parts of the body",
            Self::Body => "body",
        }
    }

    /// What that means, in a sentence; nothing where it is all that one could want.
    pub const fn warning(self) -> Option<&'static str> {
        match self {
            Self::Url => Some("nothing is signed: anyone who knows the URL can send anything"),
            Self::Token => {
                Some("nothing is signed: anyone who sees one request has its token, and can send anything")
            }
            Self::SignatureFields => Some(
                "the signature covers its own fields and nothing of the payload: anyone who sees one request can send \
                 another payload with its signature",
            ),
            Self::Checksum => Some(
                "the body is signed by a checksum only: anyone who sees one request can send another body that is made to \
                 have the same",
            ),
            Self::Parts => Some(
                "only the named parts of the body are signed: anyone who sees one request can send it with the others \
                 changed",
            ),
            Self::Body => None,
        }
    }
}

impl Verify {
    /// What a request that passes is protected by.
    pub fn protects(&self) -> Protection {
        match self {
            Self::Nothing => Protection::Url,
            Self::Declared(declared) => declared.protects(),
        }
    }

    /// Whether a time is signed, and checked against the clock: else a request that was signed once is believed for ever.
    pub fn checks_time(&self) -> bool {
        match self.scheme() {
            Some(Scheme::Hmac(rule)) => rule.signing.checks_time(),
            Some(Scheme::PublicKey(rule)) => rule.signing.checks_time(),
            // Whether a token expires is the sender's to say.
            Some(Scheme::Jwt(_)) => true,
            Some(Scheme::Token(_)) | None => false,
        }
    }
}

impl Declared {
    fn protects(&self) -> Protection {
        if self.body_digest.is_some() {
            return Protection::Body;
        }
        match &self.scheme {
            Scheme::Hmac(rule) => of_template(&rule.signing.signed, Some(&rule.signing.signature.place)),
            Scheme::PublicKey(rule) => of_template(&rule.signing.signed, Some(&rule.signing.signature.place)),
            Scheme::Jwt(jwt) => jwt
                .templates()
                .filter(|template| template.covers_parts_of_body())
                .map(|template| of_template(template, None))
                .max()
                .unwrap_or(Protection::Token),
            Scheme::Token(_) => Protection::Token,
        }
    }
}

fn of_template(signed: &Template, signature: Option<&Place>) -> Protection {
    if signed.covers_body_by_digest() {
        return Protection::Body;
    }
    if signed.covers_body() {
        return Protection::Checksum;
    }
    match signature {
        Some(Place::Json(path)) if signed.covers_only_beside(path) => Protection::SignatureFields,
        _ => Protection::Parts,
    }
}
