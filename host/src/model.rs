//! The words that every room shares: outcomes, who owns an endpoint, what is handed to the store.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// How one request ended: the closed set of words in `request_log.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Accepted,
    Duplicate,
    Ignored,
    Handshake,
    UnknownKey,
    Paused,
    PackRefused,
    KeysUnavailable,
    SecretMissing,
    BadMethod,
    UnsupportedMedia,
    TooLarge,
    TimedOut,
    /// The host has no memory left for its body, or no place for it.
    Overloaded,
    AddressRefused,
    RateLimited,
    BadSignature,
    Stale,
    Undecodable,
    KeyMissing,
    SchemaViolation,
    MappingFailed,
    MapperBusy,
    Quarantined,
    StoreUnavailable,
    StoreRefused,
}

impl Outcome {
    pub const ALL: [Self; 26] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Ignored,
        Self::Handshake,
        Self::UnknownKey,
        Self::Paused,
        Self::PackRefused,
        Self::KeysUnavailable,
        Self::SecretMissing,
        Self::BadMethod,
        Self::UnsupportedMedia,
        Self::TooLarge,
        Self::TimedOut,
        Self::Overloaded,
        Self::AddressRefused,
        Self::RateLimited,
        Self::BadSignature,
        Self::Stale,
        Self::Undecodable,
        Self::KeyMissing,
        Self::SchemaViolation,
        Self::MappingFailed,
        Self::MapperBusy,
        Self::Quarantined,
        Self::StoreUnavailable,
        Self::StoreRefused,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Handshake => "handshake",
            Self::UnknownKey => "unknown_key",
            Self::Paused => "paused",
            Self::PackRefused => "pack_refused",
            Self::KeysUnavailable => "keys_unavailable",
            Self::SecretMissing => "secret_missing",
            Self::BadMethod => "bad_method",
            Self::UnsupportedMedia => "unsupported_media",
            Self::TooLarge => "too_large",
            Self::TimedOut => "timed_out",
            Self::Overloaded => "overloaded",
            Self::AddressRefused => "address_refused",
            Self::RateLimited => "rate_limited",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
            Self::Undecodable => "undecodable",
            Self::KeyMissing => "key_missing",
            Self::SchemaViolation => "schema_violation",
            Self::MappingFailed => "mapping_failed",
            Self::MapperBusy => "mapper_busy",
            Self::Quarantined => "quarantined",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreRefused => "store_refused",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a token allows: each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To see everything but keys.
    Read,
    /// To see keys, and to change what runs.
    Write,
    /// To say who may do what.
    Admin,
}

impl Scope {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Admin].into_iter().find(|scope| scope.word() == word)
    }
}

/// What the sender hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Answer {
    /// The same answer with other ids for some of its events, found where our JSON has them. What a pack lets the
    /// host say instead is a fixed text, in which no fresh id stands.
    #[must_use]
    pub fn renamed(&self, ids: &HashMap<Uuid, Uuid>) -> Self {
        const NAMES: &str = "\"event_id\":\"";
        const ID_CHARS: usize = 36;
        let mut body = String::with_capacity(self.body.len());
        for part in self.body.split_inclusive(NAMES) {
            let own = part.split_at_checked(ID_CHARS);
            let named = own.and_then(|(id, rest)| Some((ids.get(&Uuid::try_parse(id).ok()?)?, rest)));
            match named {
                Some((id, rest)) => body.extend([&id.to_string(), rest]),
                None => body.push_str(part),
            }
        }
        Self { status: self.status, content_type: self.content_type.clone(), body }
    }
}

/// One event, ready to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub id: Uuid,
    pub pack_ref: String,
    /// Of the pack that made it: its version, and the SHA-256 of its files.
    pub pack_version: String,
    pub pack_hash: [u8; 32],
    pub trigger_ref: String,
    /// What names it among the events of its trigger, if anything does: while `key_window` lasts, a second one
    /// of that key is not stored again.
    pub key: Option<String>,
    pub key_window: Duration,
    /// One JSON document, the bytes as they are to be stored.
    pub payload: String,
    /// One JSON document.
    pub metadata: String,
}

