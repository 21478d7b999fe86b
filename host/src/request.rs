//! One request as it was received: what every check and selector looks at.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    credentials::{is_proof_header, without_key},
    form,
};

#[derive(Clone, Debug)]
pub struct Inbound {
    /// A v7 uuid; also the id of the request log's row.
    pub id: Uuid,
    pub received_at: OffsetDateTime,
    /// The sender's address, after trusted proxies have been believed.
    pub source_ip: IpAddr,
    pub method: Method,
    pub path: String,
    /// As it stood in the URL, still encoded.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// The bytes as they came over the wire, before any decoding.
    pub body: Bytes,
}

/// What a CloudEvent says of itself beside its data, each as text; nothing when the request is none.
pub type Attributes = BTreeMap<String, String>;

/// What stands in the header of one name.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderLine<'a> {
    Missing,
    One(Cow<'a, str>),
    /// Two senders, or somebody between them, disagree: nobody is believed.
    Several,
}

impl Inbound {
    /// The only line of a header; bytes that are not UTF-8 are replaced.
    pub fn header(&self, name: &HeaderName) -> HeaderLine<'_> {
        let mut lines = self.headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => HeaderLine::Missing,
            (Some(line), None) => HeaderLine::One(String::from_utf8_lossy(line.as_bytes())),
            (Some(_), Some(_)) => HeaderLine::Several,
        }
    }

    /// The first line of a header, as text.
    pub fn first_header(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        self.headers.get(name).map(|line| String::from_utf8_lossy(line.as_bytes()))
    }

    /// Every header line by its lower-case name, those left out that carry secrets or signatures, without the key
    /// of the URL.
    pub fn open_headers(&self) -> impl Iterator<Item = (String, String)> {
        let lines = self.headers.iter().filter(|(name, _)| !is_proof_header(name.as_str()));
        lines.map(|(name, line)| {
            let text = String::from_utf8_lossy(line.as_bytes());
            (name.as_str().to_owned(), without_key(&text, &self.path))
        })
    }

    pub fn user_agent(&self) -> Option<Cow<'_, str>> {
        self.first_header(&http::header::USER_AGENT)
    }

    /// The first value of a query parameter, decoded.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find_map(|(key, value)| (key == name).then_some(Cow::Owned(value)))
    }

    /// The query's parameters in their order, decoded.
    pub fn query_pairs(&self) -> impl Iterator<Item = (String, String)> {
        form::text_pairs(self.query.as_deref().unwrap_or_default())
    }

    /// The time of receipt as everything prints it.
    pub fn received_at_text(&self) -> String {
        rfc3339(self.received_at)
    }
}

/// RFC 3339 in UTC, for example `2026-11-22T10:00:00.123456Z`.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// The fields of `application/x-www-form-urlencoded`, in order, decoded; an error says why it is none.
pub fn form_fields(body: &[u8], fields_max: usize) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    for (name, value) in form::pairs(body) {
        if fields.len() == fields_max {
            return Err(format!("the form has more than {fields_max} fields"));
        }
        let text = |bytes: form::Bytes<'_>| {
            String::from_utf8(bytes.into_owned())
                .map_err(|_| "the form has a field that is not UTF-8".to_owned())
        };
        fields.push((text(name)?, text(value)?));
    }
    Ok(fields)
}

/// Pairs as they stand in a URL behind the question mark.
pub fn query_text(pairs: &[(String, String)]) -> Option<String> {
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

#[cfg(test)]
pub mod tests {
    use http::HeaderValue;

    use super::*;

    /// A POST with these headers and this body, from 127.0.0.1 at the epoch.
    #[allow(clippy::missing_panics_doc, reason = "a helper of tests")]
    pub fn post(headers: &[(&str, &str)], body: &str) -> Inbound {
        let header = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        Inbound {
            id: Uuid::nil(),
            received_at: OffsetDateTime::UNIX_EPOCH,
            source_ip: IpAddr::from([127, 0, 0, 1]),
            method: Method::POST,
            path: "/api/v1/webhooks/wh_x".to_owned(),
            query: Some("a=1&b+c=%C3%A9+x&a=2&flag".to_owned()),
            headers: headers.iter().map(header).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn query_values_are_decoded_and_the_first_counts() {
        let request = post(&[], "");
        let value = |name: &str| request.query_value(name).map(Cow::into_owned);
        assert_eq!(value("a").as_deref(), Some("1"));
        assert_eq!(value("b c").as_deref(), Some("é x"));
        assert_eq!(value("flag").as_deref(), Some(""));
        assert_eq!(value("z"), None);
    }

    #[test]
    fn two_lines_of_one_header_are_seen() {
        let mut request = post(&[("x-a", "1")], "");
        let name = HeaderName::from_static("x-a");
        assert_eq!(request.header(&name), HeaderLine::One("1".into()));
        request.headers.append("x-a", HeaderValue::from_static("2"));
        assert_eq!(request.header(&name), HeaderLine::Several);
    }
}
