//! Where a signature and its timestamp lie in a request, and how they are written there.

use http::HeaderName;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Seen, Signed, Unverified,
    digest::Encoding,
    template::{Next, Template},
};
use crate::{
    json,
    request::{HeaderLine, Inbound, rfc3339},
    selector::JsonPath,
};

/// A place in a request that holds one text.
#[derive(Clone, Debug)]
pub enum Place {
    Header(HeaderName),
    /// Every header whose name begins and ends so (`X-DocuSign-Signature-*`); the one case of many lines.
    HeaderGlob {
        begins: String,
        ends: String,
    },
    /// The first of these headers that is there; a sender writes the first of them.
    Headers(Vec<HeaderName>),
    Query(String),
    Json(JsonPath),
    /// A field of a form.
    Form(String),
    FormJson(Box<FormMember>),
}

/// A member of the JSON in a field of a form.
#[derive(Clone, Debug)]
pub struct FormMember {
    pub field: String,
    pub path: JsonPath,
}

impl Place {
    /// The texts that lie there: at most one, except under a glob.
    fn texts(&self, seen: &Seen<'_>) -> Result<Vec<String>, String> {
        let request = seen.request;
        match self {
            Self::Header(name) => match request.header(name) {
                HeaderLine::One(text) => Ok(vec![text.into_owned()]),
                HeaderLine::Missing => Err(format!("the {name} header is missing")),
                HeaderLine::Several => Err(format!("several {name} headers")),
            },
            Self::Headers(names) => {
                let there = names.iter().find(|name| request.headers.contains_key(*name));
                let Some(name) = there else {
                    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
                    return Err(format!("none of the headers {} is there", names.join(", ")));
                };
                Self::Header(name.clone()).texts(seen)
            }
            Self::HeaderGlob { begins, ends } => {
                let found = texts_under_glob(request, begins, ends);
                if found.is_empty() { Err(format!("no {begins}*{ends} header")) } else { Ok(found) }
            }
            Self::Query(name) => match request.query_value(name) {
                Some(text) => Ok(vec![text.into_owned()]),
                None => Err(format!("the query parameter {name} is missing")),
            },
            Self::Json(path) => match seen.json() {
                Some(json) => text_of(json, path).map(|text| vec![text]),
                None => Err(format!("the body has no text at {}", path.text())),
            },
            Self::Form(name) => match seen.form_value(name)? {
                Some(text) => Ok(vec![text.to_owned()]),
                None => Err(format!("the form has no field {name}")),
            },
            Self::FormJson(member) => {
                let FormMember { field, path } = &**member;
                let Some(text) = seen.form_value(field)? else {
                    return Err(format!("the form has no field {field}"));
                };
                let document = json::parse(text.as_bytes());
                let document = document.map_err(|_| format!("the field {field} holds no JSON"))?;
                let text = text_of(&document, path);
                text.map(|text| vec![text])
                    .map_err(|_| format!("the field {field} has no text at {}", path.text()))
            }
        }
    }

    pub const fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    pub const fn is_form(&self) -> bool {
        matches!(self, Self::Form(_) | Self::FormJson(_))
    }

    /// Whether it is a header of this (lower-case) name.
    pub fn is_header(&self, name: &str) -> bool {
        match self {
            Self::Header(own) => own == name,
            Self::Headers(own) => own.iter().any(|own| own == name),
            Self::HeaderGlob { begins, ends } => fits_glob(name, begins, ends),
            Self::Query(_) | Self::Json(_) | Self::Form(_) | Self::FormJson(_) => false,
        }
    }

    pub fn one(&self, seen: &Seen<'_>) -> Result<String, String> {
        match self.texts(seen)?.as_mut_slice() {
            [text] => Ok(std::mem::take(text)),
            _ => Err("more than one value where one is needed".to_owned()),
        }
    }