/// What makes two requests the same delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The trigger or pack whose deliveries the key tells apart.
    pub owner_ref: String,
    pub key: String,
    pub window: Duration,
    /// Its request holds it already: nothing is left to claim.
    pub is_held: bool,
    /// Of the body, by [`body_checksum`].
    pub body_checksum: i64,
}

/// A body's CRC-32 and length in one number: cheap, and enough to tell in the log that two bodies of one key differ.
pub fn body_checksum(body: &[u8]) -> i64 {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    (u64::from(crc32fast::hash(body)) << 32 | u64::from(length)).cast_signed()
}

/// An authentic request whose payload failed, kept whole.
#[derive(Clone, Debug)]
pub struct Quarantined {
    pub id: Uuid,
    pub trigger_ref: String,
    pub cause: Outcome,
    pub detail: String,
    pub path: String,
    pub query: Option<String>,
    /// `[[name, value], …]` as JSON.
    pub headers: String,
    /// As it came over the wire.
    pub body: Bytes,
    /// So that a replay is stored once, however often it is asked for.
    pub key: Option<String>,
}

/// Of W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One row of the request log.
#[derive(Clone, Debug)]
pub struct LogRow {
    pub id: Uuid,
    /// For log lines.
    pub trace_id: Option<TraceId>,
    pub received_at: OffsetDateTime,
    pub trigger_ref: Option<String>,
    pub endpoint_key_id: Option<Uuid>,
    pub source_ip: IpAddr,
    pub user_agent: Option<String>,
    pub method: String,
    pub body_bytes: i64,
    pub status: u16,
    pub outcome: Outcome,
    pub detail: Option<String>,
    pub verified: bool,
    pub started: Instant,
    /// How long it took, once it is answered; until then it counts.
    pub took: Option<Duration>,
    pub pack_version: Option<String>,
    /// Of a request that is not accepted, as JSON.
    pub headers: Option<String>,
}

impl LogRow {
    pub fn duration(&self) -> Duration {
        self.took.unwrap_or_else(|| self.started.elapsed())
    }
}

/// A request as it came, without its credentials.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Without the key.
    pub path: String,
    pub query: Option<String>,
    /// `[[name, value], …]` as JSON.
    pub headers: String,
    /// As it came over the wire.
    pub body: Bytes,
}

/// A delivery that passed every check: stored whole, in one transaction, or not at all.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub events: Vec<NewEvent>,
    pub quarantined: Vec<Quarantined>,
    pub key: Option<DeliveryKey>,
    pub answer: Answer,
    pub log: LogRow,
    /// Where it is to be kept beside its events.
    pub raw: Option<Raw>,
}

impl Delivery {
    /// The key that is to be claimed with it.
    pub fn claim(&self) -> Option<&DeliveryKey> {
        self.key.as_ref().filter(|key| !key.is_held)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, HashMap, Uuid};

    #[test]
    fn an_answer_is_renamed_wherever_it_names_the_event_and_nowhere_else() {
        let [own, first, other] = [1, 2, 3].map(Uuid::from_u128);
        let renamed = |body: String| {
            let answer = Answer { status: 200, content_type: "application/json".to_owned(), body };
            answer.renamed(&HashMap::from([(own, first)])).body
        };
        let answer = |a, b| {
            format!(
                r#"{{"data":{{"event_id":"{a}","message":"{own}","events":[{{"event_id":"{a}"}},{{"event_id":"{b}"}}]}}}}"#
            )
        };
        assert_eq!(renamed(answer(own, other)), answer(first, other));
        assert_eq!(renamed(answer(other, own)), answer(other, first));
        for fixed in [
            "",
            "[accepted]",
            r#""event_id":""#,
            r#""event_id":"short"#,
            r#"{"event_id":"éééééééééééééééééééé"}"#,
        ] {
            assert_eq!(renamed(fixed.to_owned()), fixed);
        }
    }
}
