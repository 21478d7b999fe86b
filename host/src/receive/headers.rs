//! Headers as they are kept: nowhere the key of the URL, and in the log nothing that may be a secret.

use http::HeaderMap;

use crate::{model::is_secret_header, policy::Policy};

/// Of each header so many characters, and so many headers: a log is no archive.
const CHARACTERS_MAX: usize = 500;
const HEADERS_MAX: usize = 64;
/// What stands for a value that is not shown.
const HIDDEN: &str = "…";

/// `[[name, value], …]` as JSON, for the request log. Hidden is whatever sounds like a secret, and, where the policy is
/// known, the header in which its sender shows one.
pub(super) fn logged(headers: &HeaderMap, path: &str, policy: Option<&Policy>) -> String {
    let proof = policy.and_then(|policy| policy.verify.token_place());
    let shown = headers.iter().take(HEADERS_MAX).map(|(name, value)| {
        let name = name.as_str();
        let is_secret = is_secret_header(name) || proof.is_some_and(|place| place.is_header(name));
        let value = if is_secret {
            HIDDEN.to_owned()
        } else {
            without_key(value.as_bytes(), path).chars().take(CHARACTERS_MAX).collect()
        };
        (name, value)
    });
    serde_json::to_string(&shown.collect::<Vec<_>>()).unwrap_or_default()
}

/// The text of a header. Proxies repeat the URL in some (`X-Original-URI`, `Referer`), and its last part is the key.
pub(super) fn without_key(value: &[u8], path: &str) -> String {
    let text = String::from_utf8_lossy(value);
    match key_of(path) {
        "" => text.into_owned(),
        key => text.replace(key, HIDDEN),
    }
}

/// The key in the path of a webhook URL: its last part, whether or not a slash comes after it.
fn key_of(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// The path of a webhook URL without its key.
pub(super) fn path_without_key(path: &str) -> String {
    match key_of(path) {
        "" => path.to_owned(),
        key => path.replace(key, HIDDEN),
    }
}
