//! What every way to send JSON has in common.

use std::io::Write;

use flate2::{
    Compression as Level,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use super::*;
use crate::request::tests::post;

/// The payloads of a body, with this much room for it.
fn decode(
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
    bytes_max: usize,
) -> Result<Vec<Payload>, Undecodable> {
    let mut request = post(headers, "");
    request.body = Bytes::copy_from_slice(body.as_ref());
    let limits = Limits { bytes_max, payloads_max: 3, form_fields_max: 3 };
    Coding::of(&request.headers).unwrap().decode(&request, limits).map(|decoded| decoded.payloads)
}

fn json(body: impl AsRef<[u8]>) -> Result<Payload, Undecodable> {
    decode(&[("content-type", "application/json")], body, 1000).map(|mut payloads| payloads.remove(0))
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
        let headers = [("content-encoding", name)];
        assert_eq!(decode(&headers, &body, json.len()).unwrap()[0].text(), json);
        assert_eq!(decode(&headers, &body, json.len() - 1).unwrap_err(), Undecodable::TooLarge);
        let half = &body[..body.len() / 2];
        assert!(matches!(decode(&headers, half, json.len()), Err(Undecodable::Broken(_))));
    }
}

#[test]
fn each_line_that_is_not_blank_is_a_payload() {
    let lines = |body: &str| decode(&[("content-type", "application/x-ndjson")], body, 1000);
    let payloads = lines("{\"n\": 1.10}\r\n\n  \t\n [2] \n\"x\"").unwrap();
    let got: Vec<_> = payloads.iter().map(|payload| (payload.place, payload.text())).collect();
    let expected = [(1, "{\"n\": 1.10}"), (4, "[2]"), (5, "\"x\"")];
    assert_eq!(got, expected.map(|(number, text)| (Place::Line(number), Bytes::from(text))));
    assert!(lines("\n\n").unwrap().is_empty());
    for (body, named) in [
        ("{}\n\n{\"a\":}\n", "line 3 is not valid JSON: expected value at column 6"),
        ("{} {}\n", "line 1 is not valid JSON: trailing characters at column 4"),
        ("{\"a\":\n1}", "line 1 is not valid JSON: EOF while parsing a value at column 5"),
        ("1\n\u{feff}{}", "line 2 is not valid JSON"),
    ] {
        let Err(Undecodable::Broken(reason)) = lines(body) else { panic!("{body}") };
        assert!(reason.starts_with(named), "{reason}");
    }
    assert_eq!(lines("1\n2\n3\n4").unwrap_err(), Undecodable::TooManyPayloads);
}

#[test]
fn numbers_keep_their_text() {
    for text in ["12345678901234567890123", "1.0", "1e5", "1E5", "1e+5", "-0", "0.10", "1e400", "-1.50E-7"] {
        assert_eq!(json(format!("[{text}]")).unwrap().value.to_string(), format!("[{text}]"));
    }
    let body = r#"{"a\\\"1e5":[1E5,{"b":-2.5e-3}],"c":"1e9","d":7}"#;
    assert_eq!(json(body).unwrap().value.to_string(), body);
    let twice = r#"{"a":1E5,"a":2}"#;
    assert_eq!(json(twice).unwrap().value.to_string(), r#"{"a":2}"#);
    // A place and its literal that don't belong together are left alone.
    let swapped = r#"{"a":"x","b":1E5,"a":2}"#;
    assert_eq!(json(swapped).unwrap().value.to_string(), r#"{"a":2,"b":1e+5}"#);
    for magic in [
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
        "\\u0024serde_json::private::\\u0052awValue",
    ] {
        let body = format!(r#"[{{"{magic}" : "1"}}]"#);
        assert!(matches!(json(body), Err(Undecodable::Broken(_))), "{magic}");
    }
    assert!(json(r#"["$serde_json::private::RawValue"]"#).is_ok());
    for broken in ["", "{", "[01]", "{\"a\":\"\\ud800\"}", "[1] x", "\u{feff}", "1\u{feff}", "NaN"] {
        assert!(matches!(json(broken), Err(Undecodable::Broken(_))), "{broken}");
    }
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(json(deep(127)).is_ok());
    assert!(matches!(json(deep(128)), Err(Undecodable::Broken(_))));
}
