//! YAML with places: a tree in which every node and key knows where it stands, read within limits.

use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use serde_saphyr::{Location, Spanned};

use super::{
    diagnostics::{Place, Report, Source},
    yaml_faults,
};
use crate::config::Config;

use std::{fmt, sync::Arc};

/// One YAML value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Place,
    pub value: Yaml,
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
        Ok(raw) => Some(place(source, raw)),
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
    Number(Number),
    String(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn place(source: &Arc<Source>, raw: Spanned<Raw>) -> Node {
    let value = match raw.value {
        Raw::Null => Yaml::Null,
        Raw::Bool(value) => Yaml::Bool(value),
        Raw::Number(number) => Yaml::Number(number),
        Raw::String(text) => Yaml::String(text),
        Raw::List(items) => Yaml::List(items.into_iter().map(|item| place(source, item)).collect()),
        Raw::Map(entries) => {
            let entry = |(key, node): (Spanned<String>, Spanned<Raw>)| {
                (Key { at: at(source, key.referenced), text: key.value }, place(source, node))
            };
            Yaml::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { at: at(source, raw.referenced), value }
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
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Raw, E> {
        Number::from_i128(value).map(Raw::Number).ok_or_else(|| E::custom("this number is too large"))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Raw, E> {
        Number::from_u128(value).map(Raw::Number).ok_or_else(|| E::custom("this number is too large"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value).map(Raw::Number).ok_or_else(|| E::custom("JSON has no such number"))
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
}
