//! The `token` scheme: the sender shows a secret in the clear, compared in constant time.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Seen, Signed, Unverified, digest::Encoding, signature::Place};
use crate::secret::SecretValue;

#[derive(Clone, Debug)]
pub struct Token {
    pub place: Place,
    /// In front of the token, for example `Bearer `.
    pub prefix: Option<String>,
    /// The token is base64 of the secret, `user:password` (RFC 7617).
    pub basic: bool,
}

impl Token {
    pub fn check(&self, seen: &Seen<'_>, secrets: &[SecretValue]) -> Result<(), Unverified> {
        let text = self.place.one(seen).map_err(Unverified::bad)?;
        let prefix = self.prefix.as_deref().unwrap_or_default();
        // The name of an authorization scheme is written as anybody likes (RFC 9110, section 11.1).
        let token = match text.split_at_checked(prefix.len()) {
            Some((own, token)) if own == prefix || (self.basic && own.eq_ignore_ascii_case(prefix)) => token,
            _ => return Err(Unverified::bad("the token lacks its declared prefix")),
        };
        let token = if self.basic {
            let decoded = Encoding::Base64.decode(token.trim());
            decoded.ok_or_else(|| Unverified::bad("the token is not base64"))?
        } else {
            token.as_bytes().to_vec()
        };
        // Digests are compared, so that not even the length of a secret shows in the time taken.
        let shown = Sha256::digest(&token);
        let mut matched = subtle::Choice::from(0);
        for secret in secrets {
            matched |= Sha256::digest(secret.bytes()).ct_eq(&shown);
        }
        if bool::from(matched) { Ok(()) } else { Err(Unverified::bad("the token is none of the secrets")) }
    }

    pub fn sign(&self, secret: &SecretValue) -> Result<Signed, String> {
        let mut signed = Signed::default();
        let token = if self.basic {
            Encoding::Base64.encode(secret.bytes())
        } else {
            std::str::from_utf8(secret.bytes()).map_err(|_| "the secret is not text".to_owned())?.to_owned()
        };
        self.place.put(format!("{}{token}", self.prefix.as_deref().unwrap_or_default()), &mut signed)?;
        Ok(signed)
    }
}
