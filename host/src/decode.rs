//! From the bytes on the wire to one JSON document, within limits.

use std::{borrow::Cow, io::Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use serde_json::Value;

use crate::json;

/// How a body is written, as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    pub content: Content,
    pub compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Identity,
    Gzip,
    Deflate,
}

/// A decoded body: the document and the very text of it.
#[derive(Clone, Debug)]
pub struct Payload {
    pub value: Value,
    /// JSON in UTF-8, as it was sent (inflated); what is stored when nothing is mapped.
    pub text: Bytes,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// The inflated body would pass the limit.
    TooLarge,
    Broken(String),
}

impl Coding {
    /// What the headers declare; the error is for the sender.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        Ok(Self { content: content_of(headers)?, compression: compression_of(headers)? })
    }

    pub fn decode(self, body: &Bytes, bytes_max: usize) -> Result<Payload, Undecodable> {
        let text = match self.compression {
            Compression::Identity => body.clone(),
            Compression::Gzip => inflate(MultiGzDecoder::new(&body[..]), bytes_max)?,
            // RFC 9110 means zlib by `deflate`; some senders leave zlib's two bytes of header away.
            Compression::Deflate if body.first().is_some_and(|byte| byte & 0x0f == 8) => {
                inflate(ZlibDecoder::new(&body[..]), bytes_max)?
            }
            Compression::Deflate => inflate(DeflateDecoder::new(&body[..]), bytes_max)?,
        };
        match self.content {
            Content::Json => {
                let value = json::parse(&text)
                    .map_err(|error| Undecodable::Broken(format!("the body is not valid JSON: {error}")))?;
                Ok(Payload { value, text })
            }
        }
    }
}

/// A body without a content type is taken for JSON: that is all we are sent without one.
fn content_of(headers: &HeaderMap) -> Result<Content, String> {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (line, None) = (lines.next(), lines.next()) else {
        return Err("the request has several Content-Type headers".to_owned());
    };
    let Some(line) = line else { return Ok(Content::Json) };
    let text = String::from_utf8_lossy(line.as_bytes());
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if kind != "application/json" && kind != "text/json" && !kind.ends_with("+json") {
        return Err(format!(
            "Content-Type `{}` is not understood here; send application/json",
            clipped(&kind)
        ));
    }
    for part in parts {
        if let Some((name, value)) = part.split_once('=')
            && name.trim().eq_ignore_ascii_case("charset")
            && !["utf-8", "utf8", "us-ascii"]
                .contains(&value.trim().trim_matches('"').to_ascii_lowercase().as_str())
        {
            return Err(format!("charset `{}` is not understood here; send UTF-8", clipped(value)));
        }
    }
    Ok(Content::Json)
}

fn compression_of(headers: &HeaderMap) -> Result<Compression, String> {
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

/// Never holds more than one byte past the limit, however well a bomb is packed.
fn inflate(decoder: impl Read, bytes_max: usize) -> Result<Bytes, Undecodable> {
    let mut inflated = Vec::new();
    match decoder.take(bytes_max as u64 + 1).read_to_end(&mut inflated) {
        Ok(read) if read > bytes_max => Err(Undecodable::TooLarge),
        Ok(_) => Ok(inflated.into()),
        Err(error) => Err(Undecodable::Broken(format!("the compressed body is damaged: {error}"))),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression as Level,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn coding(headers: &[(&str, &str)]) -> Result<Coding, String> {
        Coding::of(&crate::request::tests::post(headers, "").headers)
    }

    #[test]
    fn gzip_zlib_and_raw_deflate_are_inflated_within_the_limit() {
        let json = format!("[{}0]", "0,".repeat(5000));
        let mut gzip = GzEncoder::new(Vec::new(), Level::best());
        let mut zlib = ZlibEncoder::new(Vec::new(), Level::best());
        let mut deflate = DeflateEncoder::new(Vec::new(), Level::best());
        gzip.write_all(json.as_bytes()).unwrap();
        zlib.write_all(json.as_bytes()).unwrap();
        deflate.write_all(json.as_bytes()).unwrap();
        for (name, body) in [
            ("gzip", gzip.finish().unwrap()),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", deflate.finish().unwrap()),
        ] {
            let body = Bytes::from(body);
            let coding = coding(&[("content-encoding", name)]).unwrap();
            assert_eq!(coding.decode(&body, json.len()).unwrap().text, json);
            assert_eq!(coding.decode(&body, json.len() - 1).unwrap_err(), Undecodable::TooLarge);
            assert!(matches!(
                coding.decode(&body.slice(..body.len() / 2), json.len()),
                Err(Undecodable::Broken(_))
            ));
        }
    }

    #[test]
    fn content_types_and_charsets_are_understood_or_named() {
        for fine in [
            "application/json",
            "application/JSON; charset=UTF-8",
            "application/vnd.github+json",
            "text/json",
        ] {
            assert!(coding(&[("content-type", fine)]).is_ok(), "{fine}");
        }
        for wrong in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "json",
            "",
        ] {
            println!("{}", coding(&[("content-type", wrong)]).unwrap_err());
        }
        assert!(coding(&[("content-encoding", "br")]).is_err());
        assert!(coding(&[("content-encoding", "gzip, gzip")]).is_err());
    }

    #[test]
    fn numbers_keep_their_text() {
        let coding = coding(&[]).unwrap();
        for text in
            ["12345678901234567890123", "1.0", "1e5", "1E5", "1e+5", "-0", "0.10", "1e400", "-1.50E-7"]
        {
            let body = Bytes::from(format!("[{text}]"));
            let payload = coding.decode(&body, 100).unwrap();
            assert_eq!(payload.value.to_string(), format!("[{text}]"));
        }
        let body = Bytes::from(r#"{"a\\\"1e5":[1E5,{"b":-2.5e-3}],"c":"1e9","d":7}"#);
        assert_eq!(coding.decode(&body, 100).unwrap().value.to_string(), std::str::from_utf8(&body).unwrap());
        let twice = Bytes::from(r#"{"a":1E5,"a":2}"#);
        assert_eq!(coding.decode(&twice, 100).unwrap().value.to_string(), r#"{"a":2}"#);
        // A place and its literal that don't belong together are left alone.
        let swapped = Bytes::from(r#"{"a":"x","b":1E5,"a":2}"#);
        assert_eq!(coding.decode(&swapped, 100).unwrap().value.to_string(), r#"{"a":2,"b":1e+5}"#);
        for magic in [
            "$serde_json::private::RawValue",
            "$serde_json::private::Number",
            "\\u0024serde_json::private::\\u0052awValue",
        ] {
            let body = Bytes::from(format!(r#"[{{"{magic}" : "1"}}]"#));
            assert!(matches!(coding.decode(&body, 100), Err(Undecodable::Broken(_))), "{magic}");
        }
        let harmless = Bytes::from(r#"["$serde_json::private::RawValue"]"#);
        assert!(coding.decode(&harmless, 100).is_ok());
        for broken in ["", "{", "[01]", "{\"a\":\"\\ud800\"}", "[1] x", "\u{feff}1", "NaN"] {
            assert!(
                matches!(coding.decode(&Bytes::from(broken), 100), Err(Undecodable::Broken(_))),
                "{broken}"
            );
        }
        let deep = Bytes::from("[".repeat(200) + &"]".repeat(200));
        assert!(matches!(coding.decode(&deep, 1000), Err(Undecodable::Broken(_))));
    }
}
