//! Headers as the request log keeps them: what may be a secret is not among them.

use http::HeaderMap;

use crate::policy::Policy;

/// Of each header so many characters, and so many headers: a log is no archive.
const CHARACTERS_MAX: usize = 500;
const HEADERS_MAX: usize = 64;
/// What stands for a value that is not shown.
const HIDDEN: &str = "…";
/// In the names of headers that carry secrets, whoever made them up.
const SECRET: [&str; 6] = ["authorization", "cookie", "token", "secret", "password", "api-key"];

/// `[[name, value], …]` as JSON. Hidden is whatever sounds like a secret, and, where the policy is known, the header in
/// which its sender shows one.
pub(super) fn logged(headers: &HeaderMap, policy: Option<&Policy>) -> String {
    let proof = policy.and_then(|policy| policy.verify.token_place());
    let shown = headers.iter().take(HEADERS_MAX).map(|(name, value)| {
        let name = name.as_str();
        let is_secret =
            SECRET.iter().any(|part| name.contains(part)) || proof.is_some_and(|place| place.is_header(name));
        let value = if is_secret {
            HIDDEN.to_owned()
        } else {
            String::from_utf8_lossy(value.as_bytes()).chars().take(CHARACTERS_MAX).collect()
        };
        (name, value)
    });
    serde_json::to_string(&shown.collect::<Vec<_>>()).unwrap_or_default()
}
