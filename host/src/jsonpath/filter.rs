//! Filters: whether a node is selected.

use std::{borrow::Cow, cmp::Ordering};

use serde_json::{Number, Value};

use super::{
    evaluate::{Context, Stop},
    node,
    query::{Comparable, Comparison, Logical, Nodes, Origin, Step},
};
use crate::budget::Exhausted;

impl<'a> Context<'a, '_> {
    /// Whether a filter holds for `current`, the `@` of it.
    pub(super) fn holds(&self, logical: &Logical, current: &'a Value) -> Result<bool, Exhausted> {
        self.budget.spend_steps(1)?;
        match logical {
            Logical::Any(of) => {
                for logical in of {
                    if self.holds(logical, current)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Logical::All(of) => {
                for logical in of {
                    if !self.holds(logical, current)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Logical::Not(logical) => Ok(!self.holds(logical, current)?),
            Logical::Exists(nodes) => Ok(self.first(nodes, current, 1)?.0 > 0),
            Logical::Compare(one, comparison, other) => {
                let (one, other) = (self.value(one, current)?, self.value(other, current)?);
                self.compares(one.as_deref(), *comparison, other.as_deref())
            }
            Logical::Matches(text, pattern) => {
                let Some(text) = self.value(text, current)? else { return Ok(false) };
                let Some(text) = text.as_str() else { return Ok(false) };
                let given = |comparable: &Comparable| {
                    let value = self.value(comparable, current)?;
                    Ok(value.and_then(|value| value.as_str().map(str::to_owned)))
                };
                pattern.matches(text, given, &self.given, self.budget)
            }
        }
    }

    /// A value, or nothing.
    fn value<'q>(
        &self,
        comparable: &'q Comparable,
        current: &'a Value,
    ) -> Result<Option<Cow<'q, Value>>, Exhausted>
    where
        'a: 'q,
    {
        let counted = |count: usize| Some(Cow::Owned(Value::Number(Number::from(count))));
        Ok(match comparable {
            Comparable::Literal(value) => Some(Cow::Borrowed(value)),
            Comparable::Singular(origin, steps) => {
                self.walk(steps, self.origin(*origin, current))?.map(Cow::Borrowed)
            }
            Comparable::Length(of) => match self.value(of, current)? {
                Some(value) => node::length(&value, self.budget)?.and_then(counted),
                None => None,
            },
            Comparable::Count(nodes) => counted(self.first(nodes, current, usize::MAX)?.0),
            Comparable::ValueOf(nodes) => match self.first(nodes, current, 2)? {
                (1, node) => node.map(Cow::Borrowed),
                _ => None,
            },
        })
    }

    fn walk(&self, steps: &[Step], from: &'a Value) -> Result<Option<&'a Value>, Exhausted> {
        self.budget.spend_steps(steps.len() as u64)?;
        Ok(node::walk(steps, from))
    }

    const fn origin(&self, origin: Origin, current: &'a Value) -> &'a Value {
        match origin {
            Origin::Root => self.root,
            Origin::Current => current,
        }
    }

    /// How many nodes there are, counted up to `most`, and the last one counted.
    fn first(
        &self,
        nodes: &Nodes,
        current: &'a Value,
        most: usize,
    ) -> Result<(usize, Option<&'a Value>), Exhausted> {
        let mut found = (0, None);
        self.for_each(&nodes.segments, self.origin(nodes.origin, current), |node| {
            found = (found.0 + 1, Some(node));
            if found.0 < most { Ok(()) } else { Err(Stop::Enough) }
        })?;
        Ok(found)
    }

    /// RFC 9535, 2.3.5.2.2.
    fn compares(
        &self,
        one: Option<&Value>,
        comparison: Comparison,
        other: Option<&Value>,
    ) -> Result<bool, Exhausted> {
        let equal = || match (one, other) {
            (Some(one), Some(other)) => node::equal(one, other, self.budget),
            (one, other) => Ok(one.is_none() && other.is_none()),
        };
        let ordered = |expected: Ordering| match (one, other) {
            (Some(one), Some(other)) => Ok(node::order(one, other, self.budget)? == Some(expected)),
            _ => Ok(false),
        };
        match comparison {
            Comparison::Equal => equal(),
            Comparison::NotEqual => Ok(!equal()?),
            Comparison::Less => ordered(Ordering::Less),
            Comparison::Greater => ordered(Ordering::Greater),
            Comparison::LessOrEqual => Ok(ordered(Ordering::Less)? || equal()?),
            Comparison::GreaterOrEqual => Ok(ordered(Ordering::Greater)? || equal()?),
        }
    }
}
