//! What a case expects, against what came.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::{
    json::same,
    model::Outcome,
    pack::cases::{Expect, ExpectedEvent},
};

/// What became of one request, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) outcome: Option<Outcome>,
    pub(super) detail: Option<String>,
    pub(super) events: Vec<GotEvent>,
    /// The answer's body, where it is known.
    pub(super) body: Option<String>,
    /// What its mappers used, where it is counted.
    pub(super) fuel: Option<u64>,
}

#[derive(Debug)]
pub(super) struct GotEvent {
    pub(super) trigger: String,
    pub(super) payload: Value,
    pub(super) key: Option<String>,
}

/// One thing that came out otherwise.
#[derive(Clone, Debug)]
pub(super) enum Difference {
    Line(String),
    /// Two documents; where they differ, a line a member.
    Payload {
        at: String,
        members: Vec<String>,
        expected: Value,
        got: Value,
    },
}

/// In a line, for who has room for no more.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::Payload { members, .. } => f.write_str(&members.join("; ")),
        }
    }
}

impl Difference {
    /// Every line of it, as a script reads them.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Line(line) => vec![line.clone()],
            Self::Payload { members, .. } => members.clone(),
        }
    }

    /// For people: documents side by side, what is missing in red, what is too much in green.
    pub(super) fn shown(&self) -> Vec<String> {
        let Self::Payload { at, expected, got, .. } = self else { return self.lines() };
        let pretty = |value: &Value| format!("{value:#}\n");
        let (expected, got) = (pretty(expected), pretty(got));
        let diff = TextDiff::from_lines(&expected, &got);
        let mut lines = vec![format!("{at}: - expected, + got")];
        for (number, group) in diff.grouped_ops(2).iter().enumerate() {
            if number > 0 {
                lines.push("  …".to_owned());
            }
            for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
                let (sign, style) = match change.tag() {
                    ChangeTag::Delete => ('-', AnsiColor::Red.on_default()),
                    ChangeTag::Insert => ('+', AnsiColor::Green.on_default()),
                    ChangeTag::Equal => (' ', Style::new()),
                };
                lines.push(format!("{style}{sign} {}{style:#}", change.value().trim_end()));
            }
        }
        lines
    }
}

/// Every difference; none when all is as expected.
pub(super) fn differences(expect: &Expect, got: &Got) -> Vec<Difference> {
    let mut told = Vec::new();
    let mut lines = Vec::new();
    outer_differences(expect, got, &mut lines);
    told.extend(lines.into_iter().map(Difference::Line));
    if let Some(expected) = &expect.events {
        for (index, (expected, event)) in expected.iter().zip(&got.events).enumerate() {
            event_differences(index, expected, event, &mut told);
        }
    }
    if !told.is_empty() {
        // Whatever differs, the reason is what one wants to read next.
        told.extend(got.detail.as_ref().map(|detail| Difference::Line(format!("reason: {detail}"))));
    }
    told
}

/// Everything but what is in the events.
fn outer_differences(expect: &Expect, got: &Got, told: &mut Vec<String>) {
    if expect.status != got.status {
        told.push(format!("status: expected {}, got {}", expect.status, got.status));
    }
    if let (Some(expected), Some(outcome)) = (expect.outcome, got.outcome)
        && expected != outcome
    {
        told.push(format!("outcome: expected {expected}, got {outcome}"));
    }
    if let Some(text) = &expect.detail {
        let detail = got.detail.as_deref().unwrap_or_default();
        if !detail.contains(text.as_str()) {
            told.push(format!("detail: expected it to contain `{text}`, got `{detail}`"));
        }
    }
    if let (Some(expected), Some(body)) = (&expect.body, &got.body)
        && expected != body
    {
        told.push(format!("body: expected `{expected}`, got `{body}`"));
    }
    if let (Some(most), Some(fuel)) = (expect.fuel_max, got.fuel)
        && fuel > most
    {
        told.push(format!("fuel: expected {most} at most, got {fuel}"));
    }
    if let Some(expected) = &expect.events
        && expected.len() != got.events.len()
    {
        told.push(format!("events: expected {}, got {}", expected.len(), got.events.len()));
    }
}

fn event_differences(index: usize, expected: &ExpectedEvent, event: &GotEvent, told: &mut Vec<Difference>) {
    if let Some(trigger) = &expected.trigger
        && *trigger != event.trigger
    {
        let line = format!("event {index}: expected trigger {trigger}, got {}", event.trigger);
        told.push(Difference::Line(line));
    }
    if let Some(key) = &expected.key
        && Some(key) != event.key.as_ref()
    {
        let got = event.key.as_deref().unwrap_or("none");
        told.push(Difference::Line(format!("event {index}: expected key {key}, got {got}")));
    }
    let at = format!("event {index}: payload");
    let members = |expected: &Value, whole: bool| {
        let mut members = Vec::new();
        value_differences(&at, expected, &event.payload, whole, &mut members);
        members
    };
    if let Some(part) = &expected.includes {
        told.extend(members(part, false).into_iter().map(Difference::Line));
    }
    if let Some(payload) = &expected.payload {
        let members = members(payload, true);
        if !members.is_empty() {
            let (expected, got) = (payload.clone(), event.payload.clone());
            told.push(Difference::Payload { at, members, expected, got });
        }
    }
}

/// Differences member by member; with `whole`, members that nobody expected are one too.
fn value_differences(at: &str, expected: &Value, got: &Value, whole: bool, told: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (name, value) in expected {
                match got.get(name) {
                    Some(other) => value_differences(&format!("{at}/{name}"), value, other, whole, told),
                    None => told.push(format!("{at}/{name}: expected {value}, got nothing")),
                }
            }
            if whole {
                let more = got.iter().filter(|(name, _)| !expected.contains_key(*name));
                told.extend(more.map(|(name, value)| format!("{at}/{name}: expected nothing, got {value}")));
            }
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
            for (index, (value, other)) in expected.iter().zip(got).enumerate() {
                value_differences(&format!("{at}/{index}"), value, other, whole, told);
            }
        }
        _ if same(expected, got) => {}
        _ => told.push(format!("{at}: expected {expected}, got {got}")),
    }
}
