//! JSON Schemas, compiled when their pack loads: 2020-12 unless `$schema` says otherwise, formats asserted.

mod exact;
mod meter;
mod metered;
mod pattern;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::{self, Write},
    ptr,
    sync::Arc,
};

use jsonschema::{
    PatternOptions, ReferencingError, Retrieve, Uri, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use serde::Serialize;
use serde_json::Value;

pub use self::pattern::{PatternLimits, Patterns, Unusable};
use self::{
    meter::{Allowance, metered},
    metered::{Metered, NOT_KEPT, Seen},
    pattern::Matches,
};
use crate::budget::{Budget, Exhausted};

#[derive(Clone)]
pub struct Schema(Arc<Compiled>);

struct Compiled {
    validator: Validator<Metered>,
    name_states: usize,
}

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

/// Why a value can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Violates(Vec<Violation>),
    /// Looking at it takes more than this request may spend.
    Exhausted(Exhausted),
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
/// Errors that are written down to find them: one violation may have many below it.
const ERRORS_MAX: u64 = 1000;
/// Steps of writing them down.
const LISTING_STEPS_MAX: u64 = 2_000_000;

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
        patterns: &Patterns,
    ) -> Result<Self, Invalid> {
        let pattern_options = PatternOptions::regex()
            .size_limit(patterns.limits().bytes_max)
            .dfa_size_limit(pattern::CACHE_BYTES_MAX);
        let compiled = patterns.clone();
        let built = jsonschema::options_for::<Metered>()
            .with_base_uri(format!("{BASE}{file}"))
            .with_retriever(documents.clone())
            .with_pattern_options(pattern_options)
            .with_keyword("pattern", move |_, value, _| {
                let text = value.as_str().unwrap_or_default();
                match compiled.compiled(text) {
                    Ok(pattern) => Ok(Box::new(Matches(pattern))),
                    Err(_) => Err(ValidationError::custom(text)),
                }
            })
            .should_validate_formats(true)
            .build(schema);
        match built {
            Ok(validator) => Ok(Self(Arc::new(Compiled { validator, name_states: patterns.name_states() }))),
            Err(error) => {
                Err(Invalid { pointer: error.instance_path().to_string(), cause: Cause::of(&error) })
            }
        }
    }

    /// Every violation (up to a bound), or nothing.
    pub fn check(&self, value: &Value, budget: &Budget) -> Result<(), Unfit> {
        if self.accepts(value, budget).map_err(Unfit::Exhausted)? {
            Ok(())
        } else {
            Err(Unfit::Violates(self.violations(value, budget)))
        }
    }

    pub fn accepts(&self, value: &Value, budget: &Budget) -> Result<bool, Exhausted> {
        let allowance = self.allowance(u64::MAX, u64::MAX);
        let (is_valid, spent) = metered(budget, allowance, || self.0.validator.is_valid(Seen(value)));
        spent.map(|()| is_valid)
    }

    /// What can be said of a value that breaks the schema, in bounded time and memory.
    fn violations(&self, value: &Value, budget: &Budget) -> Vec<Violation> {
        let allowance = self.allowance(LISTING_STEPS_MAX, ERRORS_MAX);
        // That not all could be written down is no reason to say nothing.
        let (violations, _) = metered(budget, allowance, || {
            let errors = self.0.validator.iter_errors(Seen(value)).filter(is_genuine);
            errors.take(VIOLATIONS_MAX).map(|error| Violation::of(&error)).collect::<Vec<_>>()
        });
        if violations.is_empty() { vec![Violation::untold()] } else { violations }
    }

    fn allowance(&self, steps: u64, errors: u64) -> Allowance {
        Allowance { steps, errors, name_states: self.0.name_states }
    }
}

/// Whether an error was found before looking had to end: later ones come of seeing nothing.
fn is_genuine(error: &ValidationError<'_>) -> bool {
    let is_text = matches!(error.instance().as_ref(), Value::String(_));
    match error.kind() {
        // Ours keep a copy, and are about texts.
        ValidationErrorKind::Custom { .. } => is_text,
        _ => !matches!(error.instance(), Cow::Borrowed(value) if ptr::eq(*value, &raw const NOT_KEPT)),
    }
}

impl Violation {
    fn of(error: &ValidationError<'_>) -> Self {
        let mut message = Shortened::default();
        // Masked: the sender knows its values, and the log must not.
        write!(message, "{}", error.masked()).ok();
        Self {
            pointer: error.instance_path().to_string(),
            rule: error.schema_path().to_string(),
            message: message.0,
        }
    }

