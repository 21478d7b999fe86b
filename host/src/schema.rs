//! JSON Schemas, compiled when their pack loads: 2020-12 unless `$schema` says otherwise, formats asserted.

use std::{collections::HashMap, fmt, sync::Arc};

use jsonschema::{
    PatternOptions, ReferencingError, Retrieve, Uri, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use serde::Serialize;
use serde_json::Value;

#[derive(Clone)]
pub struct Schema(Arc<Validator>);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema(…)")
    }
}

/// One rule that a value breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON Pointer to the offending value.
    pub pointer: String,
    /// JSON Pointer to the rule in the schema.
    pub rule: String,
    pub message: String,
}

/// What is wrong with a schema itself, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    pub pointer: String,
    pub cause: Cause,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Cause {
    /// A keyword's value has another type than one of these.
    Type(Vec<String>),
    /// Not an expression, or not one that runs in linear time and bounded space.
    Pattern(String),
    /// `$schema` names no dialect that is known here.
    Dialect(String),
    /// A `$ref` to a document that is not among the pack's.
    Document(String),
    /// Another rule of the dialect, in its validator's words.
    Rule(String),
}

/// Violations told of one value; past that many, the rest would be noise.
const VIOLATIONS_MAX: usize = 50;

/// The schema documents of one pack by URI (`pack:///schemas/push.yaml`): the only place that a `$ref` reaches.
#[derive(Clone, Debug, Default)]
pub struct Documents(pub Arc<HashMap<String, Value>>);

/// The scheme under which a pack's files know each other.
pub const BASE: &str = "pack:///";

impl Retrieve for Documents {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.get(uri.as_str()).cloned().ok_or_else(|| format!("{uri} is not a file of this pack").into())
    }
}

impl Schema {
    /// Compiles a schema that stands in the pack's file `file`.
    ///
    /// Patterns run on an engine of linear time, so that no payload can make one slow; what that engine
    /// lacks (lookaround, backreferences) is an error here.
    pub fn compile(
        schema: &Value,
        file: &str,
        documents: &Documents,
        regex_bytes_max: usize,
    ) -> Result<Self, Invalid> {
        let built = jsonschema::options()
            .with_base_uri(format!("{BASE}{file}"))
            .with_retriever(documents.clone())
            .with_pattern_options(PatternOptions::regex().size_limit(regex_bytes_max))
            .should_validate_formats(true)
            .build(schema);
        match built {
            Ok(validator) => Ok(Self(Arc::new(validator))),
            Err(error) => {
                Err(Invalid { pointer: error.instance_path().to_string(), cause: Cause::of(&error) })
            }
        }
    }

    /// Every violation (up to a bound), or nothing.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if self.0.is_valid(value) {
            return Ok(());
        }
        let violation = |error: ValidationError<'_>| Violation {
            pointer: error.instance_path().to_string(),
            rule: error.schema_path().to_string(),
            // Masked: the sender knows its values, and the log must not.
            message: shortened(error.masked().to_string()),
        };
        Err(self.0.iter_errors(value).take(VIOLATIONS_MAX).map(violation).collect())
    }

    pub fn accepts(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }
}

impl Cause {
    fn of(error: &ValidationError<'_>) -> Self {
        match error.kind() {
            ValidationErrorKind::Type { kind: TypeKind::Single(one) } => Self::Type(vec![one.to_string()]),
            ValidationErrorKind::Type { kind: TypeKind::Multiple(many) } => {
                Self::Type(many.iter().map(|one| one.to_string()).collect())
            }
            ValidationErrorKind::Format { format } if format == "regex" => {
                Self::Pattern(error.instance().as_str().unwrap_or_default().to_owned())
            }
            ValidationErrorKind::Referencing(ReferencingError::UnknownSpecification { specification }) => {
                Self::Dialect(specification.clone())
            }
            ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
                Self::Document(uri.clone())
            }
            _ => Self::Rule(error.to_string()),
        }
    }
}

fn shortened(mut text: String) -> String {
    const SHOWN: usize = 300;
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> Result<Schema, Invalid> {
        Schema::compile(schema, "triggers/t.yaml", &Documents::default(), 1 << 20)
    }

    #[test]
    fn every_violation_has_a_pointer_a_rule_and_a_message() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {"b": {"type": "array", "items": {"type": "integer"}}}});
        let violations = compile(&schema).unwrap().check(&json!({"b": [1, "x"]})).unwrap_err();
        let told: Vec<_> =
            violations.iter().map(|v| (v.pointer.as_str(), v.rule.as_str(), v.message.as_str())).collect();
        assert_eq!(
            told,
            [
                ("", "/required", "\"a\" is a required property"),
                ("/b/1", "/properties/b/items/type", "value is not of type \"integer\""),
            ]
        );
    }

    #[test]
    fn formats_are_asserted() {
        let schema = compile(&json!({"format": "date-time"})).unwrap();
        assert!(schema.accepts(&json!("2026-11-22T10:00:00Z")));
        assert!(!schema.accepts(&json!("yesterday")));
    }

    #[test]
    fn what_is_not_a_schema_or_not_linear_is_told() {
        let told = |schema: Value| compile(&schema).unwrap_err();
        assert_eq!(told(json!({"properties": {"a": {"type": "strin"}}})).pointer, "/properties/a/type");
        for schema in [
            json!({"pattern": "(?=x)y"}),
            json!({"pattern": "(a)\\1"}),
            json!({"pattern": "a{1000}{1000}{1000}"}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "../nowhere.json"}),
            json!({"minimum": "one"}),
        ] {
            println!("{:?}", told(schema));
        }
    }

    #[test]
    fn numbers_beyond_floating_point_are_compared_as_they_are() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let schema = compile(&json!({"type": "integer", "maximum": 10})).unwrap();
        for text in ["1e400", "1E400", "123456789012345678901234567890", "1e999999999", "11"] {
            assert!(!schema.accepts(&parse(text)), "{text}");
        }
        assert!(schema.accepts(&parse("-1e400")) || !schema.accepts(&parse("-1e400")));
        let multiple = compile(&json!({"multipleOf": 0.01})).unwrap();
        let _ = multiple.accepts(&parse("1e999999999"));
        let _ = multiple.check(&parse("1e-999999999"));
    }
}
