//! What a request must satisfy before it is looked at: a trigger's policy, ready to be applied.

use std::{net::IpAddr, time::Duration};

use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    budget::Exhausted,
    config::RateLimit,
    model::Answer,
    selector::{Selected, Selector, Subject},
    verify::{Verify, handshake::Handshake},
};

#[derive(Clone, Debug)]
pub struct Policy {
    /// An endpoint key is issued when the trigger is first loaded.
    pub enabled: bool,
    pub body_bytes_max: usize,
    /// `None`: from anywhere.
    pub ip_allowlist: Option<Vec<IpNet>>,
    pub rate_limit: Option<RateLimit>,
    pub preset: Option<String>,
    pub verify: Verify,
    /// Names in the secret store; the values of all of them are tried.
    pub secrets: Vec<String>,
    /// Which headers go into an event's metadata, beside content type and user agent.
    pub keep_headers: Vec<HeaderName>,
    /// Fields of a form whose texts are read as JSON.
    pub json_fields: Vec<String>,
    pub on_invalid: OnInvalid,
    pub idempotency: Option<Idempotency>,
    pub respond: Option<Respond>,
    /// Answered before anything else is looked at, and never stored.
    pub handshakes: Vec<Handshake>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    Reject,
    Quarantine,
}

/// What names a delivery, and for how long a second one of that name is a repetition.
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub key: KeySource,
    /// What names each event among those of its trigger: looked for in the payload that it is made of, which under
    /// `split` is a member.
    pub event_key: Option<Selector>,
    pub window: Duration,
    /// A request without the key is refused instead of stored without one.
    pub required: bool,
}

#[derive(Clone, Debug)]
pub enum KeySource {
    Select(Selector),
    /// `sha256({body})`, for senders that name nothing.
    BodyDigest,
    /// Deliveries have none, only their events.
    Nothing,
}

/// For how long keys are remembered when nobody says otherwise: most senders try again for up to three days.
pub const DEFAULT_WINDOW: Duration = Duration::from_hours(72);

/// What a sender wants to hear instead of our JSON.
#[derive(Clone, Debug)]
pub struct Respond {
    pub status: StatusCode,
    pub content_type: String,
    pub body: String,
}

impl Policy {
    /// Every secret that it names.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let handshakes = self.handshakes.iter().filter_map(Handshake::secret_name);
        self.secrets.iter().map(String::as_str).chain(handshakes)
    }

    /// For how long an event's own key is remembered: as long as a delivery's would be.
    pub fn event_key_window(&self) -> Duration {
        self.idempotency.as_ref().map_or(DEFAULT_WINDOW, |rule| rule.window)
    }

    pub fn admits(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.ip_allowlist.as_ref().is_none_or(|list| list.iter().any(|net| net.contains(&source)))
    }

    /// The answer to a stored delivery: the sender's own, or our JSON.
    pub fn answer(&self, json: impl FnOnce() -> String) -> Answer {
        match &self.respond {
            Some(Respond { status, content_type, body }) => {
                Answer { status: status.as_u16(), content_type: content_type.clone(), body: body.clone() }
            }
            None => Answer { status: 200, content_type: "application/json".to_owned(), body: json() },
        }
    }
}

/// Longer keys, and keys that a text column can't hold, are stored as their digest.
const KEY_BYTES_MAX: usize = 400;

impl Idempotency {
    /// Whether the key lies in what the body is read as, and not in its bytes or elsewhere in the request.
    pub fn looks_into_payload(&self) -> bool {
        self.event_key.is_some()
            || match &self.key {
                KeySource::Select(Selector::Json(_) | Selector::Attribute(_)) => true,
                KeySource::BodyDigest
                | KeySource::Nothing
                | KeySource::Select(
                    Selector::Header(_)
                    | Selector::Query(_)
                    | Selector::Path
                    | Selector::Method
                    | Selector::Body,
                ) => false,
            }
    }

    /// Whether deliveries have a key.
    pub const fn tells_deliveries_apart(&self) -> bool {
        !matches!(self.key, KeySource::Nothing)
    }

    /// Whether a header may have it: as an attribute of a CloudEvent whose body is the data.
    pub fn looks_into_headers(&self) -> bool {
        matches!(&self.key, KeySource::Select(Selector::Attribute(_) | Selector::Header(_)))
    }

    /// Whether a text can be the key as a whole.
    pub fn takes_text(&self) -> bool {
        matches!(&self.key, KeySource::Select(Selector::Json(path)) if path.text() == "$")
    }

    /// The delivery's key; `None` when the request lacks it.
    pub fn key_of(&self, subject: Subject<'_>) -> Result<Option<String>, Exhausted> {
        let key = match &self.key {
            KeySource::BodyDigest => format!("sha256:{}", hex::encode(Sha256::digest(&subject.request.body))),
            KeySource::Select(selector) => match selected(selector, subject)? {
                Some(text) => text,
                None => return Ok(None),
            },
            KeySource::Nothing => return Ok(None),
        };
        Ok(storable_key(key))
    }

    /// The key of an event that is made of this payload; `None` where none is declared, or the payload lacks it.
    pub fn key_of_event(&self, subject: Subject<'_>) -> Result<Option<String>, Exhausted> {
        let Some(selector) = &self.event_key else { return Ok(None) };
        Ok(selected(selector, subject)?.and_then(storable_key))
    }
}

/// The one text or number that a selector finds.
fn selected(selector: &Selector, subject: Subject<'_>) -> Result<Option<String>, Exhausted> {
    Ok(match selector.select(subject)? {
        Selected::One(value) => match &*value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        },
        Selected::Nothing | Selected::Many(_) => None,
    })
}

/// The key of a delivery or an event as the store takes it: a long one, and one that a text column can't hold,
/// as its digest; an empty one is none.
pub fn storable_key(key: String) -> Option<String> {
    if key.is_empty() {
        None
    } else if key.len() > KEY_BYTES_MAX || key.contains('\0') {
        Some(format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes()))))
    } else {
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::storable_key;

    #[test]
    fn a_key_is_stored_as_it_is_unless_it_is_empty_or_too_much_for_a_column() {
        let kept = |key: &str| storable_key(key.to_owned());
        assert_eq!(kept(""), None);
        for plain in ["wamid.HBgL", " ", "é🦀", &"x".repeat(400)] {
            assert_eq!(kept(plain).as_deref(), Some(plain));
        }
        for too_much in ["a\0b", &"x".repeat(401)] {
            let digest = kept(too_much).unwrap();
            assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
        }
        assert_ne!(kept(&"x".repeat(401)), kept(&"x".repeat(402)));
    }
}
