//! Strings, integers and numbers of a JSONPath.

use serde_json::{Number, Value};

use super::{Parsed, Parser};

/// Integers that every implementation of JSON can hold (RFC 7493).
const INTEGER_MAX: i64 = (1 << 53) - 1;

impl Parser<'_> {
    /// A string in single or double quotes.
    pub(super) fn string(&mut self) -> Parsed<String> {
        let opened_at = self.at;
        let quote = char::from(self.peek().unwrap_or(b'\''));
        self.at += 1;
        let mut string = String::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                return self.fault_at(opened_at, "this quote is not closed");
            };
            match next {
                '\\' => string.push(self.escaped(quote)?),
                '\0'..'\x20' => return self.fault("a control character must be escaped"),
                _ => {
                    self.at += next.len_utf8();
                    if next == quote {
                        return Ok(string);
                    }
                    string.push(next);
                }
            }
        }
    }

    fn escaped(&mut self, quote: char) -> Parsed<char> {
        let character = match self.rest().as_bytes().get(1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'/') => '/',
            Some(b'\\') => '\\',
            Some(b'u') => return self.escaped_code_point(),
            Some(byte) if char::from(*byte) == quote => quote,
            _ => return self.fault("there is no such escape; a backslash is `\\\\`"),
        };
        self.at += 2;
        Ok(character)
    }

    /// `\uXXXX`, or two of them that are a surrogate pair.
    fn escaped_code_point(&mut self) -> Parsed<char> {
        let began_at = self.at;
        let first = self.code_unit()?;
        let code = match first {
            0xd800..0xdc00 => match self.code_unit() {
                Ok(second @ 0xdc00..0xe000) => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                _ => first,
            },
            _ => first,
        };
        match char::from_u32(code) {
            Some(character) => Ok(character),
            None => self.fault_at(began_at, "half of a surrogate pair"),
        }
    }

    fn code_unit(&mut self) -> Parsed<u32> {
        let digits = self.rest().strip_prefix("\\u").and_then(|rest| rest.get(..4));
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 6;
                Ok(unit)
            }
            None => self.fault("`\\u` and four hexadecimal digits are expected"),
        }
    }

    /// An integer, if one begins here.
    pub(super) fn optional_integer(&mut self) -> Parsed<Option<i64>> {
        let began_at = self.at;
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Ok(None);
        }
        self.take("-");
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let text = &self.text[began_at..self.at];
        let is_plain = !digits.is_empty() && (!digits.starts_with('0') || text == "0");
        if !is_plain {
            return self.fault_at(began_at, "an integer is expected, without leading zeros");
        }
        match text.parse::<i64>().ok().filter(|integer| integer.abs() <= INTEGER_MAX) {
            Some(integer) => Ok(Some(integer)),
            None => self.fault_at(began_at, "this integer is out of range: 2^53 - 1 is the largest"),
        }
    }

    /// A number as JSON writes it.
    pub(super) fn number(&mut self) -> Parsed<Value> {
        let began_at = self.at;
        let text = self.take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        match serde_json::from_str::<Number>(text) {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => self.fault_at(began_at, format!("`{text}` is not a number of JSON")),
        }
    }
}
