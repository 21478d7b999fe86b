//! The built-in presets: how known senders sign and name their deliveries, as data.

use std::sync::{Arc, LazyLock};

use super::{
    diagnostics::{Report, Source},
    yaml::{self, Node, Yaml},
};
use crate::config::Config;

/// One sender.
#[derive(Clone, Debug)]
pub struct Preset {
    pub name: String,
    pub title: String,
    /// The sender's own documentation of its webhooks.
    pub docs: String,
    /// Where it says what happened.
    pub kind: Option<String>,
    /// For the person who sets it up.
    pub notes: Option<String>,
    /// What becomes of a repeated delivery, where that needs a word.
    pub duplicates: Option<String>,
    /// What a trigger's `webhook` starts from.
    pub webhook: Node,
}

/// What the file of presets is called where something points into it.
pub(super) const SOURCE: &str = "presets.yaml (built in)";

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let source: Arc<Source> = Source::new(SOURCE, include_str!("../verify/presets.yaml"));
    let mut report = Report::default();
    let Some(Node { value: Yaml::Map(rows), .. }) = yaml::parse(&source, &Config::default(), &mut report)
    else {
        return Vec::new();
    };
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).unwrap_or_default().to_owned();
    let preset = |(key, node): (yaml::Key, Node)| {
        let webhook = node.get("webhook")?.clone();
        let maybe = |key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        Some(Preset {
            name: key.text,
            title: text(&node, "title"),
            docs: text(&node, "docs"),
            kind: maybe("type"),
            notes: maybe("notes"),
            duplicates: maybe("duplicates"),
            webhook,
        })
    };
    rows.into_iter().filter_map(preset).collect()
});

impl Preset {
    /// The selector of the idempotency key; `None` when the sender gives nothing unique.
    pub fn key(&self) -> Option<&str> {
        self.webhook.get("idempotency")?.get("key")?.as_str()
    }
}

pub fn all() -> &'static [Preset] {
    &PRESETS
}

pub fn get(name: &str) -> Option<&'static Preset> {
    let name = name.replace('_', "-");
    PRESETS.iter().find(|preset| preset.name == name)
}

pub fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name.as_str()).collect()
}

/// What stands under `webhook` of a preset, as it is written.
pub fn text(name: &str) -> String {
    let lines = include_str!("../verify/presets.yaml").lines();
    let own = lines.skip_while(|line| line.strip_suffix(':') != Some(name)).skip(1);
    let own = own.take_while(|line| line.is_empty() || line.starts_with(' '));
    let webhook =
        own.skip_while(|line| *line != "  webhook:").skip(1).take_while(|line| line.starts_with("    "));
    webhook.map(|line| format!("{}\n", &line[2..])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_there_whole() {
        assert!(all().len() > 45);
        for preset in all() {
            assert!(!preset.title.is_empty() && preset.docs.starts_with("https://"), "{}", preset.name);
            assert!(text(&preset.name).starts_with("  verify:\n"), "{}", preset.name);
            assert_eq!(get(&preset.name.replace('-', "_")).unwrap().name, preset.name);
        }
    }

    #[test]
    fn a_preset_without_a_key_of_the_sender_says_what_becomes_of_duplicates() {
        for preset in all() {
            let given = preset.key().is_some_and(|key| key != "sha256({body})" && key != "$.bt_signature");
            assert!(given || preset.duplicates.is_some(), "{}", preset.name);
        }
    }
}
