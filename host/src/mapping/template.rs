//! The `template` mapping: a tree whose string leaves are rendered from `payload`, `headers`, `attributes` and `trigger`.

mod value;

use std::{fmt, sync::Arc};

use minijinja::{Environment, Error, UndefinedBehavior, Value as Rendered};
use serde_json::{Map, Value};

use self::value::{Json, to_json};
use super::Unmapped;
use crate::selector::{JsonPath, Subject};

#[derive(Clone)]
pub struct Template {
    root: Leaf,
    engine: Arc<Environment<'static>>,
    output_bytes_max: usize,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.root).finish()
    }
}

#[derive(Clone, Debug)]
enum Leaf {
    Const(Value),
    /// `{{ payload.a.b }}` alone: the value itself, its numbers written as they were sent.
    Path(String, JsonPath),
    /// One expression alone: its value with its type. The name of its template, and its source.
    Expression(String, String),
    /// Text around expressions: a string.
    Text(String, String),
    List(Vec<Leaf>),
    Object(Vec<(String, Leaf)>),
}

/// Builds a template leaf by leaf; each may be wrong in its own way.
pub struct Builder {
    engine: Environment<'static>,
    count: usize,
    output_bytes_max: usize,
}

/// A tree of leaves under construction, so that the loader can name the place of each wrong one.
#[derive(Clone, Debug)]
pub struct Built(Leaf);

impl Builder {
    pub fn new(fuel: u64, output_bytes_max: usize) -> Self {
        let mut engine = Environment::new();
        // A missing member fails the mapping: an event with a hole in it is found too late.
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        engine.set_fuel(Some(fuel));
        engine.set_recursion_limit(64);
        Self { engine, count: 0, output_bytes_max }
    }

    /// A leaf that is no string stands for itself.
    pub fn constant(value: Value) -> Built {
        Built(Leaf::Const(value))
    }

    pub fn list(items: Vec<Built>) -> Built {
        Built(Leaf::List(items.into_iter().map(|built| built.0).collect()))
    }

    pub fn object(members: Vec<(String, Built)>) -> Built {
        Built(Leaf::Object(members.into_iter().map(|(name, built)| (name, built.0)).collect()))
    }

    /// A string leaf; the error says what is wrong with it.
    pub fn leaf(&mut self, text: &str) -> Result<Built, String> {
        let name = format!("leaf {}", self.count);
        self.count += 1;
        let Some(expression) = sole_expression(text) else {
            if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
                return Ok(Built(Leaf::Const(Value::String(text.to_owned()))));
            }
            self.add(&name, text.to_owned())?;
            return Ok(Built(Leaf::Text(name, text.to_owned())));
        };
        if let Some(path) = plain_path(expression) {
            return Ok(Built(Leaf::Path(expression.to_owned(), path)));
        }
        self.engine.compile_expression(expression).map_err(|error| unreadable(&error))?;
        // Compiled once as an assignment, whose value is read back: an expression alone can't be kept.
        self.add(&name, format!("{{% set result = ({expression}) %}}"))?;
        Ok(Built(Leaf::Expression(name, expression.to_owned())))
    }

    fn add(&mut self, name: &str, source: String) -> Result<(), String> {
        self.engine.add_template_owned(name.to_owned(), source).map_err(|error| unreadable(&error))?;
        let template = self.engine.get_template(name).map_err(|error| unreadable(&error))?;
        let globals: Vec<_> = self.engine.globals().map(|(name, _)| name.to_owned()).collect();
        let is_known = |name: &String| KNOWN.contains(&name.as_str()) || globals.contains(name);
        match template.undeclared_variables(false).into_iter().filter(|name| !is_known(name)).min() {
            Some(name) => Err(format!("there is no `{name}` here; {} are", KNOWN.join(", "))),
            None => Ok(()),
        }
    }

    pub fn finish(self, root: Built) -> Template {
        Template { root: root.0, engine: Arc::new(self.engine), output_bytes_max: self.output_bytes_max }
    }
}

impl Template {
    pub fn render(&self, subject: Subject<'_>, trigger_ref: &str) -> Result<Value, Unmapped> {
        let payload = Arc::new(subject.payload.clone());
        let attributes = subject.attributes.iter().map(|(name, text)| (name.clone(), text.clone()));
        let context = Rendered::from_pairs([
            ("payload", Json::wrap(&payload, &payload)),
            ("headers", texts(subject.request.open_headers())),
            ("attributes", texts(attributes)),
            ("trigger", Rendered::from(trigger_ref)),
        ]);
        self.value(&self.root, &payload, &context)
    }

