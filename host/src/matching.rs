//! `match`: which requests a trigger is for.

use std::cmp::Ordering;

use serde_json::Value;

use crate::{
    budget::{Budget, Exhausted},
    number,
    schema::Schema,
    selector::{Selected, Selector, Subject},
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
    pub fn first_unmet(&self, subject: Subject<'_>) -> Result<Option<&Line>, Exhausted> {
        for line in &self.0 {
            if !line.holds(subject)? {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

impl Line {
    fn holds(&self, subject: Subject<'_>) -> Result<bool, Exhausted> {
        match self.selector.select(subject)? {
            Selected::Nothing => Ok(false),
            Selected::One(value) => self.condition.holds(&value, subject.budget),
            Selected::Many(values) => {
                for value in values {
                    if self.condition.holds(value, subject.budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Condition {
    fn holds(&self, value: &Value, budget: &Budget) -> Result<bool, Exhausted> {
        match self {
            Self::Equals(expected) => Ok(equal(expected, value)),
            Self::AnyOf(expected) => Ok(expected.iter().any(|expected| equal(expected, value))),
            Self::Satisfies(schema) => schema.accepts(value, budget),
        }
    }
}

/// Equality as an author means it: `1` is `1.0`, and a header's text `1` is the number 1 of the YAML.
fn equal(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Number(expected), Value::String(got)) => expected.to_string() == *got,
        (Value::Bool(expected), Value::String(got)) => expected.to_string() == *got,
        _ => same(expected, got),
    }
}

/// Whether two documents are the same: numbers by value however they are written, members in any order.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => number::compare(one, other) == Ordering::Equal,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (one, other) in [
            ("1", "1.0"),
            ("[1e2]", "[100]"),
            ("-10e399", "-1e400"),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        ] {
            assert!(same(&parse(one), &parse(other)), "{one} {other}");
        }
        for (one, other) in [
            ("9007199254740993", "9007199254740992"),
            ("1", "true"),
            ("0.1", "0.10000000000000000001"),
            ("1e400", "1e401"),
            ("[1]", "[1,2]"),
        ] {
            assert!(!same(&parse(one), &parse(other)), "{one} {other}");
        }
        assert!(equal(&parse("1"), &parse("\"1\"")));
        assert!(!same(&parse("1"), &parse("\"1\"")));
    }
}
