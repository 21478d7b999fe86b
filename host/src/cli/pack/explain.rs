//! `hookpack pack check --explain`: in plain words, what a trigger demands of its sender, and a request that it accepts.

use http::HeaderName;

use crate::{
    cli::output,
    matching::{Condition, Line},
    pack::{Pack, Trigger, cases::Case},
    policy::{Idempotency, KeySource, OnInvalid, Policy},
    selector::Selector,
    verify::{
        Declared, Scheme, UrlForms, Verify,
        digest::{Encoding, Hash, KeyDecoding},
        hmac::{Hmac, Keying},
        jwt::Keys,
        public_key::{Kind, RsaKey},
        signature::{Place, Signing, TimestampPlace, Unit},
    },
};

/// Tells of a pack's own URL and of each trigger's.
pub(super) fn explain(pack: &Pack, cases: &[Case]) {
    if pack.endpoint_enabled {
        one(&pack.reference, &pack.policy, &[], cases);
    }
    for trigger in &pack.triggers {
        one(&trigger.reference, &trigger.policy, &demands_of(trigger), cases);
    }
}

fn one(reference: &str, policy: &Policy, more: &[String], cases: &[Case]) {
    output::line(&format!("\n{reference}: a POST to its URL, and"));
    let demands = [of_verify(policy), of_policy(policy), weaknesses(policy)].concat();
    for demand in demands.iter().chain(more) {
        output::line(&format!("  - {demand}"));
    }
    let case = cases.iter().find(|case| case.target_ref == reference && case.expect.status == 200);
    match recipe(policy, case) {
        Some(lines) => {
            output::line("  For example, with bash, openssl and curl:");
            for line in &lines {
                output::line(&format!("    {line}"));
            }
        }
        None => output::line("  Only its sender can make an accepted request."),
    }
}

fn demands_of(trigger: &Trigger) -> Vec<String> {
    let line = |line: &Line| {
        let what = match &line.condition {
            Condition::Equals(value) => format!("is {value}"),
            Condition::AnyOf(values) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                format!("is one of {}", values.join(", "))
            }
            Condition::Satisfies(_) => "fits its schema".to_owned(),
        };
        format!("only where `{}` {what}; anything else is acknowledged and ignored", line.text)
    };
    let mut told: Vec<_> = trigger.matching.0.iter().map(line).collect();
    told.push(match trigger.policy.on_invalid {
        OnInvalid::Reject => "a payload that does not fit `payload_schema` is refused with 422".to_owned(),
        OnInvalid::Quarantine => {
            "a payload that does not fit `payload_schema` is kept in quarantine, and answered 202".to_owned()
        }
    });
    told
}

fn of_policy(policy: &Policy) -> Vec<String> {
    let mut told = vec![format!("at most {} kB of body", policy.body_bytes_max / 1024)];
    if let Some(list) = &policy.ip_allowlist {
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        told.push(format!("from {}", list.join(", ")));
    }
    if let Some(limit) = policy.rate_limit {
        told.push(format!("at most {} authentic requests in {} s", limit.requests, limit.window_seconds));
    }
    if let Some(Idempotency { key, event_key, window, required }) = &policy.idempotency {
        let key = match key {
            KeySource::Select(selector) => Some(format!("`{selector}`")),
            KeySource::BodyDigest => Some("body".to_owned()),
            KeySource::Nothing => None,
        };
        let hours = window.as_secs() / 3600;
        if let Some(key) = &key {
            told.push(format!(
                "a second one of the same {key} within {hours} h is answered like the first, and not stored"
            ));
        }
        if let Some(selector) = event_key {
            told.push(format!("an event with the same `{selector}` within {hours} h is not stored again"));
        }
        if *required {
            let keys = key.into_iter().chain(event_key.as_ref().map(|selector| format!("`{selector}`")));
            told.push(format!("one without {} is refused", keys.collect::<Vec<_>>().join(" and ")));
        }
    }
    told
}

/// What that does not protect from.
fn weaknesses(policy: &Policy) -> Vec<String> {
    let protection = policy.verify.protects();
    let mut told = vec![format!("protected: {}", protection.word())];
    told.extend(protection.warning().map(str::to_owned));
    if !policy.verify.signs_body() {
        return told;
    }
    if !policy.verify.checks_time() {
        told.push(
            "no signed time is checked: a request that was signed once can be sent again later".to_owned(),
        );
    }
    if let Some(Idempotency { key: KeySource::Select(Selector::Header(name)), .. }) = &policy.idempotency
        && !policy.verify.signs_header(name)
    {
        told.push(format!(
            "`header:{name}` is not signed: a request that is sent again with another value there is another delivery"
        ));
    }
    told
}

