//! The `fields` mapping: a tree whose leaves select parts of the request.

use std::borrow::Cow;

use serde_json::{Number, Value};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{Failure, Mapped, Unmapped};
use crate::{
    budget::Exhausted,
    selector::{Selected, Selector, Subject},
};

/// The whole mapping: a mapping of names to fields.
#[derive(Clone, Debug)]
pub struct Tree(pub Vec<(String, Field)>);

#[derive(Clone, Debug)]
pub enum Field {
    Const(Value),
    Select(Select),
    Object(Tree),
    List(Vec<Field>),
}

#[derive(Clone, Debug)]
pub struct Select {
    /// As the pack writes it, for error messages.
    pub text: String,
    /// The first that selects something counts.
    pub from: Vec<Selector>,
    pub default: Option<Value>,
    pub required: bool,
    pub convert: Option<Convert>,
}

/// `as:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convert {
    String,
    Integer,
    Number,
    Boolean,
    Timestamp,
}

impl Tree {
    pub fn map<'a>(&'a self, subject: Subject<'a>) -> Result<Mapped<'a>, Failure> {
        let mut members = Vec::with_capacity(self.0.len());
        for (name, field) in &self.0 {
            if let Some(mapped) = field.mapped(subject)? {
                members.push((name.as_str(), mapped));
            }
        }
        Ok(Mapped::Object(members))
    }
}

impl Field {
    /// `None` when the field is to be left out.
    fn mapped<'a>(&'a self, subject: Subject<'a>) -> Result<Option<Mapped<'a>>, Failure> {
        match self {
            Self::Const(value) => Ok(Some(Mapped::Value(Cow::Borrowed(value)))),
            Self::Select(select) => select.mapped(subject),
            Self::Object(tree) => tree.map(subject).map(Some),
            Self::List(fields) => {
                let items = fields.iter().filter_map(|field| field.mapped(subject).transpose());
                items.collect::<Result<_, _>>().map(|items| Some(Mapped::List(items)))
            }
        }
    }
}

impl Select {
    fn mapped<'a>(&'a self, subject: Subject<'a>) -> Result<Option<Mapped<'a>>, Failure> {
        match self.selected(subject)? {
            Selected::One(value) => Ok(Some(self.converted(value)?)),
            Selected::Nothing if self.required => {
                Err(Unmapped(format!("{} is required and selects nothing", self.text)).into())
            }
            Selected::Nothing => Ok(self.default.as_ref().map(|value| Mapped::Value(Cow::Borrowed(value)))),
            Selected::Many(values) if values.is_empty() && self.required => {
                Err(Unmapped(format!("{} is required and selects nothing", self.text)).into())
            }
            Selected::Many(values) => {
                let items = values.into_iter().map(|value| self.converted(Cow::Borrowed(value)));
                Ok(Some(Mapped::List(items.collect::<Result<_, _>>()?)))
            }
        }
    }

    /// What the first selector that finds something selects, or what the last one does.
    fn selected<'a>(&self, subject: Subject<'a>) -> Result<Selected<'a>, Exhausted> {
        let mut selected = Selected::Nothing;
        for selector in &self.from {
            selected = selector.select(subject)?;
            if !matches!(&selected, Selected::Nothing)
                && !matches!(&selected, Selected::Many(values) if values.is_empty())
            {
                break;
            }
        }
        Ok(selected)
    }

    fn converted<'a>(&self, value: Cow<'a, Value>) -> Result<Mapped<'a>, Unmapped> {
        match self.convert {
            // What is null stays null: nothing was said, and a conversion can't say more.
            Some(convert) if !value.is_null() => {
                let converted = convert.apply(&value).map(|value| Mapped::Value(Cow::Owned(value)));
                converted.ok_or_else(|| {
                    let (text, kind, name) = (&self.text, kind(&value), convert.name());
                    Unmapped(format!("{text} selects {kind}, which can't be read as {name}"))
                })
            }
            Some(_) | None => Ok(Mapped::Value(value)),
        }
    }
}

