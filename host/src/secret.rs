//! Secrets: values that never print, where they are found, and the master key that seals what we keep.

mod master_key;
mod ownership;
mod private_file;
mod sources;
mod stored;

use std::{collections::HashMap, fmt, path::Path, sync::Arc};

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

pub use self::{
    master_key::MasterKey,
    ownership::{Grants, Owner, Ownership},
    sources::{Found, Origin, SecretSources, without_mark},
    stored::{StoredGrant, StoredSecret, StoredSecrets},
};

/// The bytes of one secret; its debug form says nothing about them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has nothing in it that one can see: white space, control characters, fillers of no width. Such
    /// a value was set by mistake.
    pub fn is_blank(&self) -> bool {
        String::from_utf8_lossy(&self.0).chars().all(is_invisible)
    }
}

fn is_invisible(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Every secret that the host knows, by name; each name has one or more live values, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(HashMap<String, Vec<SecretValue>>);

impl Secrets {
    /// The live values of one name; empty when nobody has provided it yet.
    pub fn values(&self, name: &str) -> &[SecretValue] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The live values of all these names.
    pub fn of(&self, names: &[String]) -> Vec<SecretValue> {
        names.iter().flat_map(|name| self.values(name)).cloned().collect()
    }

    /// One more value of a name, older than those that are there.
    pub fn add(&mut self, name: impl Into<String>, value: SecretValue) {
        self.0.entry(name.into()).or_default().push(value);
    }

    pub fn insert(&mut self, name: impl Into<String>, values: Vec<SecretValue>) {
        self.0.insert(name.into(), values);
    }
}

/// A secret among the settings: read like any text, never written.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

/// As for any text, but for its errors: those of the libraries quote what they found.
struct TextVisitor;

impl de::Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<String, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        Err(E::custom(UNQUOTED))
    }
}

const UNQUOTED: &str = "this is no text: put it into quotes";

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn get(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// What stands in the database for a key or a token.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A fresh endpoint key: `wh_` and 32 random alphanumerics (190 bits).
pub fn endpoint_key() -> Result<String> {
    Ok(format!("wh_{}", alphanumerics(32)?))
}

/// A fresh token of the management API: `hp_` and 40 random alphanumerics (238 bits).
pub fn api_token() -> Result<String> {
    Ok(format!("hp_{}", alphanumerics(40)?))
}

/// Reads the token file of the admin, or makes it at first start; and whether it was made now.
pub fn load_or_make_token(path: &Path) -> Result<(SecretText, bool)> {
    let (token, is_fresh) = private_file::read_or_make(path, api_token)?;
    Ok((SecretText(token), is_fresh))
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system's random source")?;
    Ok(bytes)
}

/// Random characters of `[A-Za-z0-9]`, each equally likely.
fn alphanumerics(count: usize) -> Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(count);
    while text.len() < count {
        // 248 is the largest multiple of 62 in a byte; what lies above would favour the first letters.
        let fair = random::<64>()?.into_iter().filter(|byte| *byte < 248);
        text.extend(fair.take(count - text.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_key_is_wh_and_32_alphanumerics() {
        let key = endpoint_key().unwrap();
        assert_eq!(key.len(), 35);
        assert!(key.strip_prefix("wh_").unwrap().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(key, endpoint_key().unwrap());
    }

    #[test]
    fn what_nobody_can_see_is_blank() {
        for blank in
            ["", " ", "\t\r\n", "\0\0", "\u{a0}\u{2003}\u{3000}", "\u{200b}\u{feff}", "\u{1b}\u{7f}\u{85}"]
        {
            assert!(SecretValue::new(blank).is_blank(), "{blank:?}");
        }
        for text in ["x", " x ", ".", "\u{200b}x", "é"] {
            assert!(!SecretValue::new(text).is_blank(), "{text:?}");
        }
        assert!(!SecretValue::new([0xff]).is_blank());
    }

    #[test]
    fn a_secret_never_prints() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2")), "SecretValue(…)");
        assert_eq!(format!("{:?}", SecretText::new("hunter2")), "SecretText(…)");
        assert_eq!(serde_json::to_string(&SecretText::new("hunter2")).unwrap(), "\"…\"");
    }
}
