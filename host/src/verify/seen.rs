//! A request as verification looks at it.

use std::cell::OnceCell;

use serde_json::Value;

use crate::{
    budget::Budget,
    json,
    request::{self, Inbound},
    selector::JsonPath,
};

/// Fields of a form that a rule looks into.
const FORM_FIELDS_MAX: usize = 5000;

/// A request as verification looks at it: raw, with its JSON parsed at most once and only when a rule asks.
#[derive(Debug)]
pub struct Seen<'a> {
    pub request: &'a Inbound,
    /// The host's configured public URL, without a trailing slash; never a guess from `Host`.
    pub public_url: &'a str,
    /// What the request may spend on finding what a rule asks for.
    pub budget: &'a Budget,
    /// What was to be fetched, see [`super::Verify::wanted`].
    pub fetched: Option<&'a str>,
    item: Option<&'a Value>,
    json: OnceCell<Option<Value>>,
    form: OnceCell<Result<Vec<(String, String)>, String>>,
}

impl<'a> Seen<'a> {
    pub fn new(request: &'a Inbound, public_url: &'a str, budget: &'a Budget) -> Self {
        let (json, form) = (OnceCell::new(), OnceCell::new());
        Self { request, public_url, budget, fetched: None, item: None, json, form }
    }

    #[must_use]
    pub fn with(self, fetched: Option<&'a str>) -> Self {
        Self { fetched, ..self }
    }

    /// The same with `$` for one item of its batch.
    pub(super) fn item<'b>(&'b self, item: &'b Value) -> Seen<'b> {
        Seen { item: Some(item), ..Seen::new(self.request, self.public_url, self.budget).with(self.fetched) }
    }

    /// The same under another public URL.
    pub(super) fn at<'b>(&'b self, public_url: &'b str) -> Seen<'b> {
        Seen { item: self.item, ..Seen::new(self.request, public_url, self.budget).with(self.fetched) }
    }

    /// The body (or the item) as JSON; `None` when it isn't.
    pub fn json(&self) -> Option<&Value> {
        let parse = || json::parse(json::without_bom(&self.request.body)).ok();
        self.item.or_else(|| self.json.get_or_init(parse).as_ref())
    }

    /// The text or number that lies there.
    pub fn text_at(&self, path: &JsonPath) -> Result<String, String> {
        match self.json().and_then(|json| path.value(json)) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(format!("the body has no text at {}", path.text())),
        }
    }

    /// The fields of a form, in order, decoded.
    pub fn form(&self) -> Result<&[(String, String)], String> {
        let fields = self.form.get_or_init(|| request::form_fields(&self.request.body, FORM_FIELDS_MAX));
        fields.as_deref().map_err(Clone::clone)
    }

    /// The only value of a field.
    pub fn form_value(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values = self.form()?.iter().filter(|(own, _)| own == name);
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(format!("the form has the field {name} twice")),
            (found, _) => Ok(found.map(|(_, value)| value.as_str())),
        }
    }

    /// Path and query, as received.
    pub fn target(&self) -> String {
        let Inbound { path, query, .. } = self.request;
        match query {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        }
    }

    /// The public URL of this very request: base, path and query.
    pub fn url(&self) -> String {
        format!("{}{}", self.public_url, self.target())
    }
}
