//! The `template` mapping: a tree whose string leaves are rendered from `payload`, `headers`, `attributes` and `trigger`.

mod rewrite;
mod value;
mod work;

use std::{fmt, sync::Arc};

use minijinja::{Environment, Error, UndefinedBehavior, Value as Rendered};
use serde_json::{Map, Value};

pub use self::rewrite::Fault;
use self::{
    rewrite::unreadable,
    value::{Json, Root, to_json},
};
use super::{Failure, Unmapped};
use crate::{
    json::BoundedText,
    meter::metered,
    selector::{JsonPath, Subject},
};

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
        // What is run has a call of ours around most operands.
        engine.set_fuel(Some(fuel.saturating_mul(REWRITTEN_FACTOR)));
        engine.set_recursion_limit(64);
        work::install(&mut engine);
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
    pub fn leaf(&mut self, text: &str) -> Result<Built, Fault> {
        let name = format!("leaf {}", self.count);
        self.count += 1;
        let Some(expression) = sole_expression(text) else {
            if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
                return Ok(Built(Leaf::Const(Value::String(text.to_owned()))));
            }
            self.add(&name, rewrite::template(text)?)?;
            return Ok(Built(Leaf::Text(name, text.to_owned())));
        };
        if let Some(path) = plain_path(expression) {
            return Ok(Built(Leaf::Path(expression.to_owned(), path)));
        }
        let run = rewrite::expression(expression)?;
        // Compiled once as an assignment, whose value is read back: an expression alone can't be kept.
        self.add(&name, format!("{{% set result = ({run}) %}}"))?;
        Ok(Built(Leaf::Expression(name, expression.to_owned())))
    }

    fn add(&mut self, name: &str, source: String) -> Result<(), Fault> {
        self.engine.add_template_owned(name.to_owned(), source).map_err(|error| unreadable(&error))?;
        let template = self.engine.get_template(name).map_err(|error| unreadable(&error))?;
        let globals: Vec<_> = self.engine.globals().map(|(name, _)| name.to_owned()).collect();
        let is_known = |name: &String| KNOWN.contains(&name.as_str()) || globals.contains(name);
        match template.undeclared_variables(false).into_iter().filter(|name| !is_known(name)).min() {
            Some(name) => {
                let message = format!("there is no `{name}` here; {} are", KNOWN.join(", "));
                Err(Fault { message, known: None })
            }
            None => Ok(()),
        }
    }

    pub fn finish(self, root: Built) -> Template {
        Template { root: root.0, engine: Arc::new(self.engine), output_bytes_max: self.output_bytes_max }
    }
}

impl Template {
    pub fn render(&self, subject: Subject<'_>, trigger_ref: &str) -> Result<Value, Failure> {
        let payload = Root::new(subject.payload.clone());
        let attributes = subject.attributes.iter().map(|(name, text)| (name.clone(), text.clone()));
        let context = Rendered::from_pairs([
            ("payload", Json::wrap(&payload)),
            ("headers", texts(subject.request.open_headers())),
            ("attributes", texts(attributes)),
            ("trigger", Rendered::from(trigger_ref)),
        ]);
        let (rendered, spent) =
            metered(subject.budget, u64::MAX, || self.value(&self.root, &payload.value, &context));
        spent?;
        Ok(rendered?)
    }

