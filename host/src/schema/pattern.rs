//! The keyword `pattern`: an engine of linear time, and a price by what an expression can cost for each byte.

use std::{
    collections::HashMap,
    panic::catch_unwind,
    sync::{Arc, Mutex, PoisonError},
};

use jsonschema::{Keyword, ValidationError, json::Node as _};
use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

use super::metered::{Metered, Seen};
use crate::meter::spend;

/// Expressions by their text: those of one pack are compiled once, however often they are written.
#[derive(Clone, Debug)]
pub struct Patterns {
    known: Arc<Mutex<Known>>,
    limits: PatternLimits,
}

#[derive(Debug, Default)]
struct Known {
    /// States by text.
    measured: HashMap<String, usize>,
    compiled: HashMap<String, Arc<Pattern>>,
    /// Of all that are measured.
    states: usize,
    /// The most states that one member's name is compared with.
    name_states: usize,
}

/// What the expressions of one pack may cost.
#[derive(Clone, Copy, Debug)]
pub struct PatternLimits {
    /// Of one, compiled, in bytes.
    pub bytes_max: usize,
    /// Of all together: states, see `Pattern::states`.
    pub states_max: usize,
}

#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    regex: Regex,
    /// About the states of its automaton: what one byte of a value can cost at worst.
    states: usize,
}

/// Why an expression can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not an expression, or not one of linear time and bounded space.
    Invalid,
    /// The pack's expressions together are too large.
    TooMany,
}

/// What one automaton may keep of what it has seen, in bytes.
pub(super) const CACHE_BYTES_MAX: usize = 256 << 10;
/// States times bytes that count as one step.
pub(super) const WORK_PER_STEP: usize = 64;

impl Patterns {
    pub fn new(limits: PatternLimits) -> Self {
        Self { known: Arc::default(), limits }
    }

    pub(super) fn limits(&self) -> PatternLimits {
        self.limits
    }

    /// Whether an expression can be used as a `pattern`.
    pub fn check(&self, text: &str) -> Result<(), Unusable> {
        self.compiled(text).map(drop)
    }

    /// Whether an expression can be used on the names of members, where the library compiles it.
    pub fn check_name(&self, text: &str) -> Result<(), Unusable> {
        let (expression, _) = self.measured(text)?;
        self.built(&expression).map(drop)
    }

    /// Takes note of expressions that each name is compared with, one after the other.
    pub fn note_names(&self, texts: &[&str]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let states = texts.iter().filter_map(|text| known.measured.get(*text)).sum();
        known.name_states = known.name_states.max(states);
    }

    /// The most states that the name of a member is compared with in any schema so far.
    pub(super) fn name_states(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).name_states
    }

    pub(super) fn compiled(&self, text: &str) -> Result<Arc<Pattern>, Unusable> {
        if let Some(pattern) = self.known.lock().unwrap_or_else(PoisonError::into_inner).compiled.get(text) {
            return Ok(pattern.clone());
        }
        let (expression, states) = self.measured(text)?;
        let regex = self.built(&expression)?;
        let pattern = Arc::new(Pattern { text: text.to_owned(), regex, states });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.compiled.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
    }

    /// The expression as the engine writes it, and its states: before it is compiled, for that takes memory and time.
    fn measured(&self, text: &str) -> Result<(String, usize), Unusable> {
        let expression = jsonschema_regex::to_rust_regex(text).map_err(|()| Unusable::Invalid)?;
        let parsed = ParserBuilder::new().build().parse(&expression).map_err(|_| Unusable::Invalid)?;
        let states = states(&parsed).saturating_add(STATES_OF_ANY);
        if states > self.limits.bytes_max / BYTES_PER_STATE {
            return Err(Unusable::Invalid);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.measured.insert(text.to_owned(), states).is_none() {
            known.states = known.states.saturating_add(states);
        }
        if known.states > self.limits.states_max {
            Err(Unusable::TooMany)
        } else {
            Ok((expression.into_owned(), states))
        }
    }

    fn built(&self, expression: &str) -> Result<Regex, Unusable> {
        RegexBuilder::new(expression)
            .size_limit(self.limits.bytes_max)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()
            .map_err(|_| Unusable::Invalid)
    }
}

/// What any expression takes, however short.
const STATES_OF_ANY: usize = 20;
/// A state takes at least so many bytes when it is compiled.
const BYTES_PER_STATE: usize = 8;

/// About how many states an expression has.
fn states(expression: &Hir) -> usize {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        // Characters of several bytes are several states, ranges share some of them.
        HirKind::Class(Class::Unicode(class)) => 1 + class.ranges().len(),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1) as usize;
            states(&repetition.sub).saturating_mul(times).saturating_add(1)
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(several) | HirKind::Alternation(several) => {
            several.iter().map(states).fold(1, usize::saturating_add)
        }
    }
}

impl Pattern {
    /// `true`, too, for what is no text, and when there are no steps for looking.
    fn fits(&self, value: Seen<'_>) -> bool {
        let Some(text) = value.as_string() else { return true };
        let work = text.len().saturating_mul(self.states) / WORK_PER_STEP;
        // The engine panics on some expressions (rust-lang/regex#1344): what can't be told doesn't match.
        !spend(work as u64) || catch_unwind(|| self.regex.is_match(&text)).unwrap_or(false)
    }
}

/// The keyword with one expression.
pub(super) struct Matches(pub(super) Arc<Pattern>);

impl<'i> Keyword<'i, Metered> for Matches {
    fn validate(&self, value: Seen<'i>) -> Result<(), ValidationError<'i>> {
        if self.0.fits(value) {
            return Ok(());
        }
        // As the library says it, without the value: the sender knows it, and the log must not.
        Err(ValidationError::custom(format!("value does not match \"{}\"", self.0.text)))
    }

    fn is_valid(&self, value: Seen<'i>) -> bool {
        self.0.fits(value)
    }
}
