//! Selectors: how any part of a request is named (`header:NAME`, `query:NAME`, `attribute:NAME`, `path`, `method`,
//! `body`, `$…`).

use std::{borrow::Cow, fmt};

use http::HeaderName;
use jsonpath_rust::{
    parser::{
        errors::JsonPathError,
        model::{JpQuery, Segment, Selector as PathSelector},
        parse_json_path,
    },
    query::js_path_process,
};
use serde_json::Value;

use crate::{
    budget::{Budget, Exhausted},
    request::{Attributes, Inbound},
};

/// What selectors look at: a request, and one payload of it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub request: &'a Inbound,
    pub attributes: &'a Attributes,
    pub payload: &'a Value,
    pub budget: &'a Budget,
}

#[derive(Clone, Debug)]
pub enum Selector {
    Header(HeaderName),
    Query(String),
    /// Of a CloudEvent.
    Attribute(String),
    Path,
    Method,
    Body,
    Json(JsonPath),
}

/// What a selector found.
#[derive(Debug, PartialEq)]
pub enum Selected<'a> {
    Nothing,
    One(Cow<'a, Value>),
    /// Of a query that can select many; perhaps none.
    Many(Vec<&'a Value>),
}

impl Selector {
    /// Whether a string is meant as a selector where it could also be plain text.
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with('$') || ["header:", "query:", "attribute:"].iter().any(|kind| text.starts_with(kind))
    }

    /// Reads a selector; the error says in the author's words what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return JsonPath::parse(text).map(Self::Json);
        }
        match text.split_once(':') {
            Some(("header", name)) => match name.parse() {
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(format!("`{name}` can't be the name of a header")),
            },
            Some(("query", "")) => Err("`query:` needs the name of a parameter".to_owned()),
            Some(("query", name)) => Ok(Self::Query(name.to_owned())),
            Some(("attribute", name)) if is_attribute_name(name) => Ok(Self::Attribute(name.to_owned())),
            Some(("attribute", name)) => {
                Err(format!("`{name}` can't be an attribute of a CloudEvent: those have a-z and 0-9 only"))
            }
            _ => match text {
                "path" => Ok(Self::Path),
                "method" => Ok(Self::Method),
                "body" => Ok(Self::Body),
                _ => Err(format!("`{text}` is not a selector")),
            },
        }
    }

    /// What would have been right, for whoever wrote one wrong.
    pub const HELP: &str = "a selector is `header:NAME`, `query:NAME`, `attribute:NAME` (of a CloudEvent), `path`, `method`, `body` or a JSONPath (RFC 9535) such as `$.a.b`";

    /// Whether it can only ever select one value.
    pub fn is_singular(&self) -> bool {
        match self {
            Self::Header(_)
            | Self::Query(_)
            | Self::Attribute(_)
            | Self::Path
            | Self::Method
            | Self::Body => true,
            Self::Json(path) => path.is_singular(),
        }
    }

    pub fn select<'a>(&self, subject: Subject<'a>) -> Result<Selected<'a>, Exhausted> {
        let Subject { request, attributes, payload, budget } = subject;
        let text = |text: Cow<'a, str>| Selected::One(Cow::Owned(Value::String(text.into_owned())));
        Ok(match self {
            Self::Header(name) => request.first_header(name).map_or(Selected::Nothing, text),
            Self::Query(name) => request.query_value(name).map_or(Selected::Nothing, text),
            Self::Attribute(name) => {
                attributes.get(name).map_or(Selected::Nothing, |value| text(Cow::Borrowed(value)))
            }
            Self::Path => text(Cow::Borrowed(&request.path)),
            Self::Method => text(Cow::Borrowed(request.method.as_str())),
            Self::Body => {
                budget.spend_bytes(request.body.len())?;
                text(String::from_utf8_lossy(&request.body))
            }
            Self::Json(path) => return path.select(payload, budget),
        })
    }
}

/// As CloudEvents names them.
pub fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// A JSONPath, ready to run.
#[derive(Clone, Debug)]
pub struct JsonPath {
    text: String,
    query: Query,
}

/// Plain paths are walked here without an allocation; everything else is the library's work.
#[derive(Clone, Debug)]
enum Query {
    Singular(Vec<Step>),
    /// `$.a[*].b`, `$.a[*].b[*]`: plain paths, each from every member that the one before it leads to.
    Each(Vec<Vec<Step>>),
    Full(JpQuery),
}

#[derive(Clone, Debug)]
enum Step {
    Name(String),
    Index(i64),
}

/// Each `..` multiplies the work by the payload's depth.
const DESCENTS_MAX: usize = 2;
/// The library reads a parenthesis in several ways, one after the other, and in each all that stand in it: every
/// further one multiplies the time.
const PARENTHESES_MAX: usize = 6;
const FILTERS_MAX: usize = 4;
const TEXT_BYTES_MAX: usize = 1000;

fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