    fn value(&self, leaf: &Leaf, payload: &Value, context: &Rendered) -> Result<Value, Unmapped> {
        match leaf {
            Leaf::Const(value) => Ok(value.clone()),
            Leaf::Path(text, path) => match path.value(payload) {
                Some(value) => {
                    value::copied(value).ok_or_else(|| Unmapped(format!("`{{{{ {text} }}}}`: too much")))
                }
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
                let mut output = BoundedText::new(self.output_bytes_max);
                let template = self.engine.get_template(name).map_err(failed)?;
                template.render_captured_to(context.clone(), &mut output).map_err(failed)?;
                Ok(Value::String(output.into_string()))
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

/// Instructions of what is run for each of the author's.
const REWRITTEN_FACTOR: u64 = 4;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        request::{Attributes, tests::post},
    };

    fn render(text: &str, payload: &str) -> Result<String, String> {
        let mut builder = Builder::new(10_000, 1000);
        let leaf = builder.leaf(text).map_err(|fault| fault.message)?;
        let payload = serde_json::from_str(payload).unwrap();
        let request = post(&[("x-event", "push"), ("authorization", "secret")], "");
        let attributes = Attributes::from([("type".to_owned(), "com.example.push".to_owned())]);
        let budget = &Budget::default();
        let subject = Subject { request: &request, attributes: &attributes, payload: &payload, budget };
        let rendered = builder.finish(leaf).render(subject, "github.push");
        rendered.map(|value| value.to_string()).map_err(|failure| format!("{failure:?}"))
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

    /// What is run is written anew: it means the same.
    #[test]
    fn every_form_of_the_language_means_what_it_says() {
        let payload = r#"{"n": 6, "s": "a,b\"}}\u0001é", "l": [3, 1, 2], "m": {"x": 1, "y y": [true, null]}, "t": "Text"}"#;
        for (text, expected) in [
            ("{{ 1 + 2 * 3 - 4 / 2 }}", "5.0"),
            ("{{ (1 + 2) * 3 }}", "9"),
            ("{{ 7 // 2 ~ '|' ~ 7 % 4 ~ 2 ** 3 }}", r#""3|38""#),
            ("{{ -payload.n + 1 }}", "-5"),
            ("{{ not payload.n > 5 or payload.n is odd }}", "false"),
            ("{{ 1 < payload.n <= 6 != 7 }}", "true"),
            ("{{ 'a' in payload.s and 2 in payload.l and 'z' not in payload.m }}", "true"),
            ("{{ payload.l[1:] + [9] }}", "[1,2,9]"),
            ("{{ payload.l[::-1][0] }}", "2"),
            ("{{ payload.t[1:3] }}", r#""ex""#),
            ("{{ payload.m['y y'][0] }}", "true"),
            ("{{ 'ab' * 3 ~ [1] * 2 }}", r#""ababab[1, 1]""#),
            ("{{ 'x' if payload.n == 6 else 'y' }}", r#""x""#),
            ("{{ payload.l | sort(reverse=true) | join('-') | upper }}", r#""3-2-1""#),
            ("{{ payload.t | replace('e', 'ee') | indent(2, true) }}", r#""  Teext""#),
            ("{{ '%s: %03d' | format(payload.t, payload.n) }}", r#""Text: 006""#),
            ("{{ payload.l | map('string') | list }}", r#"["3","1","2"]"#),
            ("{{ payload.l | select('gt', 1) | list | length }}", "2"),
            ("{{ [[1, 2], [3]] | map('first') | zip(['a', 'b']) | list }}", r#"[[1,"a"],[3,"b"]]"#),
            ("{{ payload.l | batch(2, 0) | list }}", "[[3,1],[2,0]]"),
            ("{{ payload.l | sum }}", "6"),
            ("{{ payload.s | split(',') | list }}", "[\"a\",\"b\\\"}}\\u0001é\"]"),
            ("{{ payload.m | items | list | length }}", "2"),
            ("{{ {'a': 1.5, 'b': none, 'c': true}['a'] }}", "1.5"),
            ("{{ range(3) | list }}", "[0,1,2]"),
            ("{{ 1e3 ~ '' ~ 12345678901234567890123 }}", r#""1000.012345678901234567890123""#),
            ("{{ payload.no | default(payload.t | lower) }}", r#""text""#),
            ("{{ payload.no is undefined and payload.t is string and 4 is divisibleby(2) }}", "true"),
            (
                "a {%- for k, v in payload.m | dictsort %} {{ loop.index }}:{{ k }}{% else %}none{% endfor %}",
                r#""a 1:x 2:y y""#,
            ),
            (
                "{% for x in payload.l if x > 1 %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
                r#""3,2""#,
            ),
            ("{% if payload.n > 9 %}a{% elif payload.n > 5 %}b{% else %}c{% endif %}!", r#""b!""#),
            ("{% set x = payload.t %}{% set y %}<{{ x }}>{% endset %}{{ y ~ y }}", r#""<Text><Text>""#),
            ("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}", r#""3""#),
            ("{% filter upper %}a{{ payload.t }}{% endfilter %}", r#""ATEXT""#),
            ("{% for (a, b) in [[1, 2]] %}{{ a }}{{ b }}{{ loop.cycle('o', 'e') }}{% endfor %}", r#""12o""#),
            ("{# no #}{% raw %}{{ x }}{% endraw %} \"q\" \\ \t", "\"{{ x }} \\\"q\\\" \\\\ \\t\""),
            ("line\n{{ payload.n }}\n", r#""line\n6""#),
        ] {
            assert_eq!(render(text, payload).as_deref(), Ok(expected), "{text}");
        }
    }

    /// Each would take gigabytes or hours, or the process down.
    #[test]
    fn what_makes_much_of_little_ends_with_the_budget() {
        let long =
            format!("{{\"s\": \"{}\", \"l\": [{}]}}", "a".repeat(640_000), vec!["1"; 20_000].join(","));
        let doubling = |operation: &str| {
            let sets = (0..40).map(|_| format!("{{% set x = {operation} %}}")).collect::<String>();
            format!("{{% set x = payload.s %}}{sets}{{{{ x | length }}}}")
        };
        let lists = |operation: &str| doubling(operation).replace("payload.s", "payload.l");
        for text in [
            "{{ payload.s | list | join(payload.s) }}".to_owned(),
            "{{ payload.s | replace('a', payload.s) | length }}".to_owned(),
            "{{ payload.s | replace('', payload.s) | length }}".to_owned(),
            "{{ payload.l | map('replace', 1, payload.s) | list }}".to_owned(),
            "{{ payload.s | indent(1000000000, true) }}".to_owned(),
            "{{ '%1000000000d' | format(1) }}".to_owned(),
            "{{ '%*d' | format(1000000000, 1) }}".to_owned(),
            "{{ [] | slice(1000000000) | list | length }}".to_owned(),
            "{{ [1] | batch(1000000000, 'x') | list | length }}".to_owned(),
            "{{ [payload.s] * 10000 | join | length }}".to_owned(),
            "{{ payload.s * 10000 }}".to_owned(),
            "{{ payload.s * payload.l[0] }}".to_owned(),
            "{{ ('a' * 10000) * 10000 }}".to_owned(),
            "{% for a in payload.l %}{% for b in payload.l %}{% set x = payload.s[1:] %}{% endfor %}{% endfor %}".to_owned(),
            "{% for a in payload.l %}{{ 'b' in payload.s }}{{ payload.l == payload.l }}{% endfor %}".to_owned(),
            "{% for a in payload.l %}{{ payload.s | upper | length }}{% endfor %}".to_owned(),
            "{% for a in payload.l %}{{ a in payload.l | reverse | list }}{% endfor %}".to_owned(),
            "{% set x %}{% for a in payload.l %}{{ payload.s }}{% endfor %}{% endset %}{{ x | length }}".to_owned(),
            format!("{{% set x %}}{{% for a in payload.l %}}{}{{% endfor %}}{{% endset %}}{{{{ x | length }}}}", "b".repeat(100_000)),
            doubling("x ~ x"),
            doubling("x + x"),
            doubling("x * 2"),
            doubling("x | replace('a', 'aa')"),
            doubling("[x, x]") + "{{ x }}",
            doubling("{'a': x, 'b': x}") + "{{ x == x }}",
            lists("x + x"),
            lists("x | chain(x)"),
            lists("x | zip(x)") + "{{ x }}",
            lists("x * 2"),
            format!("{{% set x = [] %}}{}{{{{ x }}}}", "{% set x = [[[[[[[[x]]]]]]]] %}".repeat(100)),
        ] {
            let began = std::time::Instant::now();
            let shown: String = text.chars().take(100).collect();
            let error = render(&text, &long).expect_err(&shown);
            let took = began.elapsed();
            println!("{shown}: {error} after {took:?}");
            assert!(took < std::time::Duration::from_secs(10), "{shown}: {took:?}");
        }
    }

    #[test]
    fn what_nests_too_deep_or_is_not_available_is_refused_when_it_is_read() {
        for text in [
            format!("{{{{ {}1 }}}}", "1 + ".repeat(100_000)),
            format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
            format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("{{{{ payload{} }}}}", "[0]".repeat(100_000) + "| first"),
            format!("x{}", "{% if 1 %}".repeat(100_000)),
            format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(1000)),
            "{{ payload | nofilter }}".to_owned(),
            "{{ payload | map('nofilter') }}".to_owned(),
            "{{ payload is notest }}".to_owned(),
            "{{ nofunction(1) }}".to_owned(),
            "{{ namespace(a=1) }}".to_owned(),
            "{{ payload | pprint }}".to_owned(),
            "{{ payload | tojson }}".to_owned(),
            "{% for x in payload recursive %}{{ loop(x) }}{% endfor %}".to_owned(),
            "{% autoescape true %}{% endautoescape %}".to_owned(),
            "{% macro m() %}{% endmacro %}".to_owned(),
            "{% include 'x' %}".to_owned(),
        ] {
            let fault = Builder::new(10_000, 1000).leaf(&text).map(drop).unwrap_err();
            println!("{}: {fault:?}", text.chars().take(60).collect::<String>());
        }
    }
}
