//! JSON, parsed in one way for everything: what is verified, validated, mapped and stored.

use std::{cmp::Ordering, fmt, io};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

use crate::number;

/// A text that is written and stops growing at its limit.
#[derive(Debug)]
pub struct BoundedText {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl BoundedText {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    pub fn into_string(self) -> String {
        String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::Error::other("the text is longer than allowed"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keys that the parser would take for its own: an object with one of them would be read as what it wraps.
const RESERVED: &str = "$serde_json::private::";

/// A document with its numbers as they were written; the error is for the sender.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    if has_reserved_key(text) {
        return Err(reserved());
    }
    let mut value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    restore_exponents(&mut value, text);
    Ok(value)
}

/// The text without the byte order mark that some senders begin it with.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Whether [`parse`] would read this, without keeping anything of it.
pub fn check(text: &[u8]) -> Result<(), String> {
    if has_reserved_key(text) {
        return Err(reserved());
    }
    serde_json::from_slice::<Checked>(text).map(|Checked| ()).map_err(|error| error.to_string())
}

/// Any document: each part is looked at, so that depth and texts are checked, and forgotten.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    /// Large numbers come as a mapping, too: that is how their digits are kept.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
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

/// Whether this can't be the name of a member.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Why it can't.
pub fn reserved() -> String {
    format!("a member's name begins with {RESERVED}")
}

/// Looks at names only where one of the reserved ones could stand, written out or with escapes.
fn has_reserved_key(text: &[u8]) -> bool {
    let Ok(readable) = std::str::from_utf8(text) else { return false };
    if !readable.contains("::private::") && !readable.contains("\\u00") {
        return false;
    }
    let mut rest = text;
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        rest = &rest[start..];
        let (string, after) = rest.split_at(string_length(rest));
        rest = after;
        let is_name = after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        let name = || serde_json::from_slice::<String>(string).unwrap_or_default();
        if is_name && is_reserved(&name()) {
            return true;
        }
    }
    false
}

/// Whether an object of this text, which `value` was parsed from, has two members of one name: of those the value has
/// the last, and another parser may take the first.
pub fn repeats_a_name(value: &Value, text: &[u8]) -> bool {
    let mut names = 0;
    let mut rest = text;
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        rest = &rest[start..];
        rest = &rest[string_length(rest)..];
        names += usize::from(rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':'));
    }
    names != members(value)
}

fn members(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(members).sum(),
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The parser rewrites exponents (`1E5` becomes `1e+5`); this puts back what was sent.
fn restore_exponents(value: &mut Value, text: &[u8]) {
    if !has_exponent(value) {
        return;
    }
    let literals = number_literals(text);
    let mut numbers = Vec::with_capacity(literals.len());
    numbers_of(value, &mut numbers);
    // Of two members of one name the parser keeps the last: then places and literals no longer pair up,
    // and the rewritten form, which means the same, has to do.
    let same =
        |(number, literal): (&&mut Number, &&str)| literal.parse::<Number>().is_ok_and(|own| own == **number);
    if numbers.len() == literals.len() && numbers.iter().zip(&literals).all(same) {
        for (number, literal) in numbers.into_iter().zip(literals) {
            *number = Number::from_string_unchecked(literal.to_owned());
        }
    }
}

fn has_exponent(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_str().contains(['e', 'E']),
        Value::Array(items) => items.iter().any(has_exponent),
        Value::Object(members) => members.values().any(has_exponent),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Every number of a valid JSON text, in order, as it is written there.
fn number_literals(text: &[u8]) -> Vec<&str> {
    let mut literals = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9')) {
        rest = &rest[start..];
        let is_string = rest[0] == b'"';
        let length = if is_string { string_length(rest) } else { number_length(rest) };
        if !is_string {
            literals.extend(std::str::from_utf8(&rest[..length]));
        }
        rest = &rest[length..];
    }
    literals
}

fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn number_length(text: &[u8]) -> usize {
    let ends = |byte: &u8| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    text.iter().position(ends).unwrap_or(text.len())
}

fn numbers_of<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Number>) {
    match value {
        Value::Number(number) => found.push(number),
        Value::Array(items) => items.iter_mut().for_each(|item| numbers_of(item, found)),
        Value::Object(members) => members.values_mut().for_each(|member| numbers_of(member, found)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        let value = |text: &str| parse(text.as_bytes()).unwrap();
        for (one, other) in [
            ("1", "1.0"),
            ("[1e2]", "[100]"),
            ("-10e399", "-1e400"),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        ] {
            assert!(same(&value(one), &value(other)), "{one} {other}");
        }
        for (one, other) in [
            ("9007199254740993", "9007199254740992"),
            ("1", "true"),
            ("0.1", "0.10000000000000000001"),
            ("1e400", "1e401"),
            ("[1]", "[1,2]"),
            ("1", "\"1\""),
        ] {
            assert!(!same(&value(one), &value(other)), "{one} {other}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_noticed() {
        for (text, expected) in [
            (r#"{"a": 1, "b": {"a": 2}, "c": [{"a": "\":"}, {"a": "x:"}]}"#, false),
            (r#"["a", "b:", ":", {"": {}}]"#, false),
            (r#"{"a": 1, "a": 1}"#, true),
            (
                r#"[{"b": {"a" : 1, "\u0061"
                : 2}}]"#,
                true,
            ),
            ("1", false),
        ] {
            assert_eq!(repeats_a_name(&parse(text.as_bytes()).unwrap(), text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_checked_is_what_can_be_parsed() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let texts = [
            "{\"a\": [1, 1.5e400, -0, true, null, \"\\u00e9\"]}",
            "1e99999999999999999999",
            "",
            "{",
            "[1,]",
            "nul",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "1 2",
            "{\"$serde_json::private::Number\": 1}",
            "{a: 1}",
            "NaN",
            "01",
        ];
        let texts = texts.map(str::to_owned).into_iter().chain([deep(127), deep(128), deep(100_000)]);
        for text in texts {
            let (checked, parsed) = (check(text.as_bytes()), parse(text.as_bytes()));
            assert_eq!(
                checked.is_ok(),
                parsed.is_ok(),
                "{checked:?} {parsed:?}: {}",
                &text[..text.len().min(80)]
            );
        }
        assert!(check(&[b'"', 0xff, b'"']).is_err());
    }
}