impl JsonPath {
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('$') {
            return Err(format!("`{text}` is not a JSONPath: it begins with `$`, the payload"));
        }
        if text.matches("..").count() > DESCENTS_MAX {
            return Err(format!(
                "`{text}` has more than {DESCENTS_MAX} `..`: that takes too long in a deep payload"
            ));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("`{}…` is longer than {TEXT_BYTES_MAX} bytes", clipped(text)));
        }
        if text.matches('(').count() > PARENTHESES_MAX || text.matches('?').count() > FILTERS_MAX {
            return Err(format!(
                "`{}` has more than {PARENTHESES_MAX} parentheses or {FILTERS_MAX} filters: that takes too long to read",
                clipped(text)
            ));
        }
        let query = Query::of(parse_json_path(text).map_err(|error| in_the_authors_words(text, &error))?);
        // The library reads `$.a b` as one name; RFC 9535 wants such a name in quotes.
        if !text.contains(['\'', '"']) && query.names().any(|name| name.contains(char::is_whitespace)) {
            return Err(format!(
                "`{text}` is not a JSONPath: a name with a blank stands in quotes: `$['a b']`"
            ));
        }
        Ok(Self { text: text.to_owned(), query })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_singular(&self) -> bool {
        matches!(self.query, Query::Singular(_))
    }

    pub fn select<'a>(&self, payload: &'a Value, budget: &Budget) -> Result<Selected<'a>, Exhausted> {
        Ok(match &self.query {
            Query::Singular(steps) => match walk(steps, payload) {
                Some(value) => Selected::One(Cow::Borrowed(value)),
                None => Selected::Nothing,
            },
            Query::Each(paths) => {
                let mut found = Vec::new();
                walk_each(paths, payload, budget, &mut found)?;
                Selected::Many(found)
            }
            Query::Full(query) => {
                let found = js_path_process(query, payload).unwrap_or_default();
                budget.spend_steps(found.len() as u64)?;
                Selected::Many(found.into_iter().map(|node| node.val).collect())
            }
        })
    }

    /// Everything that it selects, in order.
    pub fn all<'a>(&self, payload: &'a Value, budget: &Budget) -> Result<Vec<&'a Value>, Exhausted> {
        Ok(match self.select(payload, budget)? {
            Selected::Many(members) => members,
            Selected::Nothing | Selected::One(_) => self.value(payload).into_iter().collect(),
        })
    }

    /// Puts a value in the place of the one that is there, or beside its siblings; whether there was a place.
    pub fn set(&self, payload: &mut Value, fresh: Value) -> bool {
        let Query::Singular(steps) = &self.query else { return false };
        let Some((last, way)) = steps.split_last() else { return false };
        let parent = way.iter().try_fold(payload, |value, step| match (step, value) {
            (Step::Name(name), Value::Object(members)) => members.get_mut(name),
            (Step::Index(index), Value::Array(items)) => items.get_mut(usize::try_from(*index).ok()?),
            _ => None,
        });
        match (last, parent) {
            (Step::Name(name), Some(Value::Object(members))) => {
                members.insert(name.clone(), fresh);
                true
            }
            (Step::Index(index), Some(Value::Array(items))) => {
                match usize::try_from(*index).ok().and_then(|index| items.get_mut(index)) {
                    Some(item) => {
                        *item = fresh;
                        true
                    }
                    None => false,
                }
            }
            _ => false,
        }
    }

    /// The one value of a singular path.
    pub fn value<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        match &self.query {
            Query::Singular(steps) => walk(steps, payload),
            Query::Each(_) | Query::Full(_) => None,
        }
    }
}

impl Query {
    fn of(query: JpQuery) -> Self {
        let mut paths = vec![Vec::new()];
        for segment in &query.segments {
            match (segment, paths.last_mut()) {
                (Segment::Selector(PathSelector::Name(name)), Some(path)) => {
                    path.push(Step::Name(name.clone()));
                }
                (Segment::Selector(PathSelector::Index(index)), Some(path)) => path.push(Step::Index(*index)),
                (Segment::Selector(PathSelector::Wildcard), _) => paths.push(Vec::new()),
                _ => return Self::Full(query),
            }
        }
        match paths.as_mut_slice() {
            [only] => Self::Singular(std::mem::take(only)),
            _ => Self::Each(paths),
        }
    }
}

impl Query {
    fn names(&self) -> impl Iterator<Item = &str> {
        let paths = match self {
            Self::Singular(path) => std::slice::from_ref(path),
            Self::Each(paths) => paths,
            Self::Full(_) => &[],
        };
        paths.iter().flatten().filter_map(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        })
    }
}

fn walk<'a>(steps: &[Step], from: &'a Value) -> Option<&'a Value> {
    steps.iter().try_fold(from, |value, step| match (step, value) {
        (Step::Name(name), Value::Object(members)) => members.get(name),
        (Step::Index(index), Value::Array(items)) => {
            let index = if *index < 0 { *index + i64::try_from(items.len()).ok()? } else { *index };
            items.get(usize::try_from(index).ok()?)
        }
        _ => None,
    })
}

