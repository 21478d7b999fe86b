//! `match`: which requests a trigger is for.

use serde_json::Value;

use crate::{
    request::Inbound,
    schema::Schema,
    selector::{Selected, Selector},
};

/// Every line must hold.
#[derive(Clone, Debug, Default)]
pub struct Match(pub Vec<Line>);

#[derive(Clone, Debug)]
pub struct Line {
    /// As the pack writes it, for the request log.
    pub text: String,
    pub selector: Selector,
    pub condition: Condition,
}

#[derive(Clone, Debug)]
pub enum Condition {
    Equals(Value),
    AnyOf(Vec<Value>),
    Satisfies(Schema),
}

impl Match {
    /// The first line that does not hold, if any.
    pub fn first_unmet(&self, request: &Inbound, payload: &Value) -> Option<&Line> {
        self.0.iter().find(|line| !line.holds(request, payload))
    }
}

impl Line {
    fn holds(&self, request: &Inbound, payload: &Value) -> bool {
        match self.selector.select(request, payload) {
            Selected::Nothing => false,
            Selected::One(value) => self.condition.holds(&value),
            Selected::Many(values) => values.into_iter().any(|value| self.condition.holds(value)),
        }
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Equals(expected) => equal(expected, value),
            Self::AnyOf(expected) => expected.iter().any(|expected| equal(expected, value)),
            Self::Satisfies(schema) => schema.accepts(value),
        }
    }
}

/// Equality as an author means it: `1` is `1.0`, and a header's text `1` is the number 1 of the YAML.
fn equal(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Number(expected), Value::Number(got)) => {
            expected == got || expected.as_f64().is_some() && expected.as_f64() == got.as_f64() && expected.as_i64() == got.as_i64()
        }
        (Value::Number(expected), Value::String(got)) => expected.to_string() == *got,
        (Value::Bool(expected), Value::String(got)) => expected.to_string() == *got,
        _ => expected == got,
    }
}
