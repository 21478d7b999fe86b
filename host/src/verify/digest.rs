//! Hash functions and text encodings that senders use, by their names in a declaration.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    pub const NAMES: [&str; 3] = ["sha256", "sha512", "sha1"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(bytes).to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// A keyed digest under way; fed piece by piece, so that a body is never copied.
pub enum KeyedDigest {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl KeyedDigest {
    /// HMAC takes a key of any length; `None` is not seen.
    pub fn new(hash: Hash, key: &[u8]) -> Option<Self> {
        match hash {
            Hash::Sha1 => Hmac::new_from_slice(key).ok().map(Self::Sha1),
            Hash::Sha256 => Hmac::new_from_slice(key).ok().map(Self::Sha256),
            Hash::Sha512 => Hmac::new_from_slice(key).ok().map(Self::Sha512),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(mac) => mac.update(bytes),
            Self::Sha256(mac) => mac.update(bytes),
            Self::Sha512(mac) => mac.update(bytes),
        }
    }

    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha256(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha512(mac) => mac.finalize().into_bytes().to_vec(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
    Base64Url,
}

/// Padding is decoded when it is there and not missed when it isn't, and bits after the last whole byte are passed over:
/// so do the senders' own libraries (Node's `Buffer`, Python's `base64`), and secrets are handed out that need it.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose =
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT.with_encode_padding(false));

impl Encoding {
    pub const NAMES: [&str; 3] = ["hex", "base64", "base64url"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "hex" => Some(Self::Hex),
            "base64" => Some(Self::Base64),
            "base64url" => Some(Self::Base64Url),
            _ => None,
        }
    }

    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => BASE64.decode(text).ok(),
            Self::Base64Url => BASE64_URL.decode(text).ok(),
        }
    }

    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
            Self::Base64Url => BASE64_URL.encode(bytes),
        }
    }
}

/// How the text in the secret store becomes the key.
#[derive(Clone, Debug, Default)]
pub struct KeyDecoding {
    pub strip: Option<String>,
    /// `None`: the text's own bytes.
    pub decode: Option<Encoding>,
    pub digest: Option<Hash>,
}

impl KeyDecoding {
    /// Key bytes as the text that stands for them; where nothing is encoded, in hex.
    pub fn text(&self, key: &[u8]) -> String {
        let prefix = self.strip.as_deref().unwrap_or_default();
        format!("{prefix}{}", self.decode.unwrap_or(Encoding::Hex).encode(key))
    }

    /// The key that a secret stands for; `None` when the secret isn't as declared.
    pub fn key(&self, secret: &[u8]) -> Option<Vec<u8>> {
        self.read(secret).ok()
    }

    /// The same with the reason. A prefix is there or the secret is not one: taking it away only where it is there
    /// would let a declaration ask whether a secret begins so, and then so, until it has the whole of it.
    pub fn read(&self, secret: &[u8]) -> Result<Vec<u8>, Misfit> {
        let stripped = match &self.strip {
            Some(prefix) => secret.strip_prefix(prefix.as_bytes()).ok_or(Misfit::Prefix)?,
            None => secret,
        };
        let decoded = match self.decode {
            Some(encoding) => {
                let text = std::str::from_utf8(stripped).map_err(|_| Misfit::Encoding)?;
                encoding.decode(text).ok_or(Misfit::Encoding)?
            }
            None => stripped.to_vec(),
        };
        // HMAC fills a key up with zeros: one of zeros alone is the empty key, with which anyone could sign.
        if decoded.iter().all(|byte| *byte == 0) {
            return Err(Misfit::Empty);
        }
        Ok(match self.digest {
            Some(hash) => hash.digest(&decoded),
            None => decoded,
        })
    }
}

/// What of a declaration a secret does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It does not begin with what is stripped.
    Prefix,
    /// What is left is not in the declared encoding.
    Encoding,
    /// Nothing is left, or zeros alone.
    Empty,
}
