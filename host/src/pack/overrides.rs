//! What an operator wants otherwise than a pack: read like the pack itself, with one more layer on top.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{
    Declared, Pack, Trigger,
    diagnostics::{Report, Source},
    load::refuse_challenges,
    read_policy,
    yaml::{self, Node},
};
use crate::{config::Config, policy::Policy};

/// A pack with its operator's word on top.
#[derive(Debug)]
pub struct Overridden {
    pub pack: Arc<Pack>,
    /// Owners whose override does not fit what the pack says now, and why. They keep what the pack says.
    pub faults: Vec<(String, Report)>,
}

/// Where the value of each key of `webhook` comes from, and what it is as written.
pub type Sources = BTreeMap<&'static str, (&'static str, Option<Value>)>;

/// Puts overrides on a pack; `of` gives the one of a ref, a JSON object of keys of `webhook`.
pub fn apply<'a>(pack: &Arc<Pack>, of: impl Fn(&str) -> Option<&'a str>) -> Overridden {
    let mut faults = Vec::new();
    let mut own = (**pack).clone();
    let mut policy = (*own.policy).clone();
    if let Some(text) = of(&pack.reference) {
        match read(text, &pack.reference, None, &pack.declared) {
            Ok(wanted) => policy = wanted,
            Err(report) => faults.push((pack.reference.clone(), report)),
        }
    }
    let with_override = |trigger: &Arc<Trigger>| {
        let mut trigger = (**trigger).clone();
        if let Some(text) = of(&trigger.reference) {
            match read(text, &trigger.reference, Some(&trigger.declared), &pack.declared) {
                Ok(wanted) => trigger.policy = Arc::new(wanted),
                Err(report) => faults.push((trigger.reference.clone(), report)),
            }
        }
        trigger
    };
    let mut triggers: Vec<_> = pack.triggers.iter().map(with_override).collect();
    refuse_challenges(&mut policy, triggers.iter_mut());
    own.policy = Arc::new(policy);
    own.triggers = triggers.into_iter().map(Arc::new).collect();
    Overridden { pack: Arc::new(own), faults }
}

/// Whether this key of `webhook` may be overridden: whether an endpoint receives at all is said otherwise.
pub fn is_key(key: &str) -> bool {
    key != "enabled" && read_policy::KEYS.contains(&key)
}

/// Whether a trigger (or, without one, the pack's own endpoint) could run with this override.
pub fn check(text: &str, trigger: Option<&Trigger>, pack: &Pack) -> Result<(), Report> {
    let owner_ref = trigger.map_or(&pack.reference, |trigger| &trigger.reference);
    read(text, owner_ref, trigger.map(|trigger| &trigger.declared), &pack.declared).map(drop)
}

/// Where every value comes from; without the override, `None`, what the pack says by itself.
pub fn sources(text: Option<&str>, trigger: Option<&Trigger>, pack: &Pack) -> Sources {
    let operator = text.and_then(|text| node(text, &mut Report::default()));
    let trigger = trigger.and_then(|trigger| trigger.declared.webhook.as_deref());
    let layers = [operator.as_ref(), trigger, pack.declared.webhook.as_deref()];
    let source = |key: &&'static str| {
        let (word, node) = read_policy::source_of(key, layers);
        (*key, (word, node.map(|node| node.to_json())))
    };
    read_policy::KEYS.iter().filter(|key| is_key(key)).map(source).collect()
}

/// What the pack says of these keys by itself, as JSON.
pub fn declared(keys: &Map<String, Value>, trigger: Option<&Trigger>, pack: &Pack) -> Map<String, Value> {
    let sources = sources(None, trigger, pack);
    let own = |key: &String| {
        let value = sources.get(key.as_str()).and_then(|(_, value)| value.clone());
        (key.clone(), value.unwrap_or(Value::Null))
    };
    keys.keys().map(own).collect()
}

fn read(text: &str, owner_ref: &str, trigger: Option<&Declared>, pack: &Declared) -> Result<Policy, Report> {
    let mut report = Report::default();
    let policy = node(text, &mut report).and_then(|operator| {
        let layers = (trigger.and_then(|own| own.webhook.as_deref()), pack.webhook.as_deref());
        let start = trigger.map_or(&pack.start, |own| &own.start);
        read_policy::of_operator(owner_ref, &operator, layers.0, layers.1, start, &mut report)
    });
    match policy {
        Some(policy) if report.faults.is_empty() => Ok(policy),
        _ => Err(report),
    }
}

/// JSON is YAML.
fn node(text: &str, report: &mut Report) -> Option<Node> {
    yaml::parse(&Source::new("override", text), &Config::default(), report)
}
