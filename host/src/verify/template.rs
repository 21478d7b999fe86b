//! What a signature covers: text and parts of the request (`v0:{timestamp}:{body}`), over raw bytes.

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

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Body,
    /// The text of the timestamp exactly as received.
    Timestamp,
    Method,
    Url,
    UrlDecoded,
    Path,
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
pub const HELP: &str = "the parts are {body}, {timestamp}, {method}, {url}, {url:decoded}, {path}, {header:NAME}, \
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
            Part::Header { name, .. } => header(name),
            _ => None,
        };
        self.parts.iter().map(word).collect()
    }

    /// Whether the signature covers the body, whole or by a digest of it.
    pub fn covers_body(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(
                part,
                Part::Body | Part::Crc32 | Part::FormSorted | Part::Digest { of: DigestOf::Body, .. }
            )
        })
    }

    /// Whether it covers something of the body at least.
    pub fn covers_parts_of_body(&self) -> bool {
        let of_body = |part: &Part| {
            matches!(
                part,
                Part::Json { optional: false, .. } | Part::Form { optional: false, .. } | Part::Fields(_)
            )
        };
        self.covers_body() || self.parts.iter().any(of_body)
    }

    /// Whether it walks over the whole body.
    pub fn reads_body(&self) -> bool {
        let whole = |part: &Part| {
            matches!(
                part,
                Part::Body | Part::Crc32 | Part::FormSorted | Part::Digest { of: DigestOf::Body, .. }
            )
        };
        self.parts.iter().any(whole)
    }

    pub fn has_secret(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Secret))
    }

    /// Whether a header that names headers names this one.
    pub fn names_header(&self, seen: &Seen<'_>, name: &HeaderName) -> bool {
        self.parts.iter().any(|part| match part {
            Part::HeadersNamedIn(list) => match seen.request.header(list) {
                HeaderLine::One(names) => {
                    names.split(',').any(|own| own.trim().eq_ignore_ascii_case(name.as_str()))
                }
                HeaderLine::Missing | HeaderLine::Several => false,
            },
            _ => false,
        })
    }

    pub fn has_header(&self, header: &HeaderName) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Header { name, optional: false } if name == header))
    }

    pub fn has_query(&self, parameter: &str) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Query { name, optional: false } if name == parameter))
    }

    /// Whether this member of the body is covered by itself.
    pub fn has_json(&self, member: &JsonPath) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Json { path, optional } => !optional && path.text() == member.text(),
            Part::Fields(names) => names.iter().any(|name| format!("$.{name}") == member.text()),
            _ => false,
        })
    }

    pub fn reads_json(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Json { .. } | Part::Fields(_)))
    }

    pub fn reads_form(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Form { .. } | Part::FormSorted))
    }

    pub fn has_url(&self) -> bool {
        let of_url = |part: &Part| {
            matches!(part, Part::Url | Part::UrlDecoded | Part::Digest { of: DigestOf::Url, .. })
        };
        self.parts.iter().any(of_url)
    }

    pub fn has_timestamp(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Timestamp))
    }

    /// Whether the time may be covered: by itself, or as one of the headers that a header names.
    pub fn may_have_timestamp(&self) -> bool {
        self.has_timestamp() || self.parts.iter().any(|part| matches!(part, Part::HeadersNamedIn(_)))
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
        for part in &self.parts {
            match part {
                Part::Text(text) | Part::Param(text) => sink(text.as_bytes()),
                Part::Body => sink(&seen.request.body),
                Part::Timestamp => match timestamp {
                    Some(text) => sink(text.as_bytes()),
                    None => return Err("the timestamp is missing".to_owned()),
                },
                Part::Method => sink(seen.request.method.as_str().as_bytes()),
                Part::Url => sink(seen.url().as_bytes()),
                Part::UrlDecoded => sink(url_decoded(&seen.url()).as_bytes()),
                Part::Path => sink(seen.request.path.as_bytes()),
                Part::Header { name, optional } => match seen.request.header(name) {
                    HeaderLine::One(text) => sink(text.as_bytes()),
                    HeaderLine::Several => return Err(format!("several {name} headers")),
                    HeaderLine::Missing if *optional => {}
                    HeaderLine::Missing => return Err(format!("the {name} header is missing")),
                },
                Part::Query { name, optional } => match seen.request.query_value(name) {
                    Some(text) => sink(text.as_bytes()),
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
                    for name in names {
                        let text = match members.get(name) {
                            None | Some(Value::Null) => continue,
                            Some(Value::String(text)) => text.as_str(),
                            Some(_) => return Err(format!("the body has no text at {name}")),
                        };
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
}

impl Part {
    fn parse(text: &str, param: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (kind, argument) = text.split_once(':').unwrap_or((text, ""));
        let (argument, optional) = match argument.strip_suffix('?') {
            Some(argument) => (argument, true),
            None => (argument, false),
        };
        let digest = |hash, encoding| {
            let of = match argument {
                "body" => DigestOf::Body,
                "url" => DigestOf::Url,
                _ => return Err(format!("`{{{text}}}`: a digest is of `body` or `url`")),
            };
            Ok(Self::Digest { hash, encoding, of })
        };
        match kind {
            "body" if argument.is_empty() => Ok(Self::Body),
            "timestamp" if argument.is_empty() => Ok(Self::Timestamp),
            "method" if argument.is_empty() => Ok(Self::Method),
            "path" if argument.is_empty() => Ok(Self::Path),
            "url" if argument.is_empty() => Ok(Self::Url),
            "url" if argument == "decoded" => Ok(Self::UrlDecoded),
            "header" => match argument.parse() {
                Ok(name) => Ok(Self::Header { name, optional }),
                Err(_) => Err(format!("`{{{text}}}`: `{argument}` can't be the name of a header")),
            },
            "query" if !argument.is_empty() => Ok(Self::Query { name: argument.to_owned(), optional }),
            "json" => {
                let path = JsonPath::parse(argument)?;
                if path.is_singular() {
                    Ok(Self::Json { path, optional })
                } else {
                    Err(format!("`{{{text}}}`: only a path to one value can be signed"))
                }
            }
            "form" if argument == "sorted" => Ok(Self::FormSorted),
            "form" if !argument.is_empty() => Ok(Self::Form { name: argument.to_owned(), optional }),
            "headers" => match argument.parse() {
                Ok(name) => Ok(Self::HeadersNamedIn(name)),
                Err(_) => Err(format!("`{{{text}}}`: `{argument}` can't be the name of a header")),
            },
            "fields" if !argument.is_empty() => {
                Ok(Self::Fields(argument.split(',').map(|name| name.trim().to_owned()).collect()))
            }
            "secret" if argument.is_empty() => Ok(Self::Secret),
            "crc32" if argument == "body" => Ok(Self::Crc32),
            "param" => match param(argument) {
                Some(value) => Ok(Self::Param(value)),
                None => Err(format!("`{{{text}}}`: there is no `{argument}` under `params`")),
            },
            "sha256hex" => digest(Hash::Sha256, Encoding::Hex),
            "sha256b64" => digest(Hash::Sha256, Encoding::Base64),
            "sha256b64url" => digest(Hash::Sha256, Encoding::Base64Url),
            _ => Err(format!("`{{{text}}}` is not a part of a request")),
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
