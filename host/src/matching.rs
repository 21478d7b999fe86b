//! `match`: which requests a trigger is for.

use serde_json::Value;

use crate::{
    budget::{Budget, Exhausted},
    constant::Constant,
    schema::Schema,
    selector::{Selected, Selector, Subject},
};

/// Every line must hold.
#[derive(Clone, Debug, Default)]
pub struct Match(pub Vec<Line>);

#[derive(Clone, Debug)]
pub struct Line {
    /// As the pack writes it, for the request log.
    pub text: String,
    pub selector: Selector,
    pub condition: Condition,
}

#[derive(Clone, Debug)]
pub enum Condition {
    Equals(Constant),
    AnyOf(Vec<Constant>),
    Satisfies(Schema),
}

impl Match {
    /// The first line that does not hold, if any.
    pub fn first_unmet(&self, subject: Subject<'_>) -> Result<Option<&Line>, Exhausted> {
        for line in &self.0 {
            if !line.holds(subject)? {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

impl Line {
    fn holds(&self, subject: Subject<'_>) -> Result<bool, Exhausted> {
        match self.selector.select(subject)? {
            Selected::Nothing => Ok(false),
            Selected::One(value) => self.condition.holds(&value, subject.budget),
            Selected::Many(values) => {
                for value in values {
                    if self.condition.holds(value, subject.budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Condition {
    fn holds(&self, value: &Value, budget: &Budget) -> Result<bool, Exhausted> {
        match self {
            Self::Equals(expected) => Ok(expected.equals(value)),
            Self::AnyOf(expected) => Ok(expected.iter().any(|expected| expected.equals(value))),
            Self::Satisfies(schema) => schema.accepts(value, budget),
        }
    }
}
