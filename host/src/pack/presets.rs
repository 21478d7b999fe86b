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
    /// What a trigger's `webhook` starts from.
    pub webhook: Node,
}

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let source: Arc<Source> = Source::new("presets.yaml (built in)", include_str!("../verify/presets.yaml"));
    let mut report = Report::default();
    let Some(Node { value: Yaml::Map(rows), .. }) = yaml::parse(&source, &Config::default(), &mut report)
    else {
        return Vec::new();
    };
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).unwrap_or_default().to_owned();
    let preset = |(key, node): (yaml::Key, Node)| {
        let webhook = node.get("webhook")?.clone();
        Some(Preset { name: key.text, title: text(&node, "title"), docs: text(&node, "docs"), webhook })
    };
    rows.into_iter().filter_map(preset).collect()
});

pub fn all() -> &'static [Preset] {
    &PRESETS
}

pub fn get(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

pub fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name.as_str()).collect()
}