fn walk_each<'a>(
    paths: &[Vec<Step>],
    from: &'a Value,
    budget: &Budget,
    found: &mut Vec<&'a Value>,
) -> Result<(), Exhausted> {
    let Some((path, rest)) = paths.split_first() else { return Ok(()) };
    budget.spend_steps(1)?;
    match walk(path, from) {
        Some(value) if rest.is_empty() => found.push(value),
        Some(Value::Array(items)) => {
            items.iter().try_for_each(|item| walk_each(rest, item, budget, found))?;
        }
        Some(Value::Object(members)) => {
            members.values().try_for_each(|member| walk_each(rest, member, budget, found))?;
        }
        _ => {}
    }
    Ok(())
}

fn in_the_authors_words(text: &str, error: &JsonPathError) -> String {
    match error {
        JsonPathError::PestError(error) => {
            // The parser's own type is not ours to name; its text begins with ` --> line:column`.
            let text_of_error = error.to_string();
            let column = text_of_error.lines().next().and_then(|line| line.rsplit(':').next()).unwrap_or("1");
            format!("`{text}` is not a JSONPath: it can't be read from character {column} on")
        }
        other => format!("`{text}` is not a JSONPath: {}", other.to_string().to_lowercase()),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::Method => f.write_str("method"),
            Self::Body => f.write_str("body"),
            Self::Attribute(name) => write!(f, "attribute:{name}"),
            Self::Json(path) => f.write_str(path.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::tests::post;

    #[test]
    fn every_part_of_a_request_can_be_named() {
        let request = post(&[("x-event", "push")], "raw");
        let payload = json!({"a": {"b.c": [10, 20]}, "list": [{"id": 1}, {"no": 2}, {"id": 3}], "n": null});
        let attributes = Attributes::from([("type".to_owned(), "push".to_owned())]);
        let budget = &Budget::default();
        let subject = Subject { request: &request, attributes: &attributes, payload: &payload, budget };
        let one = |value: Value| Selected::One(Cow::Owned(value));
        let table = [
            ("header:X-Event", one(json!("push"))),
            ("header:X-Other", Selected::Nothing),
            ("query:a", one(json!("1"))),
            ("attribute:type", one(json!("push"))),
            ("attribute:subject", Selected::Nothing),
            ("path", one(json!("/api/v1/webhooks/wh_x"))),
            ("method", one(json!("POST"))),
            ("body", one(json!("raw"))),
            ("$.a['b.c'][-1]", one(json!(20))),
            ("$.a.nothing", Selected::Nothing),
            ("$.n", one(Value::Null)),
            ("$", one(payload.clone())),
        ];
        for (text, expected) in table {
            assert_eq!(Selector::parse(text).unwrap().select(subject), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("$.list[*].id", json!([1, 3])),
            ("$.nothing[*]", json!([])),
            ("$..id", json!([1, 3])),
            ("$.list[?@.id > 1].id", json!([3])),
            ("$.a[*][*]", json!([10, 20])),
            ("$.list[*][*]", json!([1, 2, 3])),
            ("$.a[*].nothing[*]", json!([])),
            ("$[*][*].id", json!([1, 3])),
            ("$.list[0:2]", json!([{"id": 1}, {"no": 2}])),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert!(!selector.is_singular(), "{text}");
            let Ok(Selected::Many(found)) = selector.select(subject) else { panic!("{text}") };
            assert_eq!(json!(found), expected, "{text}");
        }
    }

    /// Found by fuzzing: 23 seconds and more for 400 bytes.
    #[test]
    fn a_path_that_takes_too_long_to_read_is_refused() {
        let nested = format!("$[?{}@.a{}]", "(".repeat(7), ")".repeat(7));
        assert!(JsonPath::parse(&nested).unwrap_err().contains("parentheses"));
        let most = format!("$[?{}@.a{}]", "(".repeat(6), ")".repeat(6));
        JsonPath::parse(&most).unwrap();
        // The worst that is let through ends, too.
        for text in ["$[?!(!(!(!(!(!(", "$[?(search((subset_of((nin((", "$[?@[?@[?@[?(((((("] {
            JsonPath::parse(text).unwrap_err();
        }
        assert!(JsonPath::parse(&format!("$.{}", "a".repeat(1000))).is_err());
    }

    #[test]
    fn a_wrong_selector_says_what_is_wrong() {
        for text in [
            "$.a[",
            "$.a..",
            "header:",
            "header:a b",
            "query:",
            "attribute:",
            "attribute:ce-id",
            "headers:x",
            "$.a[?length()]",
            "$ .a b",
        ] {
            let error = Selector::parse(text).unwrap_err();
            println!("{error}");
            assert!(error.contains('`'), "{error}");
        }
    }
}
