//! Where schemas stand within a schema, what they refer to, and which of their words nobody would act on.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    diagnostics::{Report, nearest, suggestion},
    yaml::{Node, Yaml},
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
const OTHER_KEYWORDS: [&str; 44] = [
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
    // Not of JSON Schema, but of what is often copied from: OpenAPI.
    "example",
    "nullable",
    "discriminator",
    "externalDocs",
];
/// What `format` asserts; another name is an annotation that turns nothing away.
const FORMATS: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
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
    let keywords: Vec<_> = [&HOLDS_SCHEMAS[..], &NAMES_SCHEMAS, &OTHER_KEYWORDS].concat();
    each(schema, &mut |schema| {
        let Yaml::Map(entries) = &schema.value else { return };
        for (key, value) in entries {
            if let Some(keyword) = meant(&key.text, &keywords) {
                let help = format!("did you mean `{keyword}`?");
                let message = format!("`{}` is not a keyword of JSON Schema and is ignored", key.text);
                report.warning(&key.at, message, help);
            }
            if let Some(format) =
                value.as_str().filter(|format| key.text == "format" && !FORMATS.contains(format))
            {
                let message = format!("the format `{format}` is not known and is not checked");
                report.warning(&value.at, message, suggestion(format, &FORMATS));
            }
        }
    });
}

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
    has_id: bool,
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