fn of_verify(policy: &Policy) -> Vec<String> {
    let Verify::Declared(declared) = &policy.verify else {
        return vec!["nothing is verified: anyone who knows the URL may send".to_owned()];
    };
    let Declared { scheme, each, body_digest, url, .. } = &**declared;
    let secrets = policy.secrets.join(", ");
    let mut told = match scheme {
        Scheme::Hmac(Hmac { hash, keying, secret, signing }) => {
            let how = match keying {
                Keying::Keyed => format!("HMAC-{}", name(*hash)),
                Keying::Plain => format!("a {} digest", name(*hash)),
            };
            vec![signed(&how, signing), format!("the key is the secret {secrets}{}", decoding(secret))]
        }
        Scheme::Token(token) => {
            let basic = if token.basic { ", as base64 of user:password" } else { "" };
            let prefix =
                token.prefix.as_deref().map_or_else(String::new, |prefix| format!(", behind `{prefix}`"));
            vec![format!("the secret {secrets} in {}{prefix}{basic}", place(&token.place))]
        }
        Scheme::PublicKey(rule) => {
            let (how, key) = match &rule.kind {
                Kind::Ed25519(decoding_) => {
                    ("ed25519", format!("the public key is the secret {secrets}{}", decoding(decoding_)))
                }
                Kind::Ecdsa => ("ECDSA P-256", format!("the public key is the secret {secrets}")),
                Kind::Rsa { key: RsaKey::Secret, .. } => {
                    ("RSA", format!("the public key is the secret {secrets}"))
                }
                Kind::Rsa { key: RsaKey::Certificate(rule), .. } => (
                    "RSA",
                    format!(
                        "the certificate's URL is in {}, its host fits `{}`, its path `{}`",
                        place(&rule.place),
                        rule.host,
                        rule.path
                    ),
                ),
            };
            vec![signed(how, &rule.signing), key]
        }
        Scheme::Jwt(jwt) => {
            let keys = match &jwt.keys {
                Keys::Secrets => format!("the secret {secrets}"),
                Keys::Jwks(url) => format!("the keys at {url}"),
            };
            let claims: Vec<_> = jwt.claims.iter().map(|(name, _)| format!("`{name}`")).collect();
            vec![format!(
                "a JWT in {}, signed {:?} under {keys}, with the claims {}",
                place(&jwt.place),
                jwt.algorithms,
                claims.join(", ")
            )]
        }
    };
    if let Some(each) = each {
        told.push(format!("so for every item at `{}`, and there must be one", each.text()));
    }
    if let Some(rule) = body_digest {
        told.push(format!(
            "{} of the body in {}, as {}",
            name(rule.hash),
            place(&rule.place),
            written(rule.encoding)
        ));
    }
    if *url == UrlForms::WithAndWithoutPort {
        told.push("the URL may be signed with or without its port".to_owned());
    }
    told
}

fn signed(how: &str, signing: &Signing) -> String {
    let rule = &signing.signature;
    let mut text = format!(
        "signed: {how} over `{}`, in {}, as {}",
        signing.signed.text(),
        place(&rule.place),
        written(rule.encoding)
    );
    match rule.prefixes.as_slice() {
        [] => {}
        [prefix, others @ ..] => {
            text += &format!(" behind `{prefix}`");
            for other in others {
                text += &if other.is_empty() { " or nothing".to_owned() } else { format!(" or `{other}`") };
            }
        }
    }
    if let Some(split) = &rule.split {
        text += &format!("; several may stand there, separated by `{split}`");
    }
    if let Some(time) = &signing.timestamp {
        let at = match &time.place {
            TimestampPlace::At(at) => place(at),
            TimestampPlace::Entry(prefix) => format!("the entry `{prefix}`"),
        };
        let within =
            time.tolerance.map_or_else(String::new, |seconds| format!(", at most {seconds} s from now"));
        text += &format!("; its time in {at}{within}");
    }
    text
}

fn decoding(decoding: &KeyDecoding) -> String {
    let mut told = String::new();
    if let Some(strip) = &decoding.strip {
        told += &format!(", without `{strip}`");
    }
    if let Some(encoding) = decoding.decode {
        told += &format!(", decoded as {}", written(encoding));
    }
    if let Some(hash) = decoding.digest {
        told += &format!(", digested by {}", name(hash));
    }
    told
}

fn place(place: &Place) -> String {
    match place {
        Place::Header(name) => format!("the header {name}"),
        Place::HeaderGlob { begins, ends } => format!("headers {begins}*{ends}"),
        Place::Query(name) => format!("the query parameter {name}"),
        Place::Json(path) => format!("the body's {}", path.text()),
        Place::Form(name) => format!("the form's field {name}"),
        Place::FormJson(member) => {
            format!("{} of the JSON in the form's field {}", member.path.text(), member.field)
        }
        Place::Headers(names) => {
            let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
            format!("the header {}", names.join(" or "))
        }
    }
}

