//! What a signature covers: text and parts of the request (`v0:{timestamp}:{body}`), over raw bytes.

use http::HeaderName;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{
    Seen,
    digest::{Encoding, Hash},
};
use crate::{request::HeaderLine, selector::JsonPath};

#[derive(Clone, Debug)]
pub struct Template {
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
    {query:NAME}, {json:$.path}, {param:NAME}, {sha256hex:body}, {sha256b64:body} and {sha256b64url:body}; \
    a trailing ? in {header:…}, {query:…} or {json:…} makes it optional";

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
        Ok(Self { parts })
    }

    /// Whether the signature covers the body, whole or by a digest of it.
    pub fn covers_body(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Body | Part::Digest { of: DigestOf::Body, .. }))
    }

    pub fn has_timestamp(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Timestamp))
    }

    /// Feeds every part to `sink`, in order; the error names a part that the request lacks.
    pub fn feed(
        &self,
        seen: &Seen<'_>,
        timestamp: Option<&str>,
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
                Part::UrlDecoded => sink(&percent_decode_str(&seen.url()).collect::<Vec<_>>()),
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
