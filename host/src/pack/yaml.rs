//! YAML with places: a tree in which every node and key knows where it stands, read within limits.

use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use serde_saphyr::{Location, Spanned};

use super::{
    diagnostics::{Place, Report, Source},
    yaml_faults,
};
use crate::{config::Config, constant::Constant};

use std::{fmt, sync::Arc};

/// One YAML value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Place,
    pub value: Yaml,
    /// The text of a number, a boolean or `null` as the file has it: `1.10`, `0x1F`, `~`.
    pub written: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Yaml {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    pub at: Place,
    pub text: String,
}

/// Reads one YAML (or JSON, which is YAML) document; a syntax fault goes to the report.
pub(super) fn parse(source: &Arc<Source>, limits: &Config, report: &mut Report) -> Option<Node> {
    // `yes` and `no` are words, as YAML 1.2 has it, and a tag that nobody reads would change nothing silently.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        // What YAML 1.1 and 1.2 read as different numbers is text; what a double can't hold is read from its digits.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_depth: limits.yaml_depth_max,
            max_nodes: limits.yaml_nodes_max,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: limits.yaml_nodes_max },
        emit_comments: false,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(&source.text, options) {
        Ok(Spanned { value: Raw::Null, .. }) => {
            report.fault(&source.start(), "this file is empty", None);
            None
        }
        Ok(raw) => {
            let faults = report.faults.len();
            let node = place(source, raw, report);
            (report.faults.len() == faults).then_some(node)
        }
        Err(error) => {
            yaml_faults::tell(&error, source, limits, report);
            None
        }
    }
}

impl Node {
    pub fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "a boolean",
            Yaml::Number(_) => "a number",
            Yaml::String(_) => "a string",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a mapping",
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Yaml::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Yaml::String(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar's text as the file has it; `null` has none.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::String(text) => Some(text),
            Yaml::Number(_) | Yaml::Bool(_) => self.written.as_deref(),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    /// What a part of a request is compared with.
    pub fn to_constant(&self) -> Constant {
        Constant { value: self.to_json(), written: self.written.clone() }
    }

    /// The same without places.
    pub fn to_json(&self) -> Value {
        match &self.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => Value::Bool(*value),
            Yaml::Number(number) => Value::Number(number.clone()),
            Yaml::String(text) => Value::String(text.clone()),
            Yaml::List(items) => items.iter().map(Self::to_json).collect(),
            Yaml::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect())
            }
        }
    }

    /// A mapping's key of this text.
    pub fn key(&self, text: &str) -> Option<&Key> {
        match &self.value {
            Yaml::Map(entries) => entries.iter().map(|(key, _)| key).find(|key| key.text == text),
            _ => None,
        }
    }

    /// The place that a JSON Pointer leads to, or the nearest that is there.
    pub fn pointed_at(&self, pointer: &str) -> &Place {
        &self.at_pointer(pointer).at
    }

    /// Where a JSON Pointer leads, or the nearest that is there.
    pub fn at_pointer(&self, pointer: &str) -> &Self {
        let mut node = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &node.value {
                Yaml::Map(_) => node.get(&step),
                Yaml::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// What serde builds before the places get their source.
#[derive(Debug)]
enum Raw {
    Null,
    Bool(bool),
    /// As the parser understands it; `None` where it can't hold it.
    Number(Option<Number>),
    String(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn place(source: &Arc<Source>, raw: Spanned<Raw>, report: &mut Report) -> Node {
    let mut written = None;
    let value = match raw.value {
        Raw::Null => {
            written = plain_text(source, raw.defined).filter(|text| !text.is_empty());
            Yaml::Null
        }
        Raw::Bool(value) => {
            written = Some(plain_text(source, raw.defined).unwrap_or_else(|| value.to_string()));
            Yaml::Bool(value)
        }
        Raw::Number(number) => {
            let text = plain_text(source, raw.defined).unwrap_or_default();
            let number = number_of(&text).or(number);
            match number {
                Some(number) if !is_of_yaml_1_1(&text) => {
                    written = Some(if text.is_empty() { number.to_string() } else { text });
                    Yaml::Number(number)
                }
                Some(_) => Yaml::String(text),
                None => {
                    yaml_faults::not_finite(&at(source, raw.referenced), &text, report);
                    Yaml::Null
                }
            }
        }
        Raw::String(text) => Yaml::String(text),
        Raw::List(items) => Yaml::List(items.into_iter().map(|item| place(source, item, report)).collect()),
        Raw::Map(entries) => {
            let mut entry = |(key, node): (Spanned<String>, Spanned<Raw>)| {
                (Key { at: at(source, key.referenced), text: key.value }, place(source, node, report))
            };
            Yaml::Map(entries.into_iter().map(&mut entry).collect())
        }
    };
    Node { at: at(source, raw.referenced), value, written }
}

/// The scalar without quotes that begins at this place.
fn plain_text(source: &Source, location: Location) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let rest = source.text.get(start..)?;
    let is_part = |character: char| character.is_ascii_alphanumeric() || "+-._~".contains(character);
    let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
    Some(rest[..length].to_owned())
}

/// Numbers of YAML 1.1 that YAML 1.2 reads as text: `0b11`, `0X1F`, `-0x1F`.
fn is_of_yaml_1_1(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_signed = unsigned.len() < text.len();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| unsigned.starts_with(prefix));
    begins(&["0b", "0B", "0X", "0O"]) || is_signed && begins(&["0x", "0o"])
}

/// A number of YAML 1.2 with the digits that it is written with, where JSON has them too. `.inf` and `.nan` are none.
fn number_of(text: &str) -> Option<Number> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Number::from);
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => ("-", text),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = text.find(['e', 'E']).map_or((text, ""), |at| text.split_at(at));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    let written = format!("{sign}{whole}{point}{fraction}{exponent}");
    let is_number =
        digits.contains(|digit: char| digit.is_ascii_digit()) && written.parse::<Number>().is_ok();
    is_number.then(|| Number::from_string_unchecked(written))
}

