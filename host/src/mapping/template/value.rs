//! Documents on their way into the template engine and back, with their numbers as they were sent.

use std::{fmt, sync::Arc};

use minijinja::{
    Value as Rendered,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};
use serde_json::{Map, Number, Value};

/// A member of the payload as the template engine sees it: looked at in place, copied only when it is used.
#[derive(Debug)]
pub(super) struct Json {
    /// Keeps what `at` leads into alive.
    root: Arc<Value>,
    at: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Name(String),
    Index(usize),
}

/// A number that a float or integer of the engine would change: it prints and passes through as it was sent.
#[derive(Debug)]
struct ExactNumber(Number);

impl Object for ExactNumber {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Json {
    pub(super) fn new(value: Value) -> Self {
        Self { root: Arc::new(value), at: Vec::new() }
    }

    pub(super) fn wrap(root: &Arc<Value>, value: &Value) -> Rendered {
        match value {
            Value::Object(_) | Value::Array(_) => {
                Rendered::from_object(Self { root: root.clone(), at: Vec::new() })
            }
            scalar => scalar_value(scalar),
        }
    }

    fn value(&self) -> Option<&Value> {
        self.at.iter().try_fold(&*self.root, |value, step| match step {
            Step::Name(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }

    fn child(&self, step: Step) -> Option<Rendered> {
        let value = match &step {
            Step::Name(name) => self.value()?.get(name)?,
            Step::Index(index) => self.value()?.get(index)?,
        };
        Some(match value {
            Value::Object(_) | Value::Array(_) => {
                let at = self.at.iter().cloned().chain([step]).collect();
                Rendered::from_object(Self { root: self.root.clone(), at })
            }
            scalar => scalar_value(scalar),
        })
    }
}

impl Object for Json {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.value().is_some_and(Value::is_array) { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Rendered) -> Option<Rendered> {
        match key.as_str() {
            Some(name) => self.child(Step::Name(name.to_owned())),
            None => self.child(Step::Index(key.as_usize()?)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Rendered> {
        self.child(Step::Name(key.to_owned()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.value() {
            Some(Value::Array(items)) => Enumerator::Seq(items.len()),
            Some(Value::Object(members)) => {
                Enumerator::Values(members.keys().map(|name| Rendered::from(name.as_str())).collect())
            }
            _ => Enumerator::Empty,
        }
    }
}

fn scalar_value(value: &Value) -> Rendered {
    match value {
        Value::Bool(value) => Rendered::from(*value),
        Value::String(text) => Rendered::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) if integer.to_string() == number.to_string() => Rendered::from(integer),
            (_, Some(float))
                if Number::from_f64(float).is_some_and(|same| same.to_string() == number.to_string()) =>
            {
                Rendered::from(float)
            }
            _ => Rendered::from_object(ExactNumber(number.clone())),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => Rendered::from(()),
    }
}

/// Back to JSON; `None` for what JSON can't hold (functions, bytes, too deep).
pub(super) fn to_json(value: &Rendered, depth: usize) -> Option<Value> {
    const DEPTH_MAX: usize = 100;
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(json) = value.downcast_object_ref::<Json>() {
        return json.value().cloned();
    }
    if let Some(number) = value.downcast_object_ref::<ExactNumber>() {
        return Some(Value::Number(number.0.clone()));
    }
    match value.kind() {
        ValueKind::None => Some(Value::Null),
        ValueKind::Bool => Some(Value::Bool(value.is_true())),
        ValueKind::Number => match i128::try_from(value.clone()) {
            Ok(integer) if value.is_integer() => Number::from_i128(integer).map(Value::Number),
            _ => f64::try_from(value.clone()).ok().and_then(Number::from_f64).map(Value::Number),
        },
        ValueKind::String => value.as_str().map(|text| Value::String(text.to_owned())),
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()
            .ok()?
            .map(|item| to_json(&item, depth + 1))
            .collect::<Option<_>>()
            .map(Value::Array),
        ValueKind::Map => {
            let member = |key: Rendered| {
                let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                Some((name, to_json(&value.get_item(&key).ok()?, depth + 1)?))
            };
            value.try_iter().ok()?.map(member).collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        _ => None,
    }
}