    /// Puts a text there, as a sender would.
    pub fn put(&self, text: String, signed: &mut Signed) -> Result<(), String> {
        let name = match self {
            Self::Header(name) => name.clone(),
            Self::Headers(names) => names.first().cloned().ok_or("no header is named")?,
            Self::HeaderGlob { begins, ends } => format!("{begins}1{ends}")
                .parse()
                .map_err(|_| format!("no header can be named {begins}1{ends}"))?,
            Self::Query(name) => {
                signed.query.push((name.clone(), text));
                return Ok(());
            }
            Self::Json(path) => {
                signed.json.push((path.clone(), text));
                return Ok(());
            }
            Self::Form(name) => {
                signed.form.push((name.clone(), text));
                return Ok(());
            }
            Self::FormJson(member) => {
                let field = &member.field;
                return Err(format!("what lies in the JSON of the field {field} can't be signed here"));
            }
        };
        let value = text.parse().map_err(|_| format!("the value for {name} can't stand in a header"))?;
        signed.headers.insert(name, value);
        Ok(())
    }
}

fn text_of(document: &Value, path: &JsonPath) -> Result<String, String> {
    match path.value(document) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(format!("the body has no text at {}", path.text())),
    }
}

fn texts_under_glob(request: &Inbound, begins: &str, ends: &str) -> Vec<String> {
    let lines = request.headers.iter().filter(|(name, _)| fits_glob(name.as_str(), begins, ends));
    lines.map(|(_, line)| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
}

fn fits_glob(name: &str, begins: &str, ends: &str) -> bool {
    name.len() >= begins.len() + ends.len() && name.starts_with(begins) && name.ends_with(ends)
}

/// Each entry is tried with each secret, so there are not to be many; DocuSign sends up to 100.
const ENTRIES_MAX: usize = 128;
/// RSA's largest, a hundred times over.
const SIGNATURE_BYTES_MAX: usize = 128 << 10;

/// Where the signature lies and how it is written.
#[derive(Clone, Debug)]
pub struct SignatureRule {
    pub place: Place,
    pub split: Option<String>,
    /// What stands in front of a signature: one of these, the first that fits. A sender writes the first of them.
    pub prefixes: Vec<String>,
    pub encoding: Encoding,
}

/// The texts of the signature's place, split into entries: `t=1700000000`, `v1=5257a8…`.
pub struct Entries(Vec<String>);

impl SignatureRule {
    pub fn entries(&self, seen: &Seen<'_>) -> Result<Entries, Unverified> {
        let texts = self.place.texts(seen).map_err(Unverified::bad)?;
        if texts.iter().map(String::len).sum::<usize>() > SIGNATURE_BYTES_MAX {
            return Err(Unverified::bad(format!(
                "more than {SIGNATURE_BYTES_MAX} bytes where a signature is declared"
            )));
        }
        let Some(split) = &self.split else { return Ok(Entries(texts)) };
        let entries = texts.iter().flat_map(|text| text.split(split.as_str()));
        let entries: Vec<_> = entries.map(|entry| entry.trim().to_owned()).take(ENTRIES_MAX + 1).collect();
        if entries.len() > ENTRIES_MAX {
            return Err(Unverified::bad(format!("more than {ENTRIES_MAX} entries in the signature")));
        }
        Ok(Entries(entries))
    }

    /// Every entry that is a signature, decoded; one that can't be decoded is skipped.
    pub fn received(&self, entries: &Entries) -> Result<Vec<Vec<u8>>, Unverified> {
        let signatures = entries.0.iter().filter_map(|entry| self.without_prefix(entry));
        let decoded: Vec<_> = signatures.filter_map(|text| self.encoding.decode(text.trim())).collect();
        if decoded.is_empty() {
            return Err(Unverified::bad("no readable signature where one is declared"));
        }
        Ok(decoded)
    }

    fn without_prefix<'e>(&self, entry: &'e str) -> Option<&'e str> {
        match self.prefixes.as_slice() {
            [] => Some(entry),
            prefixes => prefixes.iter().find_map(|prefix| entry.strip_prefix(prefix.as_str())),
        }
    }

    pub fn written(&self, signature: &[u8]) -> String {
        format!("{}{}", self.prefixes.first().map_or("", String::as_str), self.encoding.encode(signature))
    }
}

#[derive(Clone, Debug)]
pub struct TimestampRule {
    pub place: TimestampPlace,
    pub unit: Unit,
    /// Seconds, counted both ways; `None` when the sender's timestamp is signed but says nothing of freshness.
    pub tolerance: Option<u32>,
}

