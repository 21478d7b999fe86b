//! What a template covers of a request.

use http::HeaderName;

use super::{DigestOf, Encoding, Part, Template};
use crate::{request::HeaderLine, selector::JsonPath, verify::Seen};

impl Template {
    /// Whether the signature covers the body, whole or by a digest of it.
    pub fn covers_body(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(
                part,
                Part::Body | Part::Crc32 | Part::FormSorted | Part::Digest { of: DigestOf::Body, .. }
            )
        })
    }

    /// Whether it covers the body so that no other fits: not by a checksum alone.
    pub fn covers_body_by_digest(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(part, Part::Body | Part::FormSorted | Part::Digest { of: DigestOf::Body, .. })
        })
    }

    /// Whether all that it covers of the body are siblings of this member, in an object of their own.
    pub fn covers_only_beside(&self, member: &JsonPath) -> bool {
        let parent = |path: &JsonPath| path.text().rsplit_once('.').map(|(parent, _)| parent.to_owned());
        let own = parent(member).filter(|parent| parent != "$");
        own.is_some()
            && self.parts.iter().all(|part| match part {
                Part::Json { path, .. } => parent(path) == own,
                Part::Body
                | Part::Form { .. }
                | Part::FormSorted
                | Part::Fields(_)
                | Part::Crc32
                | Part::Digest { of: DigestOf::Body, .. } => false,
                Part::Text(_)
                | Part::Timestamp
                | Part::Method
                | Part::Url
                | Part::UrlDecoded
                | Part::Path
                | Part::Target
                | Part::Header { .. }
                | Part::Query { .. }
                | Part::HeadersNamedIn(_)
                | Part::Secret
                | Part::Param(_)
                | Part::Digest { of: DigestOf::Url, .. } => true,
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

    /// Whether the last of it is base64, with or without padding.
    pub fn ends_in_base64(&self) -> bool {
        matches!(
            self.parts.last(),
            Some(Part::Digest { encoding: Encoding::Base64 | Encoding::Base64Url, .. })
        )
    }

    /// Whether it covers the path by itself.
    pub fn has_path(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Path))
    }

    /// Whether it covers the query as a whole.
    pub fn has_whole_query(&self) -> bool {
        self.has_url() || self.parts.iter().any(|part| matches!(part, Part::Target))
    }

    /// The parameters of the query that it covers one by one.
    pub fn query_parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Query { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    pub fn has_timestamp(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Timestamp))
    }

    /// Whether the time may be covered: by itself, or as one of the headers that a header names.
    pub fn may_have_timestamp(&self) -> bool {
        self.has_timestamp() || self.parts.iter().any(|part| matches!(part, Part::HeadersNamedIn(_)))
    }
}
