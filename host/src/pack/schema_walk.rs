//! Where schemas stand within a schema, what they refer to, and which of their words nobody would act on.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    diagnostics::{Report, nearest, suggestion},
    yaml::{Key, Node, Yaml},
};

/// Keywords whose value is a schema, a list of schemas, or (`items`, `dependencies`) either.
const HOLDS_SCHEMAS: [&str; 16] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value names schemas.
const NAMES_SCHEMAS: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
const OTHER_KEYWORDS: [&str; 40] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minContains",
    "minimum",
    "minItems",
    "minLength",
    "minProperties",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];
/// Dialects of JSON Schema by age; without `$schema` it is the youngest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    Draft4,
    Draft6,
    Draft7,
    Draft2019,
    Draft2020,
}

impl Dialect {
    fn of(document: &Node) -> Self {
        let uri = document.get("$schema").and_then(Node::as_str).unwrap_or_default();
        let named = [
            ("draft-04", Self::Draft4),
            ("draft-06", Self::Draft6),
            ("draft-07", Self::Draft7),
            ("2019-09", Self::Draft2019),
        ];
        named.iter().find(|(name, _)| uri.contains(name)).map_or(Self::Draft2020, |(_, dialect)| *dialect)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Draft4 => "draft 4",
            Self::Draft6 => "draft 6",
            Self::Draft7 => "draft 7",
            Self::Draft2019 => "2019-09",
            Self::Draft2020 => "2020-12",
        }
    }
}

/// Keywords that older dialects ignore.
const YOUNGER_KEYWORDS: [(&str, Dialect); 20] = [
    ("const", Dialect::Draft6),
    ("contains", Dialect::Draft6),
    ("propertyNames", Dialect::Draft6),
    ("contentEncoding", Dialect::Draft6),
    ("contentMediaType", Dialect::Draft6),
    ("if", Dialect::Draft7),
    ("then", Dialect::Draft7),
    ("else", Dialect::Draft7),
    ("$anchor", Dialect::Draft2019),
    ("$recursiveRef", Dialect::Draft2019),
    ("contentSchema", Dialect::Draft2019),
    ("dependentRequired", Dialect::Draft2019),
    ("dependentSchemas", Dialect::Draft2019),
    ("maxContains", Dialect::Draft2019),
    ("minContains", Dialect::Draft2019),
    ("unevaluatedItems", Dialect::Draft2019),
    ("unevaluatedProperties", Dialect::Draft2019),
    ("$dynamicAnchor", Dialect::Draft2020),
    ("$dynamicRef", Dialect::Draft2020),
    ("prefixItems", Dialect::Draft2020),
];

/// What `format` asserts, and from which dialect on; another name is an annotation that turns nothing away.
const FORMATS: [(&str, Dialect); 19] = [
    ("date", Dialect::Draft4),
    ("date-time", Dialect::Draft4),
    ("duration", Dialect::Draft2019),
    ("email", Dialect::Draft4),
    ("hostname", Dialect::Draft4),
    ("idn-email", Dialect::Draft4),
    ("idn-hostname", Dialect::Draft7),
    ("ipv4", Dialect::Draft4),
    ("ipv6", Dialect::Draft4),
    ("iri", Dialect::Draft7),
    ("iri-reference", Dialect::Draft7),
    ("json-pointer", Dialect::Draft6),
    ("regex", Dialect::Draft4),
    ("relative-json-pointer", Dialect::Draft7),
    ("time", Dialect::Draft4),
    ("uri", Dialect::Draft4),
    ("uri-reference", Dialect::Draft6),
    ("uri-template", Dialect::Draft6),
    ("uuid", Dialect::Draft2019),
];
pub(super) const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

/// Visits a schema and every schema in it.
pub(super) fn each<'a>(node: &'a Node, visit: &mut impl FnMut(&'a Node)) {
    visit(node);
    let Yaml::Map(entries) = &node.value else { return };
    for (key, child) in entries {
        let key = key.text.as_str();
        match &child.value {
            Yaml::Map(named) if NAMES_SCHEMAS.contains(&key) => {
                for (_, schema) in named {
                    each(schema, visit);
                }
            }
            Yaml::Map(_) if HOLDS_SCHEMAS.contains(&key) => each(child, visit),
            Yaml::List(schemas) if HOLDS_SCHEMAS.contains(&key) => {
                for schema in schemas {
                    each(schema, visit);
                }
            }
            _ => {}
        }
    }
}

