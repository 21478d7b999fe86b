//! Values in packs that parts of a request are compared with.

use std::fmt;

use serde_json::Value;

use crate::json::same;

#[derive(Clone, Debug)]
pub struct Constant {
    pub value: Value,
    /// The text of a number, a boolean or `null` that stands without quotes: `1.10`, `0x1F`, `~`.
    pub written: Option<String>,
}

impl Constant {
    /// Equality as an author means it: numbers by value, and a text (of a header, say) like the value as it is written.
    pub fn equals(&self, got: &Value) -> bool {
        match (&self.written, got) {
            (Some(written), Value::String(got)) => {
                got == written
                    || match &self.value {
                        Value::Number(number) => got == number.as_str(),
                        Value::Bool(value) => got == if *value { "true" } else { "false" },
                        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => false,
                    }
            }
            _ => same(&self.value, got),
        }
    }
}

impl fmt::Display for Constant {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(written) => f.write_str(written),
            None => self.value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_equals_what_is_written() {
        for (value, written, equal, different) in [
            ("1.10", Some("1.10"), vec![json!("1.10"), json!(1.1)], vec![json!("1.1"), json!("01.10")]),
            ("31", Some("0x1F"), vec![json!("0x1F"), json!("31"), json!(31)], vec![json!("0x1f")]),
            ("1e3", Some("1e3"), vec![json!("1e3"), json!(1000)], vec![json!("1000")]),
            ("true", Some("True"), vec![json!("True"), json!("true"), json!(true)], vec![json!("TRUE")]),
            ("null", Some("~"), vec![json!("~"), json!(null)], vec![json!("null"), json!("")]),
            ("\"1\"", None, vec![json!("1")], vec![json!(1)]),
        ] {
            let constant =
                Constant { value: serde_json::from_str(value).unwrap(), written: written.map(str::to_owned) };
            for got in equal {
                assert!(constant.equals(&got), "{constant:?} {got}");
            }
            for got in different {
                assert!(!constant.equals(&got), "{constant:?} {got}");
            }
        }
    }
}