#[derive(Clone, Debug)]
pub enum TimestampPlace {
    At(Place),
    /// Among the entries of the signature, behind this prefix.
    Entry(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Rfc3339,
}

impl Unit {
    pub const NAMES: [&str; 3] = ["s", "ms", "rfc3339"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Milliseconds),
            "rfc3339" => Some(Self::Rfc3339),
            _ => None,
        }
    }

    fn parse(self, text: &str) -> Option<OffsetDateTime> {
        match self {
            Self::Seconds | Self::Milliseconds if !text.bytes().all(|byte| byte.is_ascii_digit()) => None,
            Self::Seconds => OffsetDateTime::from_unix_timestamp(text.parse().ok()?).ok(),
            Self::Milliseconds => {
                OffsetDateTime::from_unix_timestamp_nanos(text.parse::<i128>().ok()?.checked_mul(1_000_000)?)
                    .ok()
            }
            Self::Rfc3339 => OffsetDateTime::parse(text, &Rfc3339).ok(),
        }
    }

    /// Whether a text is a time in the one form that says by itself where it begins and ends: from 2001 to 2286 seconds
    /// have 10 digits, milliseconds 13.
    fn delimits(self, text: &str) -> bool {
        let has_digits = |count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Seconds => has_digits(10),
            Self::Milliseconds => has_digits(13),
            Self::Rfc3339 => self.parse(text).is_some(),
        }
    }

    pub fn write(self, at: OffsetDateTime) -> String {
        match self {
            Self::Seconds => at.unix_timestamp().to_string(),
            Self::Milliseconds => (at.unix_timestamp_nanos() / 1_000_000).to_string(),
            Self::Rfc3339 => rfc3339(at),
        }
    }
}

impl TimestampRule {
    /// The timestamp's text exactly as received: that is what was signed.
    pub fn text(&self, seen: &Seen<'_>, entries: &Entries) -> Result<String, Unverified> {
        match &self.place {
            TimestampPlace::At(place) => place.one(seen).map_err(Unverified::bad),
            TimestampPlace::Entry(prefix) => {
                let mut found = entries.0.iter().filter_map(|entry| entry.strip_prefix(prefix.as_str()));
                match (found.next(), found.next()) {
                    (Some(text), None) => Ok(text.to_owned()),
                    (None, _) => Err(Unverified::bad(format!("no `{prefix}` entry beside the signature"))),
                    (Some(_), Some(_)) => {
                        Err(Unverified::bad(format!("two `{prefix}` entries beside the signature")))
                    }
                }
            }
        }
    }

    /// Whether the time is near enough to `now`, before or after.
    pub fn check(&self, text: &str, now: OffsetDateTime) -> Result<(), Unverified> {
        let Some(tolerance) = self.tolerance else { return Ok(()) };
        let Some(at) = self.unit.parse(text) else {
            return Err(Unverified::bad("the timestamp can't be read"));
        };
        let apart = (now - at).whole_seconds();
        if apart.unsigned_abs() > u64::from(tolerance) {
            let side = if apart > 0 { "old" } else { "ahead of this host's clock" };
            return Err(Unverified::stale(format!(
                "{} s {side}, {tolerance} s are allowed",
                apart.unsigned_abs()
            )));
        }
        Ok(())
    }

    pub fn write(&self, at: OffsetDateTime) -> String {
        self.unit.write(at)
    }
}

/// What is signed, and where the proof and its time lie: common to every scheme with signatures.
#[derive(Clone, Debug)]
pub struct Signing {
    pub signed: Template,
    pub signature: SignatureRule,
    pub timestamp: Option<TimestampRule>,
}

/// What a request brings: its signatures, and the text of its time.
pub struct Received {
    pub signatures: Vec<Vec<u8>>,
    pub timestamp: Option<String>,
}

impl Signing {
    pub fn checks_time(&self) -> bool {
        self.timestamp.as_ref().is_some_and(|rule| rule.tolerance.is_some())
    }

