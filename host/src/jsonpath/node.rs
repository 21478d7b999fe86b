//! The document that a JSONPath is evaluated over: nothing else here knows how it is held.

use std::cmp::Ordering;

use serde_json::Value;

use super::query::Step;
use crate::{
    budget::{Budget, Exhausted},
    number,
};

/// The child that a step leads to.
pub(super) fn child<'a>(step: &Step, node: &'a Value) -> Option<&'a Value> {
    match (step, node) {
        (Step::Name(name), Value::Object(members)) => members.get(name),
        (Step::Index(index), Value::Array(items)) => {
            let index = if *index < 0 { *index + i64::try_from(items.len()).ok()? } else { *index };
            items.get(usize::try_from(index).ok()?)
        }
        _ => None,
    }
}

/// The node that steps lead to, one after the other.
pub(super) fn walk<'a>(steps: &[Step], from: &'a Value) -> Option<&'a Value> {
    steps.iter().try_fold(from, |node, step| child(step, node))
}

/// The elements or members' values of a node, in order.
pub(super) enum Children<'a> {
    None,
    Items(std::slice::Iter<'a, Value>),
    Members(serde_json::map::Values<'a>),
}

pub(super) fn children(node: &Value) -> Children<'_> {
    match node {
        Value::Array(items) => Children::Items(items.iter()),
        Value::Object(members) => Children::Members(members.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Children::None,
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = &'a Value;

    fn next(&mut self) -> Option<&'a Value> {
        match self {
            Self::None => None,
            Self::Items(items) => items.next(),
            Self::Members(values) => values.next(),
        }
    }
}

pub(super) fn items(node: &Value) -> Option<&[Value]> {
    node.as_array().map(Vec::as_slice)
}

/// Of a string the number of its characters, of a list or an object that of its children.
pub(super) fn length(node: &Value, budget: &Budget) -> Result<Option<usize>, Exhausted> {
    Ok(match node {
        Value::String(text) => {
            budget.spend_steps(text_steps(text))?;
            Some(text.chars().count())
        }
        Value::Array(items) => Some(items.len()),
        Value::Object(members) => Some(members.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    })
}

/// Whether two nodes are equal: numbers by value, members in any order.
pub(super) fn equal(one: &Value, other: &Value, budget: &Budget) -> Result<bool, Exhausted> {
    budget.spend_steps(1)?;
    Ok(match (one, other) {
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {
            order(one, other, budget)? == Some(Ordering::Equal)
        }
        (Value::Array(one), Value::Array(other)) => {
            if one.len() != other.len() {
                return Ok(false);
            }
            for (one, other) in one.iter().zip(other) {
                if !equal(one, other, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Object(one), Value::Object(other)) => {
            if one.len() != other.len() {
                return Ok(false);
            }
            for (name, value) in one {
                match other.get(name) {
                    Some(other) if equal(value, other, budget)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        _ => one == other,
    })
}

/// How two numbers or two strings compare; nothing else has an order.
pub(super) fn order(one: &Value, other: &Value, budget: &Budget) -> Result<Option<Ordering>, Exhausted> {
    Ok(match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            budget.spend_steps(text_steps(one.as_str()).max(text_steps(other.as_str())))?;
            Some(number::compare(one, other))
        }
        // The order of UTF-8 is that of code points.
        (Value::String(one), Value::String(other)) => {
            budget.spend_steps(text_steps(one).min(text_steps(other)))?;
            Some(one.cmp(other))
        }
        _ => None,
    })
}

/// What reading a text costs.
pub(super) fn text_steps(text: &str) -> u64 {
    const BYTES_PER_STEP: u64 = 32;
    text.len() as u64 / BYTES_PER_STEP
}

/// Puts a value where the steps lead; whether there is such a place.
pub(super) fn set(steps: &[Step], payload: &mut Value, value: Value) -> bool {
    let Some((last, way)) = steps.split_last() else { return false };
    let parent = way.iter().try_fold(payload, |value, step| match (step, value) {
        (Step::Name(name), Value::Object(members)) => members.get_mut(name),
        (Step::Index(index), Value::Array(items)) => items.get_mut(usize::try_from(*index).ok()?),
        _ => None,
    });
    match (last, parent) {
        (Step::Name(name), Some(Value::Object(members))) => {
            members.insert(name.clone(), value);
            true
        }
        (Step::Index(index), Some(Value::Array(items))) => {
            match usize::try_from(*index).ok().and_then(|index| items.get_mut(index)) {
                Some(item) => {
                    *item = value;
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}
