//! A part of a template, from its text.

use super::{DigestOf, Encoding, Hash, Part};
use crate::selector::JsonPath;

impl Part {
    /// Reads what stands between two braces; the error says in the author's words what is wrong with it.
    pub(super) fn parse(text: &str, param: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
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
            "target" if argument.is_empty() => Ok(Self::Target),
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