    /// Of a value whose violations are too many, or too far down, to be told.
    fn untold() -> Self {
        let message = "the value breaks the schema in more ways than can be told".to_owned();
        Self { pointer: String::new(), rule: String::new(), message }
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
            ValidationErrorKind::Custom { message, .. } => Self::Pattern(message.clone()),
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

/// A text that ends at its limit, whatever is written.
#[derive(Default)]
struct Shortened(String);

impl Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const SHOWN: usize = 300;
        let left = SHOWN.saturating_sub(self.0.chars().count());
        if let Some((end, _)) = text.char_indices().nth(left) {
            self.0.push_str(&text[..end]);
            self.0.push('…');
            Err(fmt::Error)
        } else {
            self.0.push_str(text);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(schema: &Value) -> Result<Schema, Invalid> {
        let patterns = Patterns::new(PatternLimits { bytes_max: 1 << 20, states_max: 1 << 20 });
        Schema::compile(schema, "triggers/t.yaml", &Documents::default(), &patterns)
    }

    fn accepts(schema: &Schema, value: &Value) -> bool {
        schema.accepts(value, &Budget::default()).unwrap()
    }

    #[test]
    fn every_violation_has_a_pointer_a_rule_and_a_message() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {"b": {"type": "array", "items": {"type": "integer"}}}});
        let violations = compile(&schema).unwrap().check(&json!({"b": [1, "x"]}), &Budget::default());
        let Err(Unfit::Violates(violations)) = violations else { panic!("{violations:?}") };
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
        assert!(accepts(&schema, &json!("2026-11-22T10:00:00Z")));
        assert!(!accepts(&schema, &json!("yesterday")));
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
            assert!(!accepts(&schema, &parse(text)), "{text}");
        }
        assert!(accepts(&schema, &parse("-1e400")) || !accepts(&schema, &parse("-1e400")));
        let multiple = compile(&json!({"multipleOf": 0.01})).unwrap();
        let _ = accepts(&multiple, &parse("1e999999999"));
        let _ = multiple.check(&parse("1e-999999999"), &Budget::default());
    }

    /// Each would take hours or gigabytes.
    #[test]
    fn looking_at_a_value_ends_with_the_budget() {
        let nested = |depth: usize, leaf: &str| {
            let text = format!("{}{leaf}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let many = |item: &dyn Fn(usize) -> String, count: usize| {
            let items: Vec<_> = (0..count).map(item).collect();
            serde_json::from_str::<Value>(&format!("[{}]", items.join(","))).unwrap()
        };
        let twice = json!({"$dynamicAnchor": "n", "type": "object", "allOf": [
            {"properties": {"a": {"$dynamicRef": "#n"}}}, {"properties": {"a": {"$dynamicRef": "#n"}}}
        ]});
        let pattern = format!("[01]*1[01]{{{}}}$", 2000);
        let name = "x".repeat(1 << 20);
        let table: [(&str, Value, Value); 9] = [
            ("twice a level", twice.clone(), nested(100, "1")),
            ("twice a level, told", twice, nested(60, "[1]")),
            (
                "unevaluated",
                json!({"anyOf": [{"$ref": "#/$defs/t"}], "unevaluatedProperties": false, "$defs": {"t": {
                    "anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}],
                    "unevaluatedProperties": false
                }}}),
                nested(100, "1"),
            ),
            ("a wide pattern", json!({"pattern": pattern}), Value::String("01".repeat(1 << 19))),
            (
                "numbers that look alike",
                json!({"uniqueItems": true}),
                many(&|index| format!("1{}{index:06}", "0".repeat(80)), 12_000),
            ),
            (
                "numbers to divide",
                json!({"items": {"multipleOf": 0.3}}),
                many(&|_| "1e-9999".to_owned(), 100_000),
            ),
            ("objects", json!({"uniqueItems": true}), many(&|index| format!("{{\"id\":{index}}}"), 80_000)),
            ("as many errors", json!({"items": {"type": "string"}}), many(&|_| "1".to_owned(), 500_000)),
            (
                "long pointers",
                json!({"additionalProperties": {"items": {"type": "string"}}}),
                json!({name: vec![1; 10_000]}),
            ),
        ];
        for (what, schema, value) in table {
            let schema = compile(&schema).unwrap();
            let began = std::time::Instant::now();
            let budget = Budget::default();
            let _timed = budget.timed();
            let result = match schema.check(&value, &budget) {
                Ok(()) => "fits".to_owned(),
                Err(Unfit::Exhausted(exhausted)) => exhausted.to_string(),
                Err(Unfit::Violates(violations)) => {
                    let bytes: usize = violations.iter().map(|v| v.pointer.len() + v.message.len()).sum();
                    assert!(bytes < 4 << 20, "{what}: {bytes}");
                    format!("{} violations, {bytes} bytes", violations.len())
                }
            };
            let took = began.elapsed();
            println!("{what}: {result} after {took:?}, {} steps left", budget.steps_left());
            assert!(took < std::time::Duration::from_secs(10), "{what} took {took:?}");
        }
    }
}
