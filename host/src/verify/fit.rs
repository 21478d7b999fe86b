//! Whether a secret can be used as a declaration says: decided when it is set or loaded, never by a request.
//!
//! A value that does not fit is unusable as a whole, and its webhook then answers 503 like one without a secret. This
//! answer tells whether a value begins with the declared prefix, so only those may choose a prefix who may know the
//! secret anyway: the pack that the secret belongs to, and operators whose token reaches every pack
//! (`policy_secrets`, `operate::overrides`).

use super::{
    Scheme, Verify,
    digest::{Encoding, KeyDecoding, Misfit},
    jwt::{Algorithm, Jwt, keys_where},
    keys::PublicKey,
    public_key::Kind,
};
use crate::secret::SecretValue;

impl Verify {
    /// Whether the value can be used so; the error says what a usable one looks like, and nothing of this one.
    pub fn fits(&self, secret: &SecretValue) -> Result<(), String> {
        if secret.is_blank() {
            return Err("it has more in it than blanks".to_owned());
        }
        match self.scheme() {
            // Certificates and key sets come from elsewhere: then names of secrets are for handshakes alone.
            _ if !self.needs_secret() => Ok(()),
            Some(Scheme::Hmac(rule)) => shared(&rule.secret, secret),
            Some(Scheme::Token(token)) if token.basic && secret.bytes() == b":" => {
                Err("it is a name and a password, `user:password`".to_owned())
            }
            None | Some(Scheme::Token(_)) => Ok(()),
            Some(Scheme::PublicKey(rule)) => match rule.key(secret) {
                Some(key) if key.is_sound() => Ok(()),
                _ => Err(public(&rule.kind)),
            },
            Some(Scheme::Jwt(jwt)) => jwt.fits(secret),
        }
    }

    /// The keys of MACs that the value stands for: its own bytes, and what the declaration makes of them.
    pub fn mac_keys(&self, secret: &SecretValue) -> Vec<Vec<u8>> {
        let derived = match self.scheme() {
            Some(Scheme::Hmac(rule)) => rule.secret.key(secret.bytes()),
            Some(Scheme::Jwt(jwt)) if jwt.algorithms.contains(&Algorithm::Hs256) => {
                jwt.secret.key(secret.bytes())
            }
            None | Some(Scheme::Token(_) | Scheme::PublicKey(_) | Scheme::Jwt(_)) => None,
        };
        std::iter::once(secret.bytes().to_vec()).chain(derived).collect()
    }

    /// What a shared secret begins with, where one is declared.
    pub fn secret_prefix(&self) -> Option<&str> {
        match self.scheme()? {
            Scheme::Hmac(rule) => rule.secret.strip.as_deref(),
            Scheme::Jwt(jwt) => jwt.secret.strip.as_deref(),
            Scheme::Token(_) | Scheme::PublicKey(_) => None,
        }
    }
}

impl Jwt {
    fn fits(&self, secret: &SecretValue) -> Result<(), String> {
        if self.algorithms.contains(&Algorithm::Hs256) {
            return shared(&self.secret, secret);
        }
        let text = std::str::from_utf8(secret.bytes()).unwrap_or_default();
        // What a key says that it is for is a matter of each token.
        let is_sound =
            |key: &PublicKey| key.is_sound() && self.algorithms.iter().any(|algorithm| algorithm.is_for(key));
        if keys_where(text, |_| true).iter().any(is_sound) {
            return Ok(());
        }
        Err("it is a public key as PEM, or a JWK set with at least one key".to_owned())
    }
}

fn shared(decoding: &KeyDecoding, secret: &SecretValue) -> Result<(), String> {
    let prefix = decoding.strip.as_ref().map(|prefix| format!("`{prefix}`"));
    let encoding = match decoding.decode {
        Some(Encoding::Hex) => "hex",
        Some(Encoding::Base64) => "base64",
        Some(Encoding::Base64Url) => "base64url",
        None => "text",
    };
    decoding.read(secret.bytes()).map(drop).map_err(|misfit| match (misfit, prefix) {
        (Misfit::Prefix, Some(prefix)) => format!("it begins with {prefix}, then comes {encoding}"),
        (Misfit::Encoding, Some(prefix)) => format!("what comes after {prefix} is {encoding}"),
        (Misfit::Prefix | Misfit::Encoding, None) => format!("it is {encoding}"),
        (Misfit::Empty, _) => "it stands for a key with more than zeros in it".to_owned(),
    })
}

fn public(kind: &Kind) -> String {
    match kind {
        Kind::Ed25519(_) => {
            "it is an ed25519 public key, encoded as declared, and not one under which anyone can sign"
        }
        Kind::Ecdsa => "it is a P-256 public key, base64 of its SPKI or PEM",
        Kind::Rsa { .. } => "it is an RSA public key or a certificate, 2048 to 8192 bits, as PEM",
    }
    .to_owned()
}
