//! What a request shows and nothing may keep: headers with secrets in them, and the key of its URL wherever it is repeated.

/// What stands for a value that is not shown.
pub const HIDDEN: &str = "…";

/// What the names of headers with secrets have in them. The one list for the request log, quarantine, kept requests,
/// `keep_headers`, templates and mappers.
const SECRET_PARTS: [&str; 17] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "api-key",
    "apikey",
    "api_key",
    "access-key",
    "auth-key",
    "authkey",
    "x-auth",
    "functions-key",
    "subscription-key",
    "private-key",
];
/// A name with this in it tells deliveries apart, whatever else it has in it (`I-Twilio-Idempotency-Token`).
const NO_SECRET: &str = "idempotency";

/// Whether a header (by its lower-case name) sounds as if it carried a secret.
pub fn is_secret_header(name: &str) -> bool {
    !name.contains(NO_SECRET) && SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// Whether it carries a secret or a signature: a proof of who the sender is, which nothing behind verification needs.
pub fn is_proof_header(name: &str) -> bool {
    is_secret_header(name) || name.contains("signature")
}

/// A text without the key of the URL, which is the last segment of `path`. Proxies and browsers repeat the URL in headers
/// (`X-Original-URI`, `Referer`), as it is or percent-encoded, also several times over.
pub fn without_key(text: &str, path: &str) -> String {
    let Some(key) = path.rsplit('/').find(|segment| !segment.is_empty()) else { return text.to_owned() };
    let key: Vec<u8> = percent_encoding::percent_decode_str(key).collect();
    // The beginning of another path, or of none.
    if key.len() < KEY_BYTES_MIN || text.len() < key.len() {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = key_length(rest.as_bytes(), &key);
        if length > 0 {
            kept.push_str(HIDDEN);
        } else {
            kept.push(first);
        }
        rest = &rest[if length > 0 { length } else { first.len_utf8() }..];
    }
    kept
}

/// The path of a webhook's URL without its key.
pub fn path_without_key(path: &str) -> String {
    match path.rsplit('/').find(|segment| !segment.is_empty()) {
        Some(key) => path.replace(key, HIDDEN),
        None => path.to_owned(),
    }
}

/// Shorter segments are no keys: hiding them would hide words.
const KEY_BYTES_MIN: usize = 4;

/// How many bytes at the beginning of `text` are the key; 0 where it is not there.
fn key_length(text: &[u8], key: &[u8]) -> usize {
    let mut length = 0;
    for wanted in key {
        match unit(&text[length..]) {
            Some((byte, bytes)) if byte.eq_ignore_ascii_case(wanted) => length += bytes,
            _ => return 0,
        }
    }
    length
}

/// The byte that a text begins with and the bytes that it is written with: `w`, `%77` or `%2577`.
fn unit(text: &[u8]) -> Option<(u8, usize)> {
    let escaped = |at: usize| {
        let digits = text.get(at..at + 2)?;
        u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?, 16).ok()
    };
    let (mut byte, mut length) = (*text.first()?, 1);
    while byte == b'%' {
        let Some(decoded) = escaped(length) else { break };
        (byte, length) = (decoded, length + 2);
    }
    Some((byte, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_headers_are_known_by_their_names() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "apikey",
            "x-auth-token",
            "x-amz-security-token",
            "x-gitlab-token",
            "x-telegram-bot-api-secret-token",
            "x-auth",
            "x-functions-key",
        ] {
            assert!(is_secret_header(name) && is_proof_header(name), "{name}");
        }
        for name in
            ["content-type", "x-event-key", "idempotency-key", "i-twilio-idempotency-token", "x-github-event"]
        {
            assert!(!is_secret_header(name) && !is_proof_header(name), "{name}");
        }
        assert!(is_proof_header("x-hub-signature-256") && !is_secret_header("x-hub-signature-256"));
    }

    #[test]
    fn the_key_is_found_in_any_percent_encoding() {
        for path in ["/api/v1/webhooks/wh_aB3", "/api/v1/webhooks/wh_aB3/", "/api/v1/webhooks/%77h_aB3"] {
            for text in [
                "https://h/wh_aB3?x",
                "https://h/%77h_aB3?x",
                "https://h/wh%5faB3?x",
                "https://h/%77%68%5F%61%42%33?x",
                "https://h/%2577h%255FaB3?x",
                "https://h/%252577h_aB3?x",
                "https://h/WH_AB3?x",
            ] {
                assert_eq!(without_key(text, path), "https://h/…?x", "{text}");
            }
        }
        let path = "/api/v1/webhooks/wh_aB3";
        for text in ["https://h/wh_aB4", "%", "%7", "%zz", "é%77", "wh_aB", "%+7h_aB3"] {
            assert_eq!(without_key(text, path), text);
        }
        assert_eq!(without_key("wh_aB3wh_aB3 é", path), "…… é");
        assert_eq!(without_key("a/b", "/"), "a/b");
    }
}
