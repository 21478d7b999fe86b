//! JSON as jsonschema reads it, where every look costs something: see [`crate::meter`].

use std::{borrow::Cow, slice};

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object},
};
use serde_json::{Map, Number, Value, map};

use super::{
    exact,
    meter::{spend_error, spend_name},
};
use crate::meter::{enter, of_text, spend};

/// The representation.
pub(super) struct Metered;

/// A value of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a>(pub(super) &'a Value);

pub(super) struct Members<'a>(map::Iter<'a>);
pub(super) struct Elements<'a>(slice::Iter<'a, Value>);

/// What an error keeps of the value when no more errors may be written down.
pub(super) static NOT_KEPT: Value = Value::Null;

impl Json for Metered {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, run: impl FnOnce(Seen<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        run(Seen(buffer))
    }
}

impl<'a> Node<'a, Metered> for Seen<'a> {
    type Object = &'a Map<String, Value>;
    type Array = &'a [Value];
    type Number = &'a Number;

    fn as_object(&self) -> Option<Self::Object> {
        self.0.as_object().filter(|_| enter())
    }

    fn as_array(&self) -> Option<Self::Array> {
        self.0.as_array().filter(|_| enter()).map(Vec::as_slice)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.0.as_str().filter(|text| spend(of_text(text.len()))).map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<Self::Number> {
        self.0.as_number().filter(|number| spend(of_number(number)))
    }

    fn as_boolean(&self) -> Option<bool> {
        self.0.as_bool().filter(|_| spend(1))
    }

    fn is_null(&self) -> bool {
        spend(1);
        self.0.is_null()
    }

    fn is_number(&self) -> bool {
        spend(1);
        self.0.is_number()
    }

    fn json_type(&self) -> JsonType {
        spend(1);
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        exact::equal(self.0, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        if spend_error(self.0.as_str().map_or(0, str::len)) {
            Cow::Borrowed(self.0)
        } else {
            Cow::Borrowed(&NOT_KEPT)
        }
    }

    /// Always told: without it a schema that refers to itself would go round for ever.
    fn identity(&self) -> Option<NodeIdentity> {
        spend(1);
        Some(NodeIdentity::new(std::ptr::from_ref(self.0).addr()))
    }
}

/// Arithmetic on a number takes time that grows with the square of its digits, written out.
fn of_number(number: &Number) -> u64 {
    const SHORT: usize = 20;
    /// What jsonschema writes out at most, and what an exponent can make of few characters.
    const DIGITS_MAX: u64 = 10_000;
    const DIGITS_PER_STEP: u64 = 256;
    let text = number.as_str();
    if text.len() <= SHORT && !text.contains(['e', 'E']) {
        return 1;
    }
    let exponent = text.rsplit_once(['e', 'E']).map_or(Ok(0), |(_, exponent)| exponent.parse::<i64>());
    let digits = exponent.map_or(0, i64::unsigned_abs).saturating_add(text.len() as u64).min(DIGITS_MAX);
    of_text(text.len()) + digits * digits / DIGITS_PER_STEP
}

impl<'a> Object<'a, Metered> for &'a Map<String, Value> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        Map::len(self)
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        spend(1).then(|| Map::get(self, key.as_str()).map(Seen)).flatten()
    }

    fn members(&self) -> Members<'a> {
        Members(Map::iter(self))
    }
}

impl<'a> Array<'a, Metered> for &'a [Value] {
    type Node = Seen<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        <[Value]>::len(self)
    }

    fn elements(&self) -> Elements<'a> {
        Elements(self.iter())
    }

    fn is_unique(&self) -> bool {
        exact::is_unique(self)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        spend_name(name).then_some((name.as_str(), Seen(value)))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().filter(|_| spend(1)).map(Seen)
    }
}
