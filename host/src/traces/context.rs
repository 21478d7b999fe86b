//! `traceparent` and `tracestate`, as W3C Trace Context has them.

use http::{HeaderMap, HeaderName};
use uuid::Uuid;

use crate::model::TraceId;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longer states need not be passed on.
const STATE_CHARS_MAX: usize = 512;

/// Which trace a request is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace_id: TraceId,
    /// The span that caused the request; `None`: nobody's.
    pub parent_id: Option<[u8; 8]>,
    /// Whether the sender traces it.
    pub is_sampled: bool,
    pub state: Option<String>,
}

impl Context {
    /// What the headers say; nothing, when they say it wrongly.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        let (trace_id, parent_id, is_sampled) = parent(line.to_str().ok()?.trim())?;
        let states: Vec<_> =
            headers.get_all(TRACESTATE).iter().filter_map(|line| line.to_str().ok()).collect();
        let state =
            Some(states.join(",")).filter(|state| !state.is_empty() && state.len() <= STATE_CHARS_MAX);
        Some(Self { trace_id, parent_id: Some(parent_id), is_sampled, state })
    }

    /// A trace that begins here has the request's id.
    pub(super) fn root(request_id: Uuid) -> Self {
        Self { trace_id: TraceId(request_id.into_bytes()), parent_id: None, is_sampled: false, state: None }
    }
}

/// `00-<trace id>-<parent id>-<flags>`; later versions may say more behind it.
fn parent(text: &str) -> Option<(TraceId, [u8; 8], bool)> {
    let mut parts = text.split('-');
    let [version] = bytes(parts.next()?)?;
    let (trace_id, parent_id, [flags]) =
        (bytes(parts.next()?)?, bytes(parts.next()?)?, bytes::<1>(parts.next()?)?);
    let is_whole = version != 0 || parts.next().is_none();
    let is_known = version != 0xff && trace_id != [0; 16] && parent_id != [0; 8];
    (is_whole && is_known).then_some((TraceId(trace_id), parent_id, flags & 1 == 1))
}

/// Lower-case hex.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::post;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(lines: &[(&str, &str)]) -> Option<Context> {
        Context::of(&post(lines, "").headers)
    }

    #[test]
    fn a_parent_is_read_by_the_letter() {
        let read = context(&[("traceparent", GOOD), ("tracestate", "a=1,b=2")]).unwrap();
        assert_eq!(read.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read.parent_id.map(hex::encode).as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!((read.is_sampled, read.state.as_deref()), (true, Some("a=1,b=2")));
        assert!(!context(&[("traceparent", &GOOD.replace("-01", "-00"))]).unwrap().is_sampled);
        assert!(context(&[("traceparent", &format!("{}-more", GOOD.replace("00-4", "01-4")))]).is_some());
        for wrong in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replace("00-4", "ff-4"),
            &format!("{GOOD}-more"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("-01", "-1"),
            &GOOD.replace('-', "_"),
        ] {
            assert_eq!(context(&[("traceparent", wrong)]), None, "{wrong}");
        }
        assert_eq!(context(&[]), None);
        let long = "a".repeat(STATE_CHARS_MAX + 1);
        assert_eq!(context(&[("traceparent", GOOD), ("tracestate", &long)]).unwrap().state, None);
    }
}
