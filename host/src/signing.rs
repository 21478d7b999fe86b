//! Who vouches for an archive: ed25519 over its bytes.

use std::{fmt, path::Path};

use anyhow::{Context, Result, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::weak_keys::is_weak_ed25519;

/// Whose signature counts: an ed25519 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// What stands before the 32 bytes of an ed25519 key in the form that `openssl pkey -pubout` writes (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl PublicKey {
    /// Base64 of the 32 bytes, or what `openssl pkey -pubout` prints, with or without its first and last line.
    fn parse(text: &str) -> Result<Self, String> {
        let told = || format!("`{}` is no ed25519 public key in base64", text.trim());
        let inside: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let bytes = BASE64_STANDARD.decode(inside).map_err(|_| told())?;
        let key = bytes.strip_prefix(&SPKI).unwrap_or(&bytes);
        let key = key.try_into().map_err(|_| told())?;
        if is_weak_ed25519(&key) {
            return Err(format!("`{}` is a key under which anyone can sign", text.trim()));
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A signature of `archive`, as it is written into the file beside it; `key` is a file as `openssl genpkey` makes it.
/// With it, the key that others check it by.
pub fn sign(archive: &[u8], key: &Path) -> Result<(String, PublicKey)> {
    let doing = || format!("the signing key {}", key.display());
    let help = "`openssl genpkey -algorithm ed25519 -out FILE` makes one";
    let der = PrivatePkcs8KeyDer::from_pem_file(key).map_err(|error| anyhow!("{error:?}: {help}"));
    let der = der.with_context(doing)?;
    // OpenSSL's files have the private half alone.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
    let pair =
        pair.map_err(|error| anyhow!("this is no ed25519 key ({error}): {help}")).with_context(doing)?;
    let public = ring::signature::KeyPair::public_key(&pair).as_ref().try_into().map(PublicKey);
    let public = public.map_err(|_| anyhow!("this key has no public half")).with_context(doing)?;
    Ok((format!("{}\n", BASE64_STANDARD.encode(pair.sign(archive))), public))
}

/// Whether one of `keys` has signed the archive; an error says why none has.
pub fn check(archive: &[u8], signature: &str, keys: &[PublicKey]) -> Result<(), &'static str> {
    // Tools break lines as they like.
    let signature: String = signature.split_ascii_whitespace().collect();
    let Ok(signature) = BASE64_STANDARD.decode(signature) else {
        return Err("is not a signature in base64");
    };
    let signed =
        |key: &PublicKey| UnparsedPublicKey::new(&ED25519, key.0).verify(archive, &signature).is_ok();
    if keys.iter().any(signed) {
        Ok(())
    } else {
        Err("is not a signature of this archive by a key of `require_signed_packs`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_read_in_each_form_that_tools_print() {
        // RFC 8032, section 7.1, test 1.
        let raw = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let spki = BASE64_STANDARD.encode([&SPKI[..], &raw].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
        for text in [BASE64_STANDARD.encode(&raw), spki, pem] {
            assert_eq!(PublicKey::parse(&text).unwrap().0.as_slice(), raw);
        }
        assert!(PublicKey::parse("AAAA").is_err() && PublicKey::parse("!").is_err());
    }
}
