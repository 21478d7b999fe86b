//! The syntax tree of a JSONPath, with the types of RFC 9535, 2.4.1 built in: what is not well-typed has no tree.

use serde_json::Value;

use super::pattern::Pattern;

#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// `..`: of the node and all its descendants.
    pub(super) descends: bool,
    pub(super) selectors: Vec<Selector>,
}

#[derive(Clone, Debug)]
pub(super) enum Selector {
    Step(Step),
    Wildcard,
    Slice(Slice),
    Filter(Logical),
}

/// A selector of at most one child.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Name(String),
    /// Counted from the end when negative.
    Index(i64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
    pub(super) step: i64,
}

/// What a filter holds or not for a node.
#[derive(Clone, Debug)]
pub(super) enum Logical {
    Any(Vec<Logical>),
    All(Vec<Logical>),
    Not(Box<Logical>),
    Exists(Nodes),
    Compare(Comparable, Comparison, Comparable),
    /// `match` and `search`.
    Matches(Comparable, Pattern),
}

/// Where a query of a filter begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `$`
    Root,
    /// `@`
    Current,
}

/// A query of a filter: any number of nodes.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    pub(super) origin: Origin,
    pub(super) segments: Vec<Segment>,
}

/// A value, or nothing.
#[derive(Clone, Debug)]
pub(super) enum Comparable {
    Literal(Value),
    Singular(Origin, Vec<Step>),
    Length(Box<Comparable>),
    Count(Nodes),
    /// `value()`: of the only node.
    ValueOf(Nodes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The steps of segments that select one node at most.
pub(super) fn singular(segments: &[Segment]) -> Option<Vec<Step>> {
    let step = |segment: &Segment| match (segment.descends, segment.selectors.as_slice()) {
        (false, [Selector::Step(step)]) => Some(step.clone()),
        _ => None,
    };
    segments.iter().map(step).collect()
}
