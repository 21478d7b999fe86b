//! What a signature covers: text and parts of the request (`v0:{timestamp}:{body}`), over raw bytes.

mod coverage;
mod read;

use http::HeaderName;
use serde_json::Value;

use super::{
    Seen,
    digest::{Encoding, Hash},
};
use crate::{request::HeaderLine, selector::JsonPath};

#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// What follows a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Nothing of the request.
    End,
    /// This text, and then something of the request.
    Separator(&'a str),
    /// Another part, without anything between them.
    Part,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Body,
    /// The text of the timestamp exactly as received.
    Timestamp,
    Method,
    Url,
    UrlDecoded,
    /// Without the query.
    Path,
    /// Path and query, as received.
    Target,
    Header {
        name: HeaderName,
        optional: bool,
    },
    Query {
        name: String,
        optional: bool,
    },
    Json {
        path: JsonPath,
        optional: bool,
    },
    Form {
        name: String,
        optional: bool,
    },
    /// Every field, sorted and unique, each name and value joined (Twilio).
    FormSorted,
    /// `name:value` of each header that this header names, joined by `;` (Contentful).
    HeadersNamedIn(HeaderName),
    /// `name\nvalue\n` of each of these members that the body has (Amazon SNS).
    Fields(Vec<String>),
    /// The secret itself, where a digest without a key is the proof.
    Secret,
    /// The body's CRC-32 as a decimal number (PayPal).
    Crc32,
    /// Looked up in the trigger's `params` when the pack loads.
    Param(String),
    Digest {
        hash: Hash,
        encoding: Encoding,
        of: DigestOf,
    },
}

#[derive(Clone, Copy, Debug)]
enum DigestOf {
    Body,
    Url,
}

/// The parts that a template may have, for whoever wrote another one.
pub const HELP: &str = "the parts are {body}, {timestamp}, {method}, {url}, {url:decoded}, {path}, {target}, {header:NAME}, \
    {query:NAME}, {json:$.path}, {form:NAME}, {form:sorted}, {headers:NAME}, {fields:A,B}, {secret}, {param:NAME}, \
    {crc32:body}, {sha256hex:body}, {sha256b64:body} and {sha256b64url:body} (or of `url`); \
    a trailing ? in {header:…}, {query:…}, {json:…} or {form:…} makes it optional";

/// Headers that `{headers:NAME}` may join.
const HEADERS_MAX: usize = 64;

