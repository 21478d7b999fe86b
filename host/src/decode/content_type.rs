//! What the headers say of a body.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};
use http::{HeaderMap, header};

use super::{Compression, Content, document::Document};

/// A body without a content type is taken for JSON: that is all we are sent without one.
pub(super) fn content_of(headers: &HeaderMap) -> Result<Content, String> {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (line, None) = (lines.next(), lines.next()) else {
        return Err("the request has several Content-Type headers".to_owned());
    };
    let Some(line) = line else { return Ok(Content::Document(Document::Json)) };
    let text = String::from_utf8_lossy(line.as_bytes());
    let kind = kind_of(&text);
    match kind.as_str() {
        other if !is_media_type(other) => {
            Err(format!("Content-Type `{}` is not one media type; send application/json", clipped(other)))
        }
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            unicode(&text).map(|()| Content::Lines)
        }
        "application/cloudevents+json" => unicode(&text).map(|()| Content::CloudEvent),
        "application/cloudevents-batch+json" => unicode(&text).map(|()| Content::CloudEvents),
        other if other.starts_with("application/cloudevents") => {
            Err(format!("Content-Type `{}` is not understood here; send CloudEvents as JSON", clipped(other)))
        }
        other if other.starts_with("multipart/") => {
            Err("multipart bodies are not understood here; send application/json, or a form as \
             application/x-www-form-urlencoded"
                .to_owned())
        }
        _ => document_of(&text).map(Content::Document),
    }
}

/// How one document of this media type is written.
pub(super) fn document_of(text: &str) -> Result<Document, String> {
    let kind = kind_of(text);
    match kind.split_once('/') {
        Some(("application" | "text", "json")) => unicode(text).map(|()| Document::Json),
        Some((_, subtype)) if subtype.ends_with("+json") => unicode(text).map(|()| Document::Json),
        Some(("application", "x-www-form-urlencoded")) => match charset_of(text)? {
            // Where `&` and `=` are others, no field could be found.
            charset if charset.is_ascii_compatible() => Ok(Document::Form(charset)),
            charset => Err(format!("charset `{}` can't be that of a form; send UTF-8", charset.name())),
        },
        Some(("text", "plain")) => charset_of(text).map(Document::PlainText),
        Some(("text", _) | ("application", "xml")) => charset_of(text).map(Document::Text),
        Some((_, subtype)) if subtype.ends_with("+xml") => charset_of(text).map(Document::Text),
        Some(_) if is_media_type(&kind) => Ok(Document::Bytes),
        _ => Err(format!("Content-Type `{}` is not understood here; send application/json", clipped(&kind))),
    }
}

/// A type and a subtype that RFC 9110 and RFC 6838 allow: no list of them, no blank in them, no `*`.
fn is_media_type(kind: &str) -> bool {
    let is_name = |name: &str| {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(part)
    };
    kind.split_once('/').is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

fn kind_of(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// JSON is UTF-8 (RFC 8259), whatever it is said to be.
fn unicode(text: &str) -> Result<(), String> {
    match charset_of(text)? {
        charset if charset == UTF_8 => Ok(()),
        charset => Err(format!("charset `{}` is not understood here; send JSON in UTF-8", charset.name())),
    }
}

/// The charset that is declared, UTF-8 without one.
fn charset_of(text: &str) -> Result<&'static Encoding, String> {
    let mut charset = UTF_8;
    for parameter in text.split(';').skip(1) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("charset") {
            continue;
        }
        let label = value.trim().trim_matches('"');
        charset = match Encoding::for_label_no_replacement(label.as_bytes()) {
            // What is ASCII is UTF-8; the web's rule would read its other bytes as windows-1252.
            Some(_) if ["us-ascii", "ascii"].contains(&label.to_ascii_lowercase().as_str()) => UTF_8,
            Some(charset) => charset,
            None => return Err(format!("charset `{}` is not understood here; send UTF-8", clipped(label))),
        };
    }
    Ok(charset)
}

