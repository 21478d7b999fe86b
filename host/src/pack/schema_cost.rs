//! How much work one value can make of a schema: `$ref`s to definitions that refer twice to the next double it.

use std::collections::HashMap;

use serde_json::Value;

use super::read_schema::resolved;
use crate::schema::{BASE, Documents};

/// Chains of `$ref`s that a person follows are short; each link costs stack.
const HEIGHT_MAX: u32 = 256;

/// Keywords that apply their schemas to the value itself, so that their work adds up.
const TO_THE_VALUE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
/// Keywords that apply one of their schemas to a member: of these the dearest counts.
const TO_A_MEMBER: [&str; 11] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "dependencies",
];

#[derive(Clone, Copy, Debug)]
struct Cost {
    /// On the way from the root of a value down to one of its leaves.
    steps: usize,
    height: u32,
}

/// Whether a schema of the pack's file `file` stays within `steps_max` and a sensible height. A definition that
/// refers to itself counts once: what it costs depends on the value, whose depth has a limit of its own.
pub(super) fn is_bounded(schema: &Value, file: &str, documents: &Documents, steps_max: usize) -> bool {
    let mut costs = Costs { documents, known: HashMap::new() };
    let cost = costs.of(schema, schema, file, 0);
    cost.steps <= steps_max && cost.height <= HEIGHT_MAX
}

struct Costs<'a> {
    documents: &'a Documents,
    /// By file and fragment.
    known: HashMap<(String, String), Cost>,
}

impl<'a> Costs<'a> {
    fn of(&mut self, schema: &'a Value, document: &'a Value, file: &str, depth: u32) -> Cost {
        let mut cost = Cost { steps: 1, height: 1 };
        let Value::Object(keywords) = schema else { return cost };
        if depth > HEIGHT_MAX {
            return Cost { steps: 1, height: HEIGHT_MAX + 1 };
        }
        for (keyword, value) in keywords {
            let steps = match value {
                Value::String(reference) if keyword == "$ref" => {
                    vec![self.referred(reference, document, file, depth + 1)]
                }
                _ if TO_THE_VALUE.contains(&keyword.as_str()) || TO_A_MEMBER.contains(&keyword.as_str()) => {
                    let schemas = schemas(keyword, value);
                    schemas.into_iter().map(|schema| self.of(schema, document, file, depth + 1)).collect()
                }
                _ => continue,
            };
            let heights = steps.iter().map(|cost| cost.height.saturating_add(1));
            cost.height = heights.fold(cost.height, u32::max);
            let steps = steps.iter().map(|cost| cost.steps);
            let added = if TO_A_MEMBER.contains(&keyword.as_str()) {
                steps.max().unwrap_or_default()
            } else {
                steps.fold(0, usize::saturating_add)
            };
            cost.steps = cost.steps.saturating_add(added);
        }
        cost
    }

    fn referred(&mut self, reference: &str, document: &'a Value, file: &str, depth: u32) -> Cost {
        let nothing = Cost { steps: 1, height: 1 };
        let (path, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let (file, document) = if path.is_empty() {
            (file.to_owned(), document)
        } else {
            let Some(target) = resolved(file, path) else { return nothing };
            let Some(document) = self.documents.0.get(&format!("{BASE}{target}")) else { return nothing };
            (target, document)
        };
        let key = (file, fragment.to_owned());
        if let Some(cost) = self.known.get(&key) {
            return *cost;
        }
        let Some(schema) = document.pointer(fragment) else { return nothing };
        self.known.insert(key.clone(), nothing);
        let cost = self.of(schema, document, &key.0, depth);
        self.known.insert(key, cost);
        cost
    }
}

/// The schemas under a keyword: itself, a list of them, or named ones.
fn schemas<'a>(keyword: &str, value: &'a Value) -> Vec<&'a Value> {
    let named = ["properties", "patternProperties", "dependentSchemas", "dependencies"].contains(&keyword);
    match value {
        Value::Array(schemas) => schemas.iter().collect(),
        Value::Object(schemas) if named => schemas.values().collect(),
        one => vec![one],
    }
}
