//! Deliveries for tests: a mapper is a function, and `cargo test` calls it without WebAssembly or a host.
//!
//! ```
//! use hookpack_sdk::{json, mapper, skip, testing, Delivery, Event, Result};
//!
//! #[mapper]
//! fn transform(delivery: Delivery) -> Result<Event> {
//!     match delivery.header("x-event") {
//!         Some("ping") => Err(skip("a ping")),
//!         _ => Ok(Event::raw(delivery.payload())),
//!     }
//! }
//!
//! let ping = testing::delivery("acme.any").header("X-Event", "ping").build();
//! assert_eq!(transform(ping), Err(skip("a ping")));
//!
//! let order = testing::delivery("acme.any").json(&json!({"order": 7})).build();
//! assert_eq!(transform(order).unwrap().value(), json!({"order": 7}));
//! ```

use serde::Serialize;

use crate::Delivery;

/// A delivery to this trigger, with an empty object as its payload, until it is told more.
pub fn delivery(trigger: &str) -> Builder {
    Builder(Delivery {
        trigger: trigger.to_owned(),
        received_at: "2026-01-01T00:00:00Z".to_owned(),
        headers: Vec::new(),
        query: Vec::new(),
        settings: "{}".to_owned(),
        attributes: Vec::new(),
        content_type: "application/json".to_owned(),
        payload: "{}".to_owned(),
    })
}

/// A delivery in the making.
#[derive(Clone, Debug)]
#[must_use = "`build` makes the delivery"]
pub struct Builder(Delivery);

impl Builder {
    /// A header; the name goes into lower case, as the host does it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// A parameter of the URL.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.0.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An attribute.
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.0.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `mapping.settings` of the trigger.
    ///
    /// # Panics
    ///
    /// If they have no form in JSON.
    #[track_caller]
    pub fn settings<T: Serialize + ?Sized>(mut self, settings: &T) -> Self {
        self.0.settings = text(settings);
        self
    }

    /// When the host received it, in RFC 3339.
    pub fn received_at(mut self, time: &str) -> Self {
        time.clone_into(&mut self.0.received_at);
        self
    }

    /// The request's content type.
    pub fn content_type(mut self, content_type: &str) -> Self {
        content_type.clone_into(&mut self.0.content_type);
        self
    }

    /// The payload, from a value.
    ///
    /// # Panics
    ///
    /// If it has no form in JSON.
    #[track_caller]
    pub fn json<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        let payload = text(payload);
        self.payload(payload)
    }

    /// The payload as text: what `include_str!` reads, or what is not JSON at all.
    pub fn payload(mut self, payload: impl Into<String>) -> Self {
        self.0.payload = payload.into();
        self
    }

    /// The delivery.
    pub fn build(self) -> Delivery {
        self.0
    }
}

#[track_caller]
fn text<T: Serialize + ?Sized>(value: &T) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text,
        Err(error) => panic!("this has no form in JSON: {error}"),
    }
}
