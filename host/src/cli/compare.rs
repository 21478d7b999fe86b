//! What a case expects, against what came.

use serde_json::Value;

use crate::{
    matching::same,
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
}

#[derive(Debug)]
pub(super) struct GotEvent {
    pub(super) trigger: String,
    pub(super) payload: Value,
    pub(super) key: Option<String>,
}

/// Every difference, a line each; none when all is as expected.
pub(super) fn differences(expect: &Expect, got: &Got) -> Vec<String> {
    let mut told = Vec::new();
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
    if let Some(expected) = &expect.events {
        if expected.len() != got.events.len() {
            told.push(format!("events: expected {}, got {}", expected.len(), got.events.len()));
        }
        for (index, (expected, event)) in expected.iter().zip(&got.events).enumerate() {
            event_differences(index, expected, event, &mut told);
        }
    }
    if told.is_empty() {
        return told;
    }
    // Whatever differs, the reason is what one wants to read next.
    told.extend(got.detail.as_ref().map(|detail| format!("reason: {detail}")));
    told
}

fn event_differences(index: usize, expected: &ExpectedEvent, event: &GotEvent, told: &mut Vec<String>) {
    if let Some(trigger) = &expected.trigger
        && *trigger != event.trigger
    {
        told.push(format!("event {index}: expected trigger {trigger}, got {}", event.trigger));
    }
    if let Some(key) = &expected.key
        && Some(key) != event.key.as_ref()
    {
        told.push(format!(
            "event {index}: expected key {key}, got {}",
            event.key.as_deref().unwrap_or("none")
        ));
    }
    if let Some(payload) = &expected.payload {
        value_differences(&format!("event {index}: payload"), payload, &event.payload, true, told);
    }
    if let Some(part) = &expected.includes {
        value_differences(&format!("event {index}: payload"), part, &event.payload, false, told);
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