pub(super) fn at(source: &Arc<Source>, location: Location) -> Place {
    let count = |number: u64| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    Place { source: source.clone(), line: count(location.line()), column: count(location.column()) }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(Some(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(Some(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Number(Number::from_i128(value)))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Number(Number::from_u128(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(Number::from_f64(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::String(value))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<Node>, Report) {
        let mut report = Report::default();
        let node = parse(&Source::new("t.yaml", text), &Config::default(), &mut report);
        (node, report)
    }

    #[test]
    fn every_node_and_key_knows_its_place() {
        let (node, report) = parsed("a: 1\nb:\n  - x\n  - {c: true, d: ~}\n");
        assert_eq!(report, Report::default());
        let node = node.unwrap();
        let place = |pointer: &str| (node.pointed_at(pointer).line, node.pointed_at(pointer).column);
        assert_eq!(place("/a"), (1, 4));
        assert_eq!(place("/b/0"), (3, 5));
        assert_eq!(place("/b/1/c"), (4, 9));
        assert_eq!(place("/b/1/nowhere"), (4, 5));
        let Yaml::Map(entries) = &node.value else { panic!() };
        assert_eq!((entries[1].0.at.line, entries[1].0.at.column), (2, 1));
        assert_eq!(node.to_json().to_string(), r#"{"a":1,"b":["x",{"c":true,"d":null}]}"#);
    }

    #[test]
    fn numbers_keep_their_digits_and_their_text() {
        for (text, json, written) in [
            ("1.10", "1.10", Some("1.10")),
            ("+12", "12", Some("+12")),
            ("1e3", "1e3", Some("1e3")),
            ("1E400", "1E400", Some("1E400")),
            (".5", "0.5", Some(".5")),
            ("5.", "5", Some("5.")),
            ("-0", "-0", Some("-0")),
            ("18446744073709551616", "18446744073709551616", Some("18446744073709551616")),
            ("0.1000000000000000000001", "0.1000000000000000000001", Some("0.1000000000000000000001")),
            ("0x1F", "31", Some("0x1F")),
            ("0o17", "15", Some("0o17")),
            ("00.5", "0.5", Some("00.5")),
            ("&a 1.10", "1.10", Some("1.10")),
            ("!!int 12", "12", Some("12")),
            ("!!int \"12\"", "12", Some("12")),
            ("True", "true", Some("True")),
            ("~", "null", Some("~")),
            ("", "null", None),
            // Text in YAML 1.2, or read as another number by YAML 1.1.
            ("0777", "\"0777\"", None),
            ("-007", "\"-007\"", None),
            ("2026_01", "\"2026_01\"", None),
            ("0b11", "\"0b11\"", None),
            ("0X1F", "\"0X1F\"", None),
            ("-0x1F", "\"-0x1F\"", None),
            ("12:34:56", "\"12:34:56\"", None),
            ("1e", "\"1e\"", None),
            ("yes", "\"yes\"", None),
            ("'1.10'", "\"1.10\"", None),
            ("\"0x1F\"", "\"0x1F\"", None),
        ] {
            for yaml in
                [format!("{{k: {text}}}"), format!("a: 1\nk: {text} # é\n"), format!("k:\n  - {text}\n")]
            {
                let (node, report) = parsed(&yaml);
                assert_eq!(report, Report::default(), "{yaml}");
                let node = node.unwrap();
                let node = node.get("k").unwrap();
                let node = if let Yaml::List(items) = &node.value { &items[0] } else { node };
                assert_eq!(
                    (node.to_json().to_string().as_str(), node.written.as_deref()),
                    (json, written),
                    "{yaml}"
                );
            }
        }
        let (node, _) = parsed("é: &a 1.10\nb: *a\n");
        assert_eq!(node.unwrap().get("b").unwrap().text(), Some("1.10"));
        for text in [".inf", "-.INF", ".nan"] {
            let (_, report) = parsed(&format!("k: {text}\n"));
            assert!(report.faults[0].message.contains("is no number of JSON"), "{report:?}");
        }
    }
}
