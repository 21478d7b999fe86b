//! What a mapper makes.

use serde::Serialize;
use serde_json::Value;

use crate::{Result, error};

/// One event to store: a JSON document, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) payload: String,
    pub(crate) key: Option<String>,
}

impl Event {
    /// An event with this value as its payload; [`Failed`](crate::Error::Failed) if it has no form in JSON, as a map has
    /// none whose keys are no text.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value).map(Self::raw).map_err(error::failed)
    }

    /// An event with this JSON document as its payload. The host reads it: a delivery whose mapper returned
    /// something else fails.
    pub fn raw(payload: impl Into<String>) -> Self {
        Self { payload: payload.into(), key: None }
    }

    /// The event's own idempotency key: a second one with it, from whatever delivery, is not stored.
    ///
    /// Where a delivery becomes several events, each needs a key if repetitions shall be told; without one, the
    /// delivery's key counts.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The payload as text.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The payload as a value, for tests.
    ///
    /// # Panics
    ///
    /// If the event was made by [`Event::raw`] from something that isn't JSON.
    pub fn value(&self) -> Value {
        match serde_json::from_str(&self.payload) {
            Ok(value) => value,
            Err(error) => panic!("the payload is not JSON: {error}"),
        }
    }

    /// What [`Event::with_key`] set.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// One event or many: what a mapper's `Result` may hold.
#[diagnostic::on_unimplemented(
    message = "a mapper returns `Result<Event>` or `Result<Vec<Event>>`, not a `Result` of `{Self}`",
    label = "no `Event` and no `Vec<Event>`",
    note = "`Event::json(&value)` makes an event of everything that serde can serialize"
)]
pub trait IntoEvents {
    /// The events, in the order in which they are stored.
    fn into_events(self) -> Vec<Event>;
}

impl IntoEvents for Event {
    fn into_events(self) -> Vec<Event> {
        vec![self]
    }
}

impl IntoEvents for Vec<Event> {
    fn into_events(self) -> Vec<Event> {
        self
    }
}

/// Everything that a mapper may return.
#[diagnostic::on_unimplemented(
    message = "a mapper returns `Result<Event>` or `Result<Vec<Event>>`, not `{Self}`",
    label = "should be `hookpack_sdk::Result<Event>`",
    note = "other errors become one of ours with `.map_err(invalid_payload)` or `.map_err(failed)`"
)]
pub trait Outcome {
    /// The events, or why there are none.
    fn into_result(self) -> Result<Vec<Event>>;
}

impl<T: IntoEvents> Outcome for Result<T> {
    fn into_result(self) -> Result<Vec<Event>> {
        self.map(IntoEvents::into_events)
    }
}