    /// Where something of it lies.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let time = self.timestamp.as_ref().and_then(|rule| match &rule.place {
            TimestampPlace::At(place) => Some(place),
            TimestampPlace::Entry(_) => None,
        });
        std::iter::once(&self.signature.place).chain(time)
    }

    pub fn received(&self, seen: &Seen<'_>) -> Result<Received, Unverified> {
        let entries = self.signature.entries(seen)?;
        let timestamp = self.timestamp.as_ref().map(|rule| rule.text(seen, &entries)).transpose()?;
        if let (Some(rule), Some(text)) = (&self.timestamp, &timestamp) {
            self.check_ends(rule.unit, text)?;
        }
        if let Some(TimestampRule { place: TimestampPlace::At(Place::Header(name)), .. }) = &self.timestamp
            && !self.signed.has_timestamp()
            && !self.signed.names_header(seen, name)
        {
            // A value with a `;` in it could stand for a header that is not named.
            return Err(Unverified::bad(format!("{name} is not among the headers that are signed")));
        }
        Ok(Received { signatures: self.signature.received(&entries)?, timestamp })
    }

    /// Whether the time begins and ends where it is said to: else a piece of what is signed beside it could be moved
    /// into it, or a piece of it out.
    fn check_ends(&self, unit: Unit, text: &str) -> Result<(), Unverified> {
        let (next, follows_a_part) = self.signed.around_timestamp();
        let is_in_doubt = follows_a_part
            || match next {
                Next::Part => true,
                Next::Separator(separator) => text.contains(separator),
                Next::End => false,
            };
        if is_in_doubt && !unit.delimits(text) {
            return Err(Unverified::bad("the timestamp is not written so that its ends are certain"));
        }
        Ok(())
    }

    /// The time is looked at last, so that `stale` always means an authentic request.
    pub fn fresh(&self, received: &Received, now: OffsetDateTime) -> Result<(), Unverified> {
        match (&self.timestamp, &received.timestamp) {
            (Some(rule), Some(text)) => rule.check(text, now),
            _ => Ok(()),
        }
    }

    /// What a sender adds; `signature` is made of the time's text. A time in the body is there already.
    pub fn write(
        &self,
        seen: &Seen<'_>,
        now: OffsetDateTime,
        signature: impl FnOnce(Option<&str>) -> Result<Vec<u8>, String>,
    ) -> Result<Signed, String> {
        let mut signed = Signed::default();
        let timestamp = match &self.timestamp {
            Some(TimestampRule { place: TimestampPlace::At(place @ Place::Json(_)), .. }) => {
                Some(place.one(seen)?)
            }
            Some(rule) => Some(rule.write(now)),
            None => None,
        };
        let mut text = self.signature.written(&signature(timestamp.as_deref())?);
        match (&self.timestamp, timestamp) {
            (Some(TimestampRule { place: TimestampPlace::At(Place::Json(_)), .. }), _) => {}
            (Some(TimestampRule { place: TimestampPlace::At(place), .. }), Some(timestamp)) => {
                place.put(timestamp, &mut signed)?;
            }
            (Some(TimestampRule { place: TimestampPlace::Entry(prefix), .. }), Some(timestamp)) => {
                let split = self.signature.split.as_deref().unwrap_or(",");
                text = format!("{prefix}{timestamp}{split}{text}");
            }
            _ => {}
        }
        self.signature.place.put(text, &mut signed)?;
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, request::tests::post};

    /// However long a list is, looking at it takes no longer than reading it, and what follows is bounded.
    #[test]
    fn a_list_of_signatures_has_an_end() {
        let rule = SignatureRule {
            place: Place::Json(JsonPath::parse("$.s").unwrap()),
            split: Some(",".to_owned()),
            prefixes: vec!["v1=".to_owned()],
            encoding: Encoding::Hex,
        };
        let entries = |text: &str| {
            let request = post(&[], &format!("{{\"s\": \"{text}\"}}"));
            rule.entries(&Seen::new(&request, "", &Budget::default()))
                .map(|entries| entries.0.len())
                .map_err(|unverified| unverified.detail)
        };
        assert_eq!(entries(&vec!["v1=00"; 128].join(",")), Ok(128));
        assert_eq!(
            entries(&vec!["v1=00"; 129].join(",")).unwrap_err(),
            "more than 128 entries in the signature"
        );
        assert_eq!(
            entries(&vec!["v1=00"; 10_000].join(",")).unwrap_err(),
            "more than 128 entries in the signature"
        );
        let long = entries(&"x".repeat(1 << 20)).unwrap_err();
        assert_eq!(long, "more than 131072 bytes where a signature is declared");
    }
}