/// Words that JSON Schema allows and ignores, and that were meant to do something.
pub(super) fn doubts(schema: &Node, report: &mut Report) {
    let dialect = Dialect::of(schema);
    let keywords: Vec<_> = [&HOLDS_SCHEMAS[..], &NAMES_SCHEMAS, &OTHER_KEYWORDS].concat();
    each(schema, &mut |schema| {
        let Yaml::Map(entries) = &schema.value else { return };
        for (key, value) in entries {
            doubtful_keyword(key, dialect, &keywords, report);
            if key.text == "format" {
                doubtful_format(value, dialect, report);
            }
        }
    });
}

fn doubtful_keyword(key: &Key, dialect: Dialect, keywords: &[&str], report: &mut Report) {
    let word = key.text.as_str();
    let younger = YOUNGER_KEYWORDS.iter().find(|(name, since)| *name == word && dialect < *since);
    if let Some((_, since)) = younger {
        let message =
            format!("`{word}` is a keyword from {} on, and ignored in {}", since.name(), dialect.name());
        report.warning(&key.at, message, YOUNGEST.to_owned());
        return;
    }
    let is_known = keywords.contains(&word) || (word == "id" && dialect == Dialect::Draft4);
    if is_known || word.starts_with("x-") {
        return;
    }
    let help = match (word, meant(word, keywords)) {
        ("nullable", _) => {
            "OpenAPI has it, JSON Schema does not: write `type: [string, \"null\"]`".to_owned()
        }
        ("discriminator" | "externalDocs" | "xml", _) => {
            "OpenAPI has it, JSON Schema does not: take it away".to_owned()
        }
        (_, Some(keyword)) => format!("did you mean `{keyword}`?"),
        (_, None) => {
            "take it away; notes stand under `$comment`, and names that begin with `x-` are let be".to_owned()
        }
    };
    report.warning(&key.at, format!("`{word}` is not a keyword of JSON Schema and is ignored"), help);
}

fn doubtful_format(node: &Node, dialect: Dialect, report: &mut Report) {
    let Some(format) = node.as_str() else { return };
    match FORMATS.iter().find(|(name, _)| *name == format) {
        Some((_, since)) if dialect < *since => {
            let (since, dialect) = (since.name(), dialect.name());
            let message = format!("the format `{format}` is checked from {since} on, and not in {dialect}");
            report.warning(&node.at, message, YOUNGEST.to_owned());
        }
        Some(_) => {}
        None => {
            let message = format!("the format `{format}` is not known and is not checked");
            let known: Vec<_> = FORMATS.iter().map(|(name, _)| *name).collect();
            report.warning(&node.at, message, suggestion(format, &known));
        }
    }
}

const YOUNGEST: &str = "leave `$schema` out: then it is 2020-12";

/// The keyword that a word which is none looks like. Short words look like everything.
fn meant<'a>(word: &str, keywords: &[&'a str]) -> Option<&'a str> {
    const SHORTEST: usize = 4;
    let is_one = keywords.contains(&word) || word.len() < SHORTEST;
    if is_one { None } else { nearest(word, keywords) }
}

/// What a document's schemas are called.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Some have an `$id`: what a reference means depends on it.
    pub(super) has_id: bool,
    anchors: HashSet<String>,
}

impl Marks {
    pub(super) fn of(document: &Value) -> Self {
        let mut marks = Self::default();
        marks.add(document);
        marks
    }

    fn add(&mut self, document: &Value) {
        match document {
            Value::Object(members) => {
                for (name, value) in members {
                    match (name.as_str(), value) {
                        ("$id", Value::String(_)) => self.has_id = true,
                        ("$anchor" | "$dynamicAnchor", Value::String(anchor)) => {
                            self.anchors.insert(anchor.clone());
                        }
                        _ => self.add(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            _ => {}
        }
    }
}

/// Why a `$ref`'s fragment leads nowhere in its document, and what would lead somewhere.
///
/// A document that names schemas by `$id` is left to the validator: what a fragment means there depends on it.
pub(super) fn dangling(fragment: &str, document: &Value, marks: &Marks) -> Option<(String, Option<String>)> {
    let fragment = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy();
    if fragment.is_empty() || marks.has_id {
        return None;
    }
    if !fragment.starts_with('/') {
        let message = format!("no schema here is marked `$anchor: {fragment}`");
        let help = format!("mark it so, or write where it stands: `#/$defs/{fragment}`");
        return (!marks.anchors.contains(&*fragment)).then_some((message, Some(help)));
    }
    if document.pointer(&fragment).is_some() {
        return None;
    }
    let (parent, last) = fragment.rsplit_once('/').unwrap_or_default();
    let known: Vec<_> = document.pointer(parent).and_then(Value::as_object).into_iter().flatten().collect();
    let known: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
    let help = (!known.is_empty()).then(|| suggestion(last, &known));
    Some((format!("there is nothing at `#{fragment}`"), help))
}