pub(super) fn compression_of(headers: &HeaderMap) -> Result<Compression, String> {
    let mut lines = headers.get_all(header::CONTENT_ENCODING).iter();
    let (line, None) = (lines.next(), lines.next()) else {
        return Err("a body compressed more than once is not understood here".to_owned());
    };
    let text = line.map_or(Cow::Borrowed("identity"), |line| String::from_utf8_lossy(line.as_bytes()));
    match text.trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(Compression::Identity),
        "gzip" | "x-gzip" => Ok(Compression::Gzip),
        "deflate" => Ok(Compression::Deflate),
        other => Err(format!(
            "Content-Encoding `{}` is not understood here; send gzip, deflate or none",
            clipped(other)
        )),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GBK, WINDOWS_1252};

    use super::*;
    use crate::request::tests::post;

    fn content(content_type: &str) -> Result<Content, String> {
        content_of(&post(&[("content-type", content_type)], "").headers)
    }

    #[test]
    fn every_content_type_is_understood_in_one_way() {
        use Document::{Bytes, Form, Json, PlainText, Text};

        for (content_type, expected) in [
            ("application/json", Json),
            ("application/JSON; charset=UTF-8", Json),
            ("application/json; charset=\"us-ascii\"; profile=x", Json),
            ("application/vnd.github+json", Json),
            ("text/json", Json),
            ("application/json; charset=UTF8;", Json),
            ("application/json;", Json),
            ("application/json; odata.metadata=minimal; charset=utf-8", Json),
            ("application/scim+json", Json),
            ("application/x-www-form-urlencoded", Form(UTF_8)),
            ("application/x-www-form-urlencoded; charset=GBK", Form(GBK)),
            ("text/plain; charset=utf8", PlainText(UTF_8)),
            ("Text/Plain;charset=ISO-8859-1", PlainText(WINDOWS_1252)),
            ("text/html;charset=windows-1252", Text(WINDOWS_1252)),
            ("application/xml", Text(UTF_8)),
            ("application/soap+xml; charset=utf-8", Text(UTF_8)),
            ("application/octet-stream", Bytes),
            ("image/png", Bytes),
        ] {
            assert_eq!(content(content_type), Ok(Content::Document(expected)), "{content_type}");
        }
        for kind in ["application/x-ndjson; charset=utf-8", "application/ndjson", "application/jsonl"] {
            assert_eq!(content(kind), Ok(Content::Lines), "{kind}");
        }
        assert_eq!(content("application/cloudevents+json; charset=UTF-8"), Ok(Content::CloudEvent));
        assert_eq!(content("application/cloudevents-batch+json"), Ok(Content::CloudEvents));
        assert_eq!(content_of(&HeaderMap::new()), Ok(Content::Document(Json)));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (content_type, named) in [
            ("application/json; charset=latin1", "windows-1252"),
            ("application/json; charset=utf-16", "UTF-16LE"),
            ("application/x-ndjson; charset=utf-16", "UTF-16LE"),
            ("application/x-www-form-urlencoded; charset=utf-16", "UTF-16LE"),
            ("text/plain; charset=klingon", "klingon"),
            ("text/plain; charset=hz-gb-2312", "hz-gb-2312"),
            ("multipart/form-data; boundary=x", "multipart"),
            ("application/cloudevents+avro", "application/cloudevents+avro"),
            ("json", "`json`"),
            ("/json", "`/json`"),
            ("application/json, application/json", "not one media type"),
            ("application/json,application/json; charset=utf-8", "not one media type"),
            ("application/json; charset=utf-8, application/json; charset=utf-8", "charset"),
            ("text/plain, text/plain", "not one media type"),
            ("application/x-www-form-urlencoded, application/json", "not one media type"),
            ("application/json application/json", "not one media type"),
            ("application/json/xml", "not one media type"),
            ("application/cloudevents+json, application/json", "not one media type"),
            ("application/x-ndjson,", "not one media type"),
            ("*/*", "not one media type"),
            ("application/*", "not one media type"),
            ("\"application/json\"", "not one media type"),
            ("", "``"),
        ] {
            let error = content(content_type).unwrap_err();
            assert!(error.contains(named), "{content_type}: {error}");
        }
        let compression = |name: &str| compression_of(&post(&[("content-encoding", name)], "").headers);
        assert!(compression("br").unwrap_err().contains("`br`"));
        assert!(compression("gzip, gzip").is_err());
        assert_eq!(compression("X-GZip"), Ok(Compression::Gzip));
    }
}
