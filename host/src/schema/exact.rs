//! Whether two values are the same to JSON Schema: numbers by value however they are written, members in any order.
//!
//! In time that is linear in what is compared: the library's own comparison writes numbers out, and its sets of items
//! take numbers that differ beyond floating point for candidates of each other.

use std::{collections::HashSet, fmt::Write as _};

use serde_json::Value;

use crate::{
    meter::{enter, of_text, spend},
    number::compare_texts,
};

/// `false` when there was no step left for looking.
pub(super) fn equal(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Null, Value::Null) => spend(1),
        (Value::Bool(value), Value::Bool(expected)) => spend(1) && value == expected,
        (Value::Number(value), Value::Number(expected)) => {
            let (value, expected) = (value.as_str(), expected.as_str());
            let steps = of_text(value.len() + expected.len());
            spend(steps) && compare_texts(value, expected).is_eq()
        }
        (Value::String(value), Value::String(expected)) => {
            value.len() == expected.len() && spend(of_text(value.len())) && value == expected
        }
        (Value::Array(value), Value::Array(expected)) => {
            value.len() == expected.len()
                && enter()
                && value.iter().zip(expected).all(|(value, expected)| equal(value, expected))
        }
        (Value::Object(value), Value::Object(expected)) => {
            value.len() == expected.len()
                && enter()
                && value
                    .iter()
                    .all(|(name, value)| expected.get(name).is_some_and(|expected| equal(value, expected)))
        }
        _ => false,
    }
}

/// `true` when there was no step left for looking.
pub(super) fn is_unique(items: &[Value]) -> bool {
    if items.len() < 2 {
        return true;
    }
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().all(|item| {
        let mut text = String::new();
        // Without a step for all of it nothing is known of it.
        !canonical(item, &mut text) || seen.insert(text)
    })
}

/// Writes a text that two values share if and only if they are equal.
fn canonical(value: &Value, text: &mut String) -> bool {
    match value {
        Value::Number(number) => {
            let written = number.as_str();
            let is_done = spend(of_text(written.len()));
            Decimal::of(written).write(text);
            is_done
        }
        Value::Array(items) => {
            text.push('[');
            let is_done = enter() && items.iter().all(|item| canonical(item, text) && push(text, ','));
            text.push(']');
            is_done
        }
        Value::Object(members) => {
            text.push('{');
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            let is_done = enter()
                && members
                    .into_iter()
                    .all(|(name, value)| string(name, text) && push(text, ':') && canonical(value, text));
            text.push('}');
            is_done
        }
        Value::String(item) => string(item, text),
        Value::Null | Value::Bool(_) => {
            text.push(if value.is_null() {
                'n'
            } else if *value == Value::Bool(true) {
                't'
            } else {
                'f'
            });
            spend(1)
        }
    }
}

fn push(text: &mut String, sign: char) -> bool {
    text.push(sign);
    true
}

/// With its length before it no text can pass for another.
fn string(item: &str, text: &mut String) -> bool {
    let is_done = spend(of_text(item.len()));
    write!(text, "\"{}\"{item}", item.len()).is_ok() && is_done
}

/// A number by value.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// Significant digits, without zeros at either end.
    digits: String,
    /// Of the last digit.
    exponent: i64,
    /// What of the exponent doesn't fit, as it was written: two such numbers are the same if they look the same.
    huge: Option<String>,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}");
        let significant = digits.trim_end_matches('0').len();
        let zeros = digits.len() - significant;
        digits.truncate(significant);
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Self { is_negative: false, digits, exponent: 0, huge: None };
        }
        let shift =
            i64::try_from(zeros).unwrap_or_default() - i64::try_from(fraction.len()).unwrap_or_default();
        let parsed = exponent.parse::<i64>().ok().and_then(|exponent| exponent.checked_add(shift));
        let huge = parsed.is_none().then(|| exponent.trim_start_matches('+').to_owned());
        Self { is_negative, digits, exponent: parsed.unwrap_or(shift), huge }
    }

    fn write(&self, text: &mut String) {
        let Self { is_negative, digits, exponent, huge } = self;
        let sign = if *is_negative { "-" } else { "" };
        write!(text, "{sign}{digits}e{exponent}{}", huge.as_deref().unwrap_or_default()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, meter::metered};

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn free<T>(run: impl FnOnce() -> T) -> T {
        metered(&Budget::default(), u64::MAX, run).0
    }

    #[test]
    fn values_are_equal_by_value() {
        for (one, other, expected) in [
            ("1", "1.0", true),
            ("100", "1e2", true),
            ("12.5", "125e-1", true),
            ("-0", "0.00", true),
            ("18446744073709551616", "18446744073709551617", false),
            ("0.1", "0.10000000000000000001", false),
            ("1e99999999999999999999", "1E+99999999999999999999", true),
            ("1e99999999999999999999", "1e99999999999999999998", false),
            ("1", "true", false),
            ("\"1\"", "1", false),
            (r#"{"a":1,"b":[2]}"#, r#"{"b":[2.0],"a":1}"#, true),
            (r#"["a","b"]"#, r#"["a,b"]"#, false),
            (r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#, false),
        ] {
            let (one, other) = (parse(one), parse(other));
            assert_eq!(free(|| equal(&one, &other)), expected, "{one} {other}");
            assert_eq!(free(|| is_unique(&[one.clone(), other.clone()])), !expected, "{one} {other}");
        }
    }
}
