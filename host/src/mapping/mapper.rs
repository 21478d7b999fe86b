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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        request::tests::post,
        verify::{Scheme, signature::Place, token::Token},
    };

    #[test]
    fn a_mapper_sees_the_request_without_what_proves_its_sender() {
        let mut request = post(
            &[
                ("X-Event", "push"),
                ("x-event", "again"),
                ("authorization", "Bearer x"),
                ("x-hub-signature-256", "sha256=00"),
                ("cookie", "a=b"),
                ("x-key", "the secret"),
            ],
            "{}",
        );
        request.query = Some("a=1%202&b&key=x".to_owned());
        let seen = |place: Place| {
            let verify = Verify::of(Scheme::Token(Token { place, prefix: None, basic: false }));
            let given =
                Given { request: &request, trigger_ref: "t.one", verify: &verify, payload: &Value::Null };
            let delivery = delivery(&given, Bytes::new());
            let names = |pairs: &[(String, String)]| {
                pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            };
            (names(&delivery.headers), names(&delivery.query))
        };
        let header = seen(Place::Header("x-key".parse().unwrap()));
        assert_eq!(header, ("x-event=push x-event=again".to_owned(), "a=1 2 b= key=x".to_owned()));
        let parameter = seen(Place::Query("key".to_owned()));
        assert_eq!(parameter.1, "a=1 2 b=");
        assert!(parameter.0.contains("x-key=the secret"));
    }
}
