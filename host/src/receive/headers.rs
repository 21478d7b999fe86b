//! Headers as the request log keeps them: without secrets, and without the key of the URL.

use http::HeaderMap;

use crate::{
    credentials::{HIDDEN, is_secret_header, without_key},
    policy::Policy,
};

/// Of each header so many characters, and so many headers: a log is no archive.
const CHARACTERS_MAX: usize = 500;
const HEADERS_MAX: usize = 64;
/// Names and values of one row together, in bytes; the rest of the headers is counted.
const BYTES_MAX: usize = 4096;

/// `[[name, value], …]` as JSON, for the request log. Hidden is every header whose name sounds like a secret, and, where
/// the policy is known, the one in which its sender shows its token.
pub(super) fn logged(headers: &HeaderMap, path: &str, policy: Option<&Policy>) -> String {
    let proof = policy.and_then(|policy| policy.verify.token_place());
    let mut shown = Vec::new();
    let mut bytes = 0;
    for (name, value) in headers {
        let name = name.as_str();
        let is_secret = is_secret_header(name) || proof.is_some_and(|place| place.is_header(name));
        let value: String = if is_secret {
            HIDDEN.to_owned()
        } else {
            let text = String::from_utf8_lossy(value.as_bytes());
            without_key(&text, path).chars().take(CHARACTERS_MAX).collect()
        };
        bytes += name.len() + value.len();
        if shown.len() == HEADERS_MAX || bytes > BYTES_MAX {
            shown.push((HIDDEN, format!("{} more headers", headers.len() - shown.len())));
            break;
        }
        shown.push((name, value));
    }
    serde_json::to_string(&shown).unwrap_or_default()
}
