//! The `wasm` mapping: what a mapper gets to see of a request.

use bytes::Bytes;
use http::header;
use percent_encoding::percent_decode_str;

use super::Given;
use crate::{verify::Verify, wasm::Delivery};

/// The delivery as a mapper is given it: nothing in it opens anything, or proves that somebody was the sender.
pub(super) fn delivery(given: &Given<'_>, payload: Bytes) -> Delivery {
    let request = given.request;
    let content_type = request.first_header(&header::CONTENT_TYPE);
    Delivery {
        trigger: given.trigger_ref.to_owned(),
        received_at: request.received_at_text(),
        headers: request.open_headers().filter(|(name, _)| !given.verify.is_proof_header(name)).collect(),
        query: query(request.query.as_deref().unwrap_or_default(), given.verify),
        attributes: vec![
            ("method".to_owned(), request.method.to_string()),
            ("request-id".to_owned(), request.id.to_string()),
        ],
        content_type: content_type
            .map_or_else(|| "application/json".to_owned(), std::borrow::Cow::into_owned),
        payload,
    }
}

fn query(text: &str, verify: &Verify) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = pairs.map(|(name, value)| (decoded(name), decoded(value)));
    pairs.filter(|(name, _)| !verify.is_proof_parameter(name)).collect()
}