impl Convert {
    pub const NAMES: [&str; 5] = ["string", "integer", "number", "boolean", "timestamp"];

    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "string" => Some(Self::String),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            "timestamp" => Some(Self::Timestamp),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Timestamp => "a timestamp",
        }
    }

    fn apply(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Boolean, Value::Bool(_)) => Some(value.clone()),
            (Self::String, Value::Number(_) | Value::Bool(_)) => Some(Value::String(value.to_string())),
            (Self::Number, Value::String(text)) => text.trim().parse::<Number>().ok().map(Value::Number),
            (Self::Integer, Value::Number(number)) => integer(&number.to_string()),
            (Self::Integer, Value::String(text)) => integer(text.trim()),
            (Self::Boolean, Value::String(text)) => text.trim().parse().ok().map(Value::Bool),
            (Self::Timestamp, Value::String(text)) => match text.trim().parse::<i64>() {
                Ok(unix) => timestamp(unix),
                Err(_) => OffsetDateTime::parse(text.trim(), &Rfc3339).ok().and_then(written),
            },
            (Self::Timestamp, Value::Number(number)) => timestamp(number.as_i64()?),
            _ => None,
        }
    }
}

/// Whole numbers of any size; `12.0` is one, `12.5` and `1e3` are not.
fn integer(text: &str) -> Option<Value> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { whole.parse::<Number>().ok().map(Value::Number) } else { None }
}

/// Unix seconds; from the year 5138 on they are taken for milliseconds, which is what they are.
fn timestamp(unix: i64) -> Option<Value> {
    const SECONDS_MAX: u64 = 100_000_000_000;
    let at = if unix.unsigned_abs() < SECONDS_MAX {
        OffsetDateTime::from_unix_timestamp(unix)
    } else {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix) * 1_000_000)
    };
    at.ok().and_then(written)
}

/// In UTC; `None` outside the years 0 to 9999, which RFC 3339 can't write.
fn written(at: OffsetDateTime) -> Option<Value> {
    at.checked_to_offset(UtcOffset::UTC)?.format(&Rfc3339).ok().map(Value::String)
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_keep_what_they_can_and_refuse_the_rest() {
        for (convert, from, to) in [
            (Convert::String, "12345678901234567890.10", r#""12345678901234567890.10""#),
            (Convert::String, "true", r#""true""#),
            (Convert::Integer, r#"" 12 ""#, "12"),
            (Convert::Integer, "12.0", "12"),
            (Convert::Integer, r#""123456789012345678901234567890""#, "123456789012345678901234567890"),
            (Convert::Number, r#""1.50""#, "1.50"),
            (Convert::Boolean, r#""false""#, "false"),
            (Convert::Timestamp, "1700000000", r#""2023-11-14T22:13:20Z""#),
            (Convert::Timestamp, "1700000000123", r#""2023-11-14T22:13:20.123Z""#),
            (Convert::Timestamp, r#""2023-11-14T23:13:20+01:00""#, r#""2023-11-14T22:13:20Z""#),
        ] {
            let value: Value = serde_json::from_str(from).unwrap();
            let got = convert.apply(&value).map(|value| value.to_string());
            assert_eq!(got.as_deref(), Some(to), "{from} as {}", convert.name());
        }
        for (convert, from) in [
            (Convert::String, "[]"),
            (Convert::Integer, "12.5"),
            (Convert::Integer, r#""x""#),
            (Convert::Integer, r#""-""#),
            (Convert::Number, r#""NaN""#),
            (Convert::Boolean, "1"),
            (Convert::Timestamp, r#""yesterday""#),
            (Convert::Timestamp, r#""9999-12-31T23:59:59-01:00""#),
            (Convert::Timestamp, r#""0000-01-01T00:00:00+01:00""#),
            (Convert::Timestamp, "-99999999999"),
            (Convert::Timestamp, "9223372036854775807"),
        ] {
            assert_eq!(convert.apply(&serde_json::from_str(from).unwrap()), None, "{from}");
        }
    }
}