impl Template {
    /// Reads a template; the error says in the author's words what is wrong with it.
    pub fn parse(text: &str, param: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            // A JSONPath may hold braces of its own only inside quotes, which no sender needs.
            let Some(length) = rest[open..].find('}') else {
                return Err(format!("`{}` is never closed", &rest[open..]));
            };
            parts.push(Part::parse(&rest[open + 1..open + length], &param)?);
            rest = &rest[open + length + 1..];
        }
        if rest.contains('}') {
            return Err("a `}` without its `{`".to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// As it is declared.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is signed as a word of a shell script that has `$body`, `$timestamp` and `$url`, and in which each header
    /// has the word that `header` gives; `None` where a script would need more.
    pub fn shell(&self, header: impl Fn(&HeaderName) -> Option<String>) -> Option<String> {
        let word = |part: &Part| match part {
            Part::Text(text) | Part::Param(text) => Some(format!("'{}'", text.replace('\'', "'\\''"))),
            Part::Body => Some("\"$body\"".to_owned()),
            Part::Timestamp => Some("\"$timestamp\"".to_owned()),
            Part::Method => Some("POST".to_owned()),
            Part::Url | Part::UrlDecoded => Some("\"$url\"".to_owned()),
            Part::Path | Part::Target => Some("\"/${url#*://*/}\"".to_owned()),
            Part::Header { name, .. } => header(name),
            _ => None,
        };
        self.parts.iter().map(word).collect()
    }

    fn next(&self, index: usize) -> Next<'_> {
        match (self.parts.get(index + 1), self.parts.get(index + 2)) {
            (None, _) | (Some(Part::Text(_)), None) => Next::End,
            (Some(Part::Text(text)), Some(_)) => Next::Separator(text),
            (Some(_), _) => Next::Part,
        }
    }

    /// Whether two parts that a sender fills stand side by side: then text can be moved from one to the other, and the
    /// signature still fits. Where the time ends is known by its form.
    pub fn has_movable_boundary(&self) -> bool {
        self.parts.windows(2).any(|pair| pair.iter().all(Part::is_free_text))
    }

    /// What follows the time, and whether something else of the request stands before it without a separator.
    pub fn around_timestamp(&self) -> (Next<'_>, bool) {
        let at = self.parts.iter().position(|part| matches!(part, Part::Timestamp));
        let Some(at) = at else { return (Next::End, false) };
        (self.next(at), at > 0 && !matches!(self.parts[at - 1], Part::Text(_)))
    }

    /// Feeds every part to `sink`, in order; the error names a part that the request lacks.
    pub fn feed(
        &self,
        seen: &Seen<'_>,
        timestamp: Option<&str>,
        sink: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        self.feed_with(seen, timestamp, &[], sink)
    }

    /// The bytes that are signed.
    pub fn bytes(&self, seen: &Seen<'_>, timestamp: Option<&str>) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(seen.request.body.len() + 64);
        self.feed(seen, timestamp, |part| bytes.extend_from_slice(part))?;
        Ok(bytes)
    }

    /// The same where `{secret}` stands for these bytes.
    pub fn feed_with(
        &self,
        seen: &Seen<'_>,
        timestamp: Option<&str>,
        secret: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(text) | Part::Param(text) => sink(text.as_bytes()),
                Part::Body => sink(&seen.request.body),
                Part::Timestamp => match timestamp {
                    Some(text) => sink(text.as_bytes()),
                    None => return Err("the timestamp is missing".to_owned()),
                },
                Part::Method => sink(seen.request.method.as_str().as_bytes()),
                Part::Url | Part::UrlDecoded | Part::Target => {
                    self.check_query(index, seen)?;
                    match part {
                        Part::UrlDecoded => sink(url_decoded(&seen.url()).as_bytes()),
                        Part::Target => sink(seen.target().as_bytes()),
                        _ => sink(seen.url().as_bytes()),
                    }
                }
                Part::Path => sink(seen.request.path.as_bytes()),
                Part::Header { name, optional } => match seen.request.header(name) {
                    HeaderLine::One(text) => {
                        self.check_end(index, &text, || format!("the {name} header"))?;
                        sink(text.as_bytes());
                    }
                    HeaderLine::Several => return Err(format!("several {name} headers")),
                    HeaderLine::Missing if *optional => {}
                    HeaderLine::Missing => return Err(format!("the {name} header is missing")),
                },
                Part::Query { name, optional } => match seen.request.query_value(name) {
                    Some(text) => {
                        self.check_end(index, &text, || format!("the query parameter {name}"))?;
                        sink(text.as_bytes());
                    }
                    None if *optional => {}
                    None => return Err(format!("the query parameter {name} is missing")),
                },
                Part::Json { path, optional } => match seen.json().and_then(|json| path.value(json)) {
                    Some(Value::String(text)) => sink(text.as_bytes()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => sink(value.to_string().as_bytes()),
                    Some(Value::Null) | None if *optional => {}
                    _ => return Err(format!("the body has no text or number at {}", path.text())),
                },
                Part::Form { name, optional } => match seen.form_value(name)? {
                    Some(text) => sink(text.as_bytes()),
                    None if *optional => {}
                    None => return Err(format!("the form has no field {name}")),
                },
                Part::FormSorted => {
                    let mut fields: Vec<_> = seen.form()?.iter().collect();
                    fields.sort();
                    fields.dedup();
                    for (name, value) in fields {
                        sink(name.as_bytes());
                        sink(value.as_bytes());
                    }
                }
                Part::HeadersNamedIn(name) => sink(headers_named_in(seen, name)?.as_bytes()),
                Part::Fields(names) => {
                    let Some(Value::Object(members)) = seen.json() else {
                        return Err("the body is no JSON object".to_owned());
                    };
                    for (position, name) in names.iter().enumerate() {
                        let text = match members.get(name) {
                            None | Some(Value::Null) => continue,
                            Some(Value::String(text)) => text.as_str(),
                            Some(_) => return Err(format!("the body has no text at {name}")),
                        };
                        // The first is the sender's text (SNS's Message), the others are its own words: with a line of
                        // the text that is a member's name, another member could be made of the rest of it.
                        if position > 0 && names.iter().any(|name| text.contains(&format!("\n{name}\n"))) {
                            return Err(format!("the text at {name} has the name of a signed member in it"));
                        }
                        for part in [name.as_str(), "\n", text, "\n"] {
                            sink(part.as_bytes());
                        }
                    }
                }
                Part::Secret => sink(secret),
                Part::Crc32 => sink(crc32fast::hash(&seen.request.body).to_string().as_bytes()),
                Part::Digest { hash, encoding, of } => {
                    let digest = match of {
                        DigestOf::Body => hash.digest(&seen.request.body),
                        DigestOf::Url => hash.digest(seen.url().as_bytes()),
                    };
                    sink(encoding.encode(&digest).as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Whether a text ends where the separator after it stands, and not earlier: else what is behind an earlier one
    /// could be taken for the next part.
    fn check_end(&self, index: usize, text: &str, what: impl Fn() -> String) -> Result<(), String> {
        match self.next(index) {
            Next::Separator(separator) if text.contains(separator) => Err(format!(
                "{} contains `{}`, which ends it where it is signed",
                what(),
                separator.escape_debug()
            )),
            Next::Separator(_) | Next::Part | Next::End => Ok(()),
        }
    }

    /// Whether the query is one: where something else follows without a separator, the beginning of that could be
    /// moved into the query. A document begins with what can't stand in a URL.
    fn check_query(&self, index: usize, seen: &Seen<'_>) -> Result<(), String> {
        let query = seen.request.query.as_deref().unwrap_or_default();
        if self.next(index) == Next::Part && query.contains(['"', '{', '}', '<', '>', '\\', '^', '`', '|']) {
            return Err("the query has a character that can't stand in a URL".to_owned());
        }
        Ok(())
    }
}

impl Part {
    /// Whether the sender fills it with whatever it likes, so that only what follows says where it ends.
    fn is_free_text(&self) -> bool {
        match self {
            Self::Body
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::Json { .. }
            | Self::Form { .. }
            | Self::FormSorted
            | Self::HeadersNamedIn(_)
            | Self::Fields(_) => true,
            // What the host knows by itself, or what has a form.
            Self::Text(_)
            | Self::Timestamp
            | Self::Method
            | Self::Url
            | Self::UrlDecoded
            | Self::Path
            | Self::Target
            | Self::Secret
            | Self::Crc32
            | Self::Param(_)
            | Self::Digest { .. } => false,
        }
    }
}

/// The escapes that HubSpot decodes before it signs, and no other:
/// <https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>
fn url_decoded(url: &str) -> String {
    const ESCAPES: [(&str, &str); 12] = [
        ("3A", ":"),
        ("2F", "/"),
        ("3F", "?"),
        ("40", "@"),
        ("21", "!"),
        ("24", "$"),
        ("27", "'"),
        ("28", "("),
        ("29", ")"),
        ("2A", "*"),
        ("2C", ","),
        ("3B", ";"),
    ];
    let mut decoded = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3).unwrap_or_default();
        let known = ESCAPES.iter().find(|(code, _)| code.eq_ignore_ascii_case(escape));
        decoded.push_str(known.map_or("%", |(_, plain)| plain));
        rest = &rest[at + if known.is_some() { 3 } else { 1 }..];
    }
    decoded + rest
}

fn headers_named_in(seen: &Seen<'_>, list: &HeaderName) -> Result<String, String> {
    let HeaderLine::One(names) = seen.request.header(list) else {
        return Err(format!("not one {list} header"));
    };
    let mut joined = Vec::new();
    for name in names.split(',').map(str::trim) {
        if joined.len() == HEADERS_MAX {
            return Err(format!("{list} names more than {HEADERS_MAX} headers"));
        }
        let value = name.parse::<HeaderName>().ok().map(|name| seen.request.header(&name));
        let Some(HeaderLine::One(value)) = &value else {
            return Err(format!("not one {name} header, which {list} names"));
        };
        joined.push(format!("{}:{value}", name.to_ascii_lowercase()));
    }
    Ok(joined.join(";"))
}
