//! What a mapper is given.

use serde::Deserialize;

use crate::{Result, error};

/// One decoded request, on its way to become events.
///
/// A mapper sees it after the host has verified and decoded it. Tests make one with [`testing::delivery`].
///
/// [`testing::delivery`]: crate::testing::delivery
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub(crate) trigger: String,
    pub(crate) received_at: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) settings: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) content_type: String,
    pub(crate) payload: String,
}

impl Delivery {
    /// The payload as a type of yours; if it doesn't fit, [`InvalidPayload`] with serde's message.
    ///
    /// What you read may borrow from the delivery. JSON strings with escapes in them can't be borrowed as `&str`;
    /// `#[serde(borrow)] Cow<str>` takes both. Parts that only pass through are a [`RawValue`]:
    ///
    /// ```
    /// use hookpack_sdk::{mapper, Delivery, Event, RawValue, Result};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize, Serialize)]
    /// struct Order<'a> {
    ///     id: &'a str,
    ///     #[serde(borrow)]
    ///     total: &'a RawValue,
    /// }
    ///
    /// #[mapper]
    /// fn transform(delivery: Delivery) -> Result<Event> {
    ///     let order: Order = delivery.json()?;
    ///     Event::json(&order)
    /// }
    /// # let text = r#"{"total":1234567890.10,"id":"a"}"#;
    /// # let event = transform(hookpack_sdk::testing::delivery("shop.order").payload(text).build()).unwrap();
    /// # assert_eq!(event.payload(), r#"{"id":"a","total":1234567890.10}"#);
    /// ```
    ///
    /// [`InvalidPayload`]: crate::Error::InvalidPayload
    /// [`RawValue`]: crate::RawValue
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.payload).map_err(error::invalid_payload)
    }

    /// The payload as the host hands it over: one JSON document, whatever the request's encoding was.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// `mapping.settings` of the trigger; `{}` where it has none. If they don't fit, [`Failed`]: it is the pack's
    /// fault, not the sender's.
    ///
    /// ```
    /// # use hookpack_sdk::{testing, json, Error, Result};
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Settings {
    ///     #[serde(default)]
    ///     ignore_branches: Vec<String>,
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let delivery = testing::delivery("github.push").settings(&json!({"ignore_branches": ["wip"]})).build();
    /// let settings: Settings = delivery.settings()?;
    /// assert_eq!(settings.ignore_branches, ["wip"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Failed`]: crate::Error::Failed
    pub fn settings<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.settings).map_err(|error| error::failed(format_args!("settings: {error}")))
    }

    /// The trigger that the delivery came to, like `github.push`.
    pub fn trigger(&self) -> &str {
        &self.trigger
    }

    /// When the host received it: RFC 3339, in UTC. A mapper has no other clock.
    pub fn received_at(&self) -> &str {
        &self.received_at
    }

    /// The request's content type.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The first header of that name, in any case. Signatures, authorization and cookies are taken out by the host.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find_map(|(header, value)| header.eq_ignore_ascii_case(name).then_some(value))
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.headers)
    }

    /// The first parameter of that name in the URL.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.queries().find_map(|(query, value)| (query == name).then_some(value))
    }

    /// All parameters of the URL, in their order.
    pub fn queries(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.query)
    }

    /// What a newer host may tell beside the rest; `None` where it doesn't.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes().find_map(|(attribute, value)| (attribute == name).then_some(value))
    }

    /// All attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.attributes)
    }
}

fn pairs(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}
