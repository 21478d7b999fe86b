//! Documents on their way into the template engine and back, with their numbers as they were sent.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{
    Value as Rendered,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};
use serde_json::{Map, Number, Value};

use crate::meter::{enter, of_text, spend, spend_bytes};

/// A member of the payload as the template engine sees it: looked at in place, copied only when it is used.
#[derive(Debug)]
pub(super) struct Json {
    /// Keeps what `at` leads into alive.
    root: Arc<Root>,
    at: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Root {
    pub(super) value: Value,
    /// Long texts as the engine has them, by their address: each is copied once, however often it is used.
    texts: Mutex<HashMap<usize, Rendered>>,
}

#[derive(Clone, Debug)]
enum Step {
    Name(Arc<str>),
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
        Self { root: Root::new(value), at: Vec::new() }
    }

    pub(super) fn wrap(root: &Arc<Root>) -> Rendered {
        match &root.value {
            Value::Object(_) | Value::Array(_) => {
                Rendered::from_object(Self { root: root.clone(), at: Vec::new() })
            }
            scalar => root.scalar(scalar),
        }
    }

    fn value(&self) -> Option<&Value> {
        self.at.iter().try_fold(&self.root.value, |value, step| match step {
            Step::Name(name) => value.get(&**name),
            Step::Index(index) => value.get(index),
        })
    }

    fn child(&self, step: Step) -> Option<Rendered> {
        // Each child keeps the way to it.
        if !spend(1 + self.at.len() as u64) {
            return None;
        }
        let value = match &step {
            Step::Name(name) => self.value()?.get(&**name)?,
            Step::Index(index) => self.value()?.get(index)?,
        };
        Some(match value {
            Value::Object(_) | Value::Array(_) => {
                let at = self.at.iter().cloned().chain([step]).collect();
                Rendered::from_object(Self { root: self.root.clone(), at })
            }
            scalar => self.root.scalar(scalar),
        })
    }
}

impl Object for Json {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.value().is_some_and(Value::is_array) { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Rendered) -> Option<Rendered> {
        match key.as_str() {
            Some(name) => self.get_value_by_str(name),
            None => self.child(Step::Index(key.as_usize()?)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Rendered> {
        spend(of_text(key.len())).then(|| self.child(Step::Name(key.into()))).flatten()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.value() {
            Some(Value::Array(items)) => Enumerator::Seq(items.len()),
            Some(Value::Object(members))
                if members.keys().all(|name| spend_bytes(name.len() + NAME_BYTES)) =>
            {
                Enumerator::Values(members.keys().map(|name| Rendered::from(name.as_str())).collect())
            }
            _ => Enumerator::Empty,
        }
    }
}

/// What a name takes beside its text.
const NAME_BYTES: usize = 48;

impl Root {
    pub(super) fn new(value: Value) -> Arc<Self> {
        Arc::new(Self { value, texts: Mutex::default() })
    }

    fn scalar(&self, value: &Value) -> Rendered {
        match value {
            Value::Bool(value) => Rendered::from(*value),
            Value::String(text) => self.text(text),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) if integer.to_string() == number.to_string() => Rendered::from(integer),
                (_, Some(float))
                    if Number::from_f64(float).is_some_and(|same| same.to_string() == number.to_string()) =>
                {
                    Rendered::from(float)
                }
                _ if spend_bytes(number.as_str().len()) => Rendered::from_object(ExactNumber(number.clone())),
                _ => Rendered::UNDEFINED,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => Rendered::from(()),
        }
    }

    fn text(&self, text: &str) -> Rendered {
        const LONG: usize = 256;
        if text.len() < LONG {
            return if spend_bytes(text.len()) { Rendered::from(text) } else { Rendered::UNDEFINED };
        }
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = texts.get(&text.as_ptr().addr()) {
            return known.clone();
        }
        if !spend_bytes(text.len()) {
            return Rendered::UNDEFINED;
        }
        let made = Rendered::from(text);
        texts.insert(text.as_ptr().addr(), made.clone());
        made
    }
}

/// How many bytes a value of ours is at most when it is written: `None` for the engine's own, `Some(None)` when there
/// are no steps left for looking.
#[allow(clippy::option_option, reason = "two questions: whose value, and is it known")]
pub(super) fn measure(value: &Rendered) -> Option<Option<usize>> {
    if let Some(json) = value.downcast_object_ref::<Json>() {
        return Some(json.value().map_or(Some(0), |value| written(value, QUOTED_FACTOR)));
    }
    let number = value.downcast_object_ref::<ExactNumber>()?;
    Some(spend(1).then(|| number.0.as_str().len()))
}

/// Control characters are written out when a value becomes a text.
const QUOTED_FACTOR: usize = 6;

/// A copy of a member, once it is paid for.
pub(super) fn copied(value: &Value) -> Option<Value> {
    spend_bytes(written(value, 1)?).then(|| value.clone())
}

/// How many bytes a value is at most, its texts counted so many times.
fn written(value: &Value, factor: usize) -> Option<usize> {
    let text = |text: &str| spend(of_text(text.len())).then(|| 2 + text.len().saturating_mul(factor));
    match value {
        Value::Null | Value::Bool(_) => spend(1).then_some(5),
        Value::Number(number) => spend(1).then(|| number.as_str().len()),
        Value::String(string) => text(string),
        Value::Array(items) => {
            enter().then_some(())?;
            items
                .iter()
                .try_fold(2_usize, |bytes, item| Some(bytes.saturating_add(written(item, factor)? + 2)))
        }
        Value::Object(members) => {
            enter().then_some(())?;
            members.iter().try_fold(2_usize, |bytes, (name, member)| {
                Some(bytes.saturating_add(text(name)?).saturating_add(written(member, factor)? + 4))
            })
        }
    }
}

/// Back to JSON; `None` for what JSON can't hold (functions, bytes, too deep).
pub(super) fn to_json(value: &Rendered, depth: usize) -> Option<Value> {
    const DEPTH_MAX: usize = 100;
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(json) = value.downcast_object_ref::<Json>() {
        let json = json.value()?;
        return copied(json);
    }
    spend(1).then_some(())?;
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
        ValueKind::String => {
            value.as_str().filter(|text| spend_bytes(text.len())).map(|text| Value::String(text.to_owned()))
        }
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
