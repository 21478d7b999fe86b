//! The `token` scheme: the sender shows a secret in the clear, compared in constant time.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Seen, Signed, Unverified, signature::Place};
use crate::secret::SecretValue;

#[derive(Clone, Debug)]
pub struct Token {
    pub place: Place,
    /// In front of the token, for example `Bearer `.
    pub prefix: Option<String>,
}

impl Token {
    pub fn check(&self, seen: &Seen<'_>, secrets: &[SecretValue]) -> Result<(), Unverified> {
        let text = self.place.one(seen).map_err(Unverified::bad)?;
        let Some(token) = text.strip_prefix(self.prefix.as_deref().unwrap_or_default()) else {
            return Err(Unverified::bad("the token lacks its declared prefix"));
        };
        // Digests are compared, so that not even the length of a secret shows in the time taken.
        let shown = Sha256::digest(token.as_bytes());
        let mut matched = subtle::Choice::from(0);
        for secret in secrets {
            matched |= Sha256::digest(secret.bytes()).ct_eq(&shown);
        }
        if bool::from(matched) { Ok(()) } else { Err(Unverified::bad("the token is none of the secrets")) }
    }

    pub fn sign(&self, secret: &SecretValue) -> Result<Signed, String> {
        let mut signed = Signed::default();
        let token = std::str::from_utf8(secret.bytes()).map_err(|_| "the secret is not text".to_owned())?;
        self.place.put(format!("{}{token}", self.prefix.as_deref().unwrap_or_default()), &mut signed)?;
        Ok(signed)
    }
}
