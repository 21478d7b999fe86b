//! JSONPath (RFC 9535): parsed when a pack loads, evaluated within the budget of a request.

mod evaluate;
mod filter;
mod node;
mod parse;
mod pattern;
mod query;

use serde_json::Value;

use self::query::{Segment, Step};
use crate::budget::{Budget, Exhausted};

/// A JSONPath, ready to run.
#[derive(Clone, Debug)]
pub struct JsonPath {
    text: String,
    query: Query,
}

/// A path to one value is walked without an allocation; every other one is evaluated segment by segment.
#[derive(Clone, Debug)]
enum Query {
    Singular(Vec<Step>),
    Segments(Vec<Segment>),
}

const TEXT_BYTES_MAX: usize = 1000;

impl JsonPath {
    /// Reads a JSONPath; the error is for the author of a pack and names the character where reading ended.
    pub fn parse(text: &str) -> Result<Self, String> {
        let clipped = || text.chars().take(80).collect::<String>();
        if !text.starts_with('$') {
            return Err(format!("`{}` is not a JSONPath: it begins with `$`, the payload", clipped()));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("`{}…` is longer than {TEXT_BYTES_MAX} bytes", clipped()));
        }
        let segments = parse::query(text).map_err(|error| {
            format!("`{text}` is not a JSONPath: at character {}: {}", error.character, error.message)
        })?;
        let query = match query::singular(&segments) {
            Some(steps) => Query::Singular(steps),
            None => Query::Segments(segments),
        };
        Ok(Self { text: text.to_owned(), query })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can only ever select one value.
    pub fn is_singular(&self) -> bool {
        matches!(self.query, Query::Singular(_))
    }

    /// The one value of a singular path.
    pub fn value<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        match &self.query {
            Query::Singular(steps) => node::walk(steps, payload),
            Query::Segments(_) => None,
        }
    }

    /// Everything that it selects, in order.
    pub fn all<'a>(&self, payload: &'a Value, budget: &Budget) -> Result<Vec<&'a Value>, Exhausted> {
        match &self.query {
            Query::Singular(steps) => Ok(node::walk(steps, payload).into_iter().collect()),
            Query::Segments(segments) => evaluate::select(segments, payload, budget),
        }
    }

    /// Puts a value in the place of the one that is there, or beside its siblings; whether there was a place.
    pub fn set(&self, payload: &mut Value, value: Value) -> bool {
        match &self.query {
            Query::Singular(steps) => node::set(steps, payload, value),
            Query::Segments(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
