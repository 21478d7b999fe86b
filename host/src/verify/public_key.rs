//! The `ed25519`, `ecdsa` and `rsa` schemes: signatures that anybody can check and only the sender can make.

use regex::Regex;
use time::OffsetDateTime;

use super::{
    Seen, Signed, Unverified,
    digest::{Hash, KeyDecoding},
    keys::{Ecdsa, PublicKey},
    signature::{Place, Signing},
};
use crate::{secret::SecretValue, selector::JsonPath};

#[derive(Clone, Debug)]
pub struct PublicKeyRule {
    pub kind: Kind,
    pub signing: Signing,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// The secret is the key: 32 bytes so encoded, or PEM.
    Ed25519(KeyDecoding),
    /// P-256 with SHA-256, DER signatures; the secret is the key: base64 of its SPKI, or PEM.
    Ecdsa,
    Rsa {
        hash: RsaHash,
        key: RsaKey,
    },
}

#[derive(Clone, Debug)]
pub enum RsaHash {
    Always(Hash),
    /// By a value of the body.
    By(JsonPath, Vec<(String, Hash)>),
}

#[derive(Clone, Debug)]
pub enum RsaKey {
    /// The secret is the key, as PEM.
    Secret,
    /// The request names the URL of a certificate.
    Certificate(CertificateRule),
}

/// Where a certificate may come from. Both patterns match the whole of what they are for.
#[derive(Clone, Debug)]
pub struct CertificateRule {
    pub place: Place,
    pub host: Regex,
    pub path: Regex,
    /// What the common name of the certificate's subject must be.
    pub name: Option<Regex>,
}

impl CertificateRule {
    /// The URL that the request names, if the declaration allows it.
    pub fn url(&self, seen: &Seen<'_>) -> Result<String, Unverified> {
        let text = self.place.one(seen).map_err(Unverified::bad)?;
        let refused = |why: &str| Err(Unverified::bad(format!("the certificate's URL {why}")));
        let Some(rest) = text.strip_prefix("https://") else { return refused("is not https") };
        let Some((host, path)) = rest.find('/').map(|at| rest.split_at(at)) else {
            return refused("has no path");
        };
        // No port, no user, no query, nothing that two parsers could read in two ways.
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
        if !plain(host) || !plain(path) || path.contains("..") || host.contains('/') {
            return refused("has more than a host and a path");
        }
        if !self.host.is_match(host) || !self.path.is_match(path) {
            return refused("is not one that the trigger allows");
        }
        Ok(text)
    }
}

impl PublicKeyRule {
    pub fn check(
        &self,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
        now: OffsetDateTime,
    ) -> Result<(), Unverified> {
        let received = self.signing.received(seen)?;
        let message =
            self.signing.signed.bytes(seen, received.timestamp.as_deref()).map_err(Unverified::bad)?;
        let hash = self.hash(seen)?;
        let keys = self.keys(seen, secrets)?;
        let fits = |key: &PublicKey| {
            let fits = |signature: &Vec<u8>| key.verifies(&message, signature, hash, Ecdsa::Der);
            received.signatures.iter().any(fits)
        };
        if !keys.iter().any(fits) {
            return Err(Unverified::bad("the signature does not match the request under any of the keys"));
        }
        self.signing.fresh(&received, now)
    }

    /// Where the certificate's URL lies, if there is one.
    pub fn certificate_place(&self) -> Option<&Place> {
        match &self.kind {
            Kind::Rsa { key: RsaKey::Certificate(rule), .. } => Some(&rule.place),
            Kind::Rsa { .. } | Kind::Ed25519(_) | Kind::Ecdsa => None,
        }
    }

    /// Whether everything is there that is checked, whatever comes of it.
    pub fn plausible(&self, seen: &Seen<'_>) -> Result<(), Unverified> {
        let received = self.signing.received(seen)?;
        self.hash(seen)?;
        self.signing.signed.feed(seen, received.timestamp.as_deref(), |_| ()).map_err(Unverified::bad)
    }

    fn hash(&self, seen: &Seen<'_>) -> Result<Hash, Unverified> {
        match &self.kind {
            Kind::Rsa { hash: RsaHash::Always(hash), .. } => Ok(*hash),
            Kind::Rsa { hash: RsaHash::By(path, hashes), .. } => {
                let value = seen.text_at(path).map_err(Unverified::bad)?;
                let known = hashes.iter().find(|(name, _)| *name == value);
                known.map(|(_, hash)| *hash).ok_or_else(|| {
                    Unverified::bad(format!("{} has a value for which no hash is declared", path.text()))
                })
            }
            Kind::Ed25519(_) | Kind::Ecdsa => Ok(Hash::Sha256),
        }
    }

    fn keys(&self, seen: &Seen<'_>, secrets: &[SecretValue]) -> Result<Vec<PublicKey>, Unverified> {
        if let Kind::Rsa { key: RsaKey::Certificate(rule), .. } = &self.kind {
            let text = seen.fetched.ok_or_else(|| Unverified::bad("the certificate could not be had"))?;
            let key = match &rule.name {
                Some(name) => PublicKey::of_certificate(text, name),
                None => PublicKey::parse(text),
            };
            let told = "what lies at the certificate's URL is no certificate of this sender";
            return Ok(vec![key.ok_or_else(|| Unverified::bad(told))?]);
        }
        Ok(secrets.iter().filter_map(|secret| self.key(secret)).collect())
    }