    fn value(&self, leaf: &Leaf, payload: &Value, context: &Rendered) -> Result<Value, Unmapped> {
        match leaf {
            Leaf::Const(value) => Ok(value.clone()),
            Leaf::Path(text, path) => match path.value(payload) {
                Some(value) => Ok(value.clone()),
                None => Err(Unmapped(format!("`{{{{ {text} }}}}`: the payload has no such member"))),
            },
            Leaf::Expression(name, text) => {
                let failed = |error: Error| Unmapped(format!("`{{{{ {text} }}}}`: {}", told(&error)));
                let template = self.engine.get_template(name).map_err(failed)?;
                let captured = template.render_captured(context.clone()).map_err(failed)?;
                let value = captured.state().lookup("result").unwrap_or_default();
                to_json(&value, 0)
                    .ok_or_else(|| Unmapped(format!("`{{{{ {text} }}}}` gives nothing that JSON can hold")))
            }
            Leaf::Text(name, text) => {
                let failed = |error: Error| Unmapped(format!("`{text}`: {}", told(&error)));
                let mut output = Bounded { bytes: Vec::new(), bytes_max: self.output_bytes_max };
                let template = self.engine.get_template(name).map_err(failed)?;
                template.render_captured_to(context.clone(), &mut output).map_err(failed)?;
                Ok(Value::String(String::from_utf8_lossy(&output.bytes).into_owned()))
            }
            Leaf::List(items) => items.iter().map(|item| self.value(item, payload, context)).collect(),
            Leaf::Object(members) => {
                let member =
                    |(name, leaf): &(String, Leaf)| Ok((name.clone(), self.value(leaf, payload, context)?));
                members.iter().map(member).collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
        }
    }
}

/// An object of texts.
fn texts(pairs: impl Iterator<Item = (String, String)>) -> Rendered {
    let members: Map<String, Value> = pairs.map(|(name, text)| (name, Value::String(text))).collect();
    Rendered::from_object(Json::new(Value::Object(members)))
}

/// What a template can name.
const KNOWN: [&str; 4] = ["payload", "headers", "attributes", "trigger"];

fn unreadable(error: &Error) -> String {
    let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    format!("this template can't be read: {detail}")
}

/// What stands between `{{` and `}}` when a leaf is nothing else.
fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    (!inner.contains("{{") && !inner.contains("}}") && !inner.contains("{%")).then(|| inner.trim())
}

/// `payload.a.b[0]` as the JSONPath that means the same.
fn plain_path(expression: &str) -> Option<JsonPath> {
    let rest = expression.strip_prefix("payload")?;
    let plain = rest.is_empty() || rest.starts_with(['.', '[']);
    let letters = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte));
    if plain && letters {
        JsonPath::parse(&format!("${rest}")).ok().filter(JsonPath::is_singular)
    } else {
        None
    }
}

fn told(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Rendered text that stops growing at its limit.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(std::io::Error::other("the text is longer than event_bytes_max"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        request::{Attributes, tests::post},
    };

    fn render(text: &str, payload: &str) -> Result<String, String> {
        let mut builder = Builder::new(10_000, 1000);
        let leaf = builder.leaf(text)?;
        let payload = serde_json::from_str(payload).unwrap();
        let request = post(&[("x-event", "push"), ("authorization", "secret")], "");
        let attributes = Attributes::from([("type".to_owned(), "com.example.push".to_owned())]);
        let budget = &Budget::default();
        let subject = Subject { request: &request, attributes: &attributes, payload: &payload, budget };
        let rendered = builder.finish(leaf).render(subject, "github.push");
        rendered.map(|value| value.to_string()).map_err(|Unmapped(text)| text)
    }

    #[test]
    fn a_leaf_that_is_one_expression_keeps_its_type_and_digits() {
        let payload = r#"{"n": 12345678901234567890123, "f": 1.50, "e": 1e+400, "i": 7, "a": [1, {"b": null}], "s": "x"}"#;
        for (text, expected) in [
            ("{{ payload.n }}", "12345678901234567890123"),
            ("{{ payload.f }}", "1.50"),
            ("{{payload.a}}", r#"[1,{"b":null}]"#),
            ("{{ payload['e'] }}", "1e+400"),
            ("{{ payload.i + 1 }}", "8"),
            ("{{ payload.a[1].b is none }}", "true"),
            ("{{ payload.a | length }}", "2"),
            (
                "{{ {'x': payload.n, 'y': [payload.a]} }}",
                r#"{"x":12345678901234567890123,"y":[[1,{"b":null}]]}"#,
            ),
            ("{{ payload.nothing | default('d') }}", r#""d""#),
            ("{{ headers['x-event'] }}", r#""push""#),
            ("{{ attributes.type }}", r#""com.example.push""#),
            ("{{ trigger }}", r#""github.push""#),
            ("n is {{ payload.n }}, f {{ payload.f }}!", r#""n is 12345678901234567890123, f 1.50!""#),
            ("{% for x in payload.a %}{{ loop.index }}{% endfor %}", r#""12""#),
            ("{{ payload.a | map('string') | list | length }}", "2"),
            ("plain", r#""plain""#),
        ] {
            assert_eq!(render(text, payload).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_rendered_says_why() {
        for text in [
            "{{ payload.nothing }}",
            "x {{ payload.nothing }}",
            "{{ headers.authorization }}",
            "{{ payload. }}",
            "{{ payload | nofilter }}",
            "{% for a in range(10000) %}{% for b in range(10000) %}{{ a }}{% endfor %}{% endfor %}",
            "{% for a in range(900) %}0123456789{% endfor %}",
            "{{ range(100000000) | list }}",
        ] {
            let error = render(text, "{}").unwrap_err();
            println!("{error}");
        }
    }
}
