//! Evaluation: node by node, depth first. No list of nodes is made but that of the result, and the order is that of
//! RFC 9535 all the same: what a segment selects from one node stands before what it selects from the next.

use serde_json::Value;

use super::{
    node,
    pattern::Given,
    query::{Segment, Selector, Slice},
};
use crate::budget::{Budget, Exhausted};

/// What holds for the whole of one evaluation.
pub(super) struct Context<'a, 'b> {
    pub(super) root: &'a Value,
    pub(super) budget: &'b Budget,
    pub(super) given: Given,
}

/// Why an evaluation ends before its last node.
pub(super) enum Stop {
    Exhausted(Exhausted),
    /// The caller has seen enough.
    Enough,
}

/// What is done with each selected node.
type Sink<'a, 's> = &'s mut dyn FnMut(&'a Value) -> Result<(), Stop>;

/// Every node that the segments select.
pub(super) fn select<'a>(
    segments: &[Segment],
    root: &'a Value,
    budget: &Budget,
) -> Result<Vec<&'a Value>, Exhausted> {
    let context = Context { root, budget, given: Given::default() };
    let mut found = Vec::new();
    context.for_each(segments, root, |node| {
        budget.spend_bytes(size_of::<&Value>())?;
        found.push(node);
        Ok(())
    })?;
    Ok(found)
}

impl<'a> Context<'a, '_> {
    /// Hands every selected node to `sink`, in order, until it has enough.
    pub(super) fn for_each(
        &self,
        segments: &[Segment],
        from: &'a Value,
        mut sink: impl FnMut(&'a Value) -> Result<(), Stop>,
    ) -> Result<(), Exhausted> {
        match self.visit(segments, from, &mut sink) {
            Ok(()) | Err(Stop::Enough) => Ok(()),
            Err(Stop::Exhausted(exhausted)) => Err(exhausted),
        }
    }

    /// As deep as the document, which its parser bounds: each segment leads to a child at least.
    fn visit(&self, mut segments: &[Segment], mut from: &'a Value, sink: Sink<'a, '_>) -> Result<(), Stop> {
        while let Some((segment, rest)) = segments.split_first() {
            self.budget.spend_steps(1)?;
            if segment.descends {
                return self.descend(segment, rest, from, sink);
            }
            let [Selector::Step(step)] = segment.selectors.as_slice() else {
                return self.children(segment, rest, from, sink);
            };
            match node::child(step, from) {
                Some(child) => (segments, from) = (rest, child),
                None => return Ok(()),
            }
        }
        sink(from)
    }

    /// Of the node and then of its descendants, parents before children.
    fn descend(
        &self,
        segment: &Segment,
        rest: &[Segment],
        from: &'a Value,
        sink: Sink<'a, '_>,
    ) -> Result<(), Stop> {
        self.children(segment, rest, from, sink)?;
        let mut open = vec![node::children(from)];
        while let Some(children) = open.last_mut() {
            let Some(child) = children.next() else {
                open.pop();
                continue;
            };
            self.budget.spend_steps(1)?;
            self.children(segment, rest, child, sink)?;
            open.push(node::children(child));
        }
        Ok(())
    }

    /// Of one node, selector by selector.
    fn children(
        &self,
        segment: &Segment,
        rest: &[Segment],
        from: &'a Value,
        sink: Sink<'a, '_>,
    ) -> Result<(), Stop> {
        for selector in &segment.selectors {
            match selector {
                Selector::Step(step) => {
                    self.budget.spend_steps(1)?;
                    if let Some(child) = node::child(step, from) {
                        self.visit(rest, child, sink)?;
                    }
                }
                Selector::Wildcard => {
                    for child in node::children(from) {
                        self.budget.spend_steps(1)?;
                        self.visit(rest, child, sink)?;
                    }
                }
                Selector::Slice(slice) => {
                    let items = node::items(from).unwrap_or_default();
                    for item in slice.indices(items.len()).filter_map(|index| items.get(index)) {
                        self.budget.spend_steps(1)?;
                        self.visit(rest, item, sink)?;
                    }
                }
                Selector::Filter(logical) => {
                    for child in node::children(from) {
                        if self.holds(logical, child)? {
                            self.visit(rest, child, sink)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Slice {
    /// RFC 9535, 2.3.4.2.2.
    fn indices(self, length: usize) -> impl Iterator<Item = usize> {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let normal = |index: i64| if index < 0 { length + index } else { index };
        let (from, to) = if self.step < 0 {
            let from = self.start.map_or(length - 1, normal).clamp(-1, length - 1);
            (from, self.end.map_or(-1, normal).clamp(-1, length - 1))
        } else {
            let from = self.start.map_or(0, normal).clamp(0, length);
            (from, self.end.map_or(length, normal).clamp(0, length))
        };
        let step = self.step;
        let mut next = Some(from).filter(|_| step != 0);
        std::iter::from_fn(move || {
            let index = next.filter(|index| if step < 0 { *index > to } else { *index < to })?;
            next = index.checked_add(step);
            usize::try_from(index).ok()
        })
    }
}

impl From<Exhausted> for Stop {
    fn from(exhausted: Exhausted) -> Self {
        Self::Exhausted(exhausted)
    }
}