    /// The key that a secret is, if it is one as declared.
    pub(super) fn key(&self, secret: &SecretValue) -> Option<PublicKey> {
        let text = std::str::from_utf8(secret.bytes()).ok()?;
        match &self.kind {
            Kind::Ed25519(decoding) if !text.contains("-----BEGIN") => {
                let raw = decoding.key(secret.bytes()).and_then(|key| key.try_into().ok());
                raw.and_then(PublicKey::ed25519)
            }
            Kind::Ed25519(_) => PublicKey::parse(text).filter(|key| matches!(key, PublicKey::Ed25519(_))),
            Kind::Ecdsa => PublicKey::parse(text).filter(|key| matches!(key, PublicKey::P256(_))),
            Kind::Rsa { .. } => PublicKey::parse(text)
                .filter(|key| matches!(key, PublicKey::Rsa(_) | PublicKey::RsaNumbers(..))),
        }
    }
}

impl PublicKeyRule {
    /// As a sender would; `secret` is the private half, or stands for one: see [`private`].
    pub fn sign(&self, seen: &Seen<'_>, secret: &SecretValue, now: OffsetDateTime) -> Result<Signed, String> {
        self.signing.write(seen, now, |timestamp| {
            let message = self.signing.signed.bytes(seen, timestamp)?;
            let hash = self.hash(seen).map_err(|unverified| unverified.detail)?;
            private::sign(&self.kind, secret.bytes(), &message, hash)
        })
    }
}

/// Keys for tests: real senders keep theirs.
pub mod private {
    use std::sync::LazyLock;

    use ring::{
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
            RSA_PKCS1_SHA512, RsaKeyPair,
        },
    };
    use sha2::{Digest, Sha256};

    use super::{Hash, Kind};
    use crate::verify::digest::{Encoding, KeyDecoding};

    /// A certificate and its key, made for this very purpose: they protect nothing.
    pub const CERTIFICATE: &str = include_str!("test-keys/rsa-certificate.pem");
    const RSA_KEY: &str = include_str!("test-keys/rsa-key.pem");
    const ECDSA_KEY: &str = include_str!("test-keys/ecdsa-key.pem");

    static RSA: LazyLock<Option<RsaKeyPair>> = LazyLock::new(|| RsaKeyPair::from_pkcs8(&der(RSA_KEY)?).ok());
    static ECDSA: LazyLock<Option<EcdsaKeyPair>> = LazyLock::new(|| {
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der(ECDSA_KEY)?, &random).ok()
    });

    fn der(pem: &str) -> Option<Vec<u8>> {
        x509_cert::der::pem::decode_vec(pem.trim().as_bytes()).ok().map(|(_, der)| der)
    }

    fn ed25519(secret: &[u8]) -> Option<Ed25519KeyPair> {
        Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(secret)).ok()
    }

    /// What a host is to be told so that it believes who signs with `secret`.
    pub fn public(kind: &Kind, secret: &[u8]) -> Option<String> {
        match kind {
            Kind::Ed25519(KeyDecoding { strip, decode, .. }) => {
                let key = ed25519(secret)?;
                let text = decode.unwrap_or(Encoding::Hex).encode(key.public_key().as_ref());
                Some(format!("{}{text}", strip.as_deref().unwrap_or_default()))
            }
            Kind::Ecdsa => {
                // The SPKI of a P-256 key is this, and the point (RFC 5480).
                const PREFIX: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
                let point = ECDSA.as_ref()?.public_key().as_ref();
                Some(Encoding::Base64.encode(&[hex::decode(PREFIX).ok()?, point.to_vec()].concat()))
            }
            Kind::Rsa { .. } => Some(CERTIFICATE.to_owned()),
        }
    }

    /// Ed25519 with a key made of the secret; ECDSA and RSA with the one key that there is for tests.
    pub(super) fn sign(kind: &Kind, secret: &[u8], message: &[u8], hash: Hash) -> Result<Vec<u8>, String> {
        let missing = || "there is no key for tests".to_owned();
        let random = SystemRandom::new();
        match kind {
            Kind::Ed25519(_) => Ok(ed25519(secret).ok_or_else(missing)?.sign(message).as_ref().to_vec()),
            Kind::Ecdsa => {
                let key = ECDSA.as_ref().ok_or_else(missing)?;
                key.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| missing())
            }
            Kind::Rsa { .. } => {
                let key = RSA.as_ref().ok_or_else(missing)?;
                let padding = match hash {
                    Hash::Sha256 => &RSA_PKCS1_SHA256,
                    Hash::Sha512 => &RSA_PKCS1_SHA512,
                    Hash::Sha1 => {
                        return Err("cases are signed with SHA-256 or SHA-512, not SHA-1".to_owned());
                    }
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).map_err(|_| missing())?;
                Ok(signature)
            }
        }
    }
}