/// Shell lines that make and send a request; `None` where no shell can: a key that only the sender has, a signature
/// in the body.
fn recipe(policy: &Policy, case: Option<&Case>) -> Option<Vec<String>> {
    let body = case.and_then(|case| std::str::from_utf8(&case.request.body).ok()).unwrap_or("{}");
    let mut lines = vec!["url=…          # hookpack triggers".to_owned(), format!("body={}", quoted(body))];
    let mut headers: Vec<(String, String)> = case.map_or_else(
        || vec![("content-type".to_owned(), quoted("application/json"))],
        |case| {
            let own = case.request.headers().iter();
            own.map(|(name, value)| (name.to_string(), quoted(&String::from_utf8_lossy(value.as_bytes()))))
                .collect()
        },
    );
    match &policy.verify {
        Verify::Nothing => {}
        Verify::Declared(declared) if declared.each.is_none() && declared.body_digest.is_none() => {
            lines.push("secret=…       # its value".to_owned());
            match &declared.scheme {
                Scheme::Token(token) => {
                    let Place::Header(name) = &token.place else { return None };
                    let value = if token.basic { "$(printf %s \"$secret\" | base64 -w0)" } else { "$secret" };
                    headers.push((
                        name.to_string(),
                        format!("\"{}{value}\"", token.prefix.as_deref().unwrap_or_default()),
                    ));
                }
                Scheme::Hmac(hmac) => signature_lines(hmac, &mut lines, &mut headers)?,
                Scheme::PublicKey(_) | Scheme::Jwt(_) => return None,
            }
        }
        Verify::Declared(_) => return None,
    }
    let headers: String = headers.iter().map(|(name, value)| format!(" -H {name}:' '{value}")).collect();
    lines.push(format!("curl -i{headers} --data-binary \"$body\" \"$url\""));
    Some(lines)
}

fn signature_lines(hmac: &Hmac, lines: &mut Vec<String>, headers: &mut Vec<(String, String)>) -> Option<()> {
    let Hmac { hash, keying: Keying::Keyed, secret, signing } = hmac else { return None };
    let Place::Header(header) = &signing.signature.place else { return None };
    let time = match &signing.timestamp {
        None => None,
        Some(rule) => {
            let now = match rule.unit {
                Unit::Seconds => "$(date +%s)",
                Unit::Milliseconds => "$(date +%s)000",
                Unit::Rfc3339 => "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
            };
            lines.push(format!("timestamp={now}"));
            match &rule.place {
                TimestampPlace::At(Place::Header(name)) => {
                    headers.push((name.to_string(), "\"$timestamp\"".to_owned()));
                }
                TimestampPlace::Entry(_) => {}
                TimestampPlace::At(_) => return None,
            }
            Some(&rule.place)
        }
    };
    let known = |name: &HeaderName| {
        headers.iter().find(|(own, _)| own == name.as_str()).map(|(_, value)| value.clone())
    };
    let signed = signing.signed.shell(known)?;
    let key = match (&secret.strip, secret.decode) {
        (None, _) => "\"$secret\"".to_owned(),
        (Some(strip), _) => format!("\"${{secret#{strip}}}\""),
    };
    let key = match secret.decode {
        None => format!("printf %s {key}"),
        Some(Encoding::Base64) => format!("printf %s {key} | base64 -d"),
        Some(Encoding::Hex | Encoding::Base64Url) => return None,
    };
    let digest = format!("{hash:?}").to_lowercase();
    let key = secret.digest.map_or_else(
        || key.clone(),
        |hash| format!("{key} | openssl dgst -{} -binary", format!("{hash:?}").to_lowercase()),
    );
    lines.push(format!("key=$({key} | od -An -tx1 -v | tr -d ' \\n')"));
    let written = match signing.signature.encoding {
        Encoding::Hex => "od -An -tx1 -v | tr -d ' \\n'",
        Encoding::Base64 => "base64 -w0",
        Encoding::Base64Url => "base64 -w0 | tr '+/' '-_'",
    };
    lines.push(format!("signature=$(printf %s {signed} | openssl dgst -{digest} -mac HMAC -macopt hexkey:$key -binary | {written})"));
    let mut value = format!("{}$signature", signing.signature.prefixes.first().map_or("", String::as_str));
    if let (Some(TimestampPlace::Entry(prefix)), Some(split)) = (time, &signing.signature.split) {
        value = format!("{prefix}$timestamp{split}{value}");
    }
    headers.push((header.to_string(), format!("\"{value}\"")));
    Some(())
}

fn name(hash: Hash) -> String {
    format!("{hash:?}").to_uppercase()
}

fn written(encoding: Encoding) -> String {
    format!("{encoding:?}").to_lowercase()
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
