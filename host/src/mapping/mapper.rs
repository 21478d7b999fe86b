//! The `wasm` mapping: what a mapper gets to see of a request.

use bytes::Bytes;
use http::header;

use super::Given;
use crate::wasm::Delivery;

/// The delivery as a mapper is given it: nothing in it opens anything, or proves that somebody was the sender.
pub(super) fn delivery(given: &Given<'_>, payload: Bytes) -> Delivery {
    let request = given.subject.request;
    // No attribute of ours, now or later, can begin like one of a CloudEvent.
    let own = [("method", request.method.to_string()), ("request-id", request.id.to_string())];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let said = given.subject.attributes.iter().map(|(name, value)| (format!("ce-{name}"), value.clone()));
    let content_type = request.first_header(&header::CONTENT_TYPE);
    Delivery {
        trigger: given.trigger_ref.to_owned(),
        received_at: request.received_at_text(),
        headers: request.open_headers().filter(|(name, _)| !given.verify.is_proof_header(name)).collect(),
        query: request.query_pairs().filter(|(name, _)| !given.verify.is_proof_parameter(name)).collect(),
        attributes: own.chain(said).collect(),
        content_type: content_type
            .map_or_else(|| "application/json".to_owned(), std::borrow::Cow::into_owned),
        payload,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        budget::Budget,
        request::{Attributes, tests::post},
        selector::Subject,
        verify::{Scheme, Verify, signature::Place, token::Token},
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
            let attributes = Attributes::from([("type".to_owned(), "push".to_owned())]);
            let budget = &Budget::default();
            let subject =
                Subject { request: &request, attributes: &attributes, payload: &Value::Null, budget };
            let given = Given { subject, trigger_ref: "t.one", verify: &verify };
            let delivery = delivery(&given, Bytes::new());
            let names = |pairs: &[(String, String)]| {
                pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(delivery.attributes[2], ("ce-type".to_owned(), "push".to_owned()));
            (names(&delivery.headers), names(&delivery.query))
        };
        let header = seen(Place::Header("x-key".parse().unwrap()));
        assert_eq!(header, ("x-event=push x-event=again".to_owned(), "a=1 2 b= key=x".to_owned()));
        let parameter = seen(Place::Query("key".to_owned()));
        assert_eq!(parameter.1, "a=1 2 b=");
        assert!(parameter.0.contains("x-key=the secret"));
    }
}
