//! What becomes of one delivery.

use std::collections::BTreeMap;

use hookpack_sdk::{Delivery, Event, RawValue, Result, mapper, skip};
use serde::Serialize;

/// Read as far as it is needed here; the rest passes through untouched, digit by digit.
type Payload<'a> = BTreeMap<String, &'a RawValue>;

#[derive(Serialize)]
struct Received<'a> {
    trigger: &'a str,
    received: &'a Payload<'a>,
}

#[mapper]
fn transform(delivery: Delivery) -> Result<Event> {
    let payload: Payload = delivery.json()?;
    if payload.get("test").is_some_and(|test| test.get() == "true") {
        return Err(skip("a test"));
    }
    Event::json(&Received { trigger: delivery.trigger(), received: &payload })
}

#[cfg(test)]
mod tests {
    use hookpack_sdk::{json, testing};

    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let delivery = testing::delivery("NAME.received").json(&json!({"hello": "world"})).build();
        let event = transform(delivery).unwrap();
        assert_eq!(event.value()["received"]["hello"], "world");
    }
}
