//! The built-in presets: how known senders sign and name their deliveries, as data.

use std::sync::{Arc, LazyLock};

use super::{
    diagnostics::{Report, Source, suggestion},
    read_verify,
    yaml::{self, Node, Yaml},
};
use crate::{config::Config, verify::protection::Protection};

/// One sender.
#[derive(Clone, Debug)]
pub struct Preset {
    pub name: String,
    pub title: String,
    /// The sender's own documentation of its webhooks.
    pub docs: String,
    /// Where it says what happened.
    pub kind: Option<String>,
    /// Other services that sign in the same way.
    pub senders: Vec<String>,
    /// For the person who sets it up.
    pub notes: Option<String>,
    /// What becomes of a repeated delivery, where that needs a word.
    pub duplicates: Option<String>,
    /// What a trigger's `webhook` starts from.
    pub webhook: Node,
}

/// Values for whatever a preset takes from `params`: what is signed does not depend on them.
const PARAMS: &str = "{webhook_id: x, public_key: x, audience: x, email: x}";

impl Preset {
    /// What a request of this sender is protected by.
    pub fn protects(&self) -> Option<Protection> {
        let report = &mut Report::default();
        let params = yaml::parse(&Source::new("params", PARAMS), &Config::default(), report)?;
        let verify = read_verify::verify(self.webhook.get("verify")?, Some(&params), report)?;
        Some(verify.protects())
    }
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
        let senders = node.get("senders").and_then(Node::as_str).unwrap_or_default();
        let maybe = |key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
        Some(Preset {
            name: key.text,
            title: text(&node, "title"),
            docs: text(&node, "docs"),
            kind: maybe("type"),
            senders: senders.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
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

/// What to say of a name that no preset has: the preset of a service that signs in the same way, else the nearest name.
pub fn suggest(name: &str) -> String {
    match PRESETS.iter().find(|preset| preset.senders.iter().any(|sender| sender == name)) {
        Some(preset) => format!("`{name}` signs as `{}` does", preset.name),
        None => suggestion(name, &names()),
    }
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

    #[test]
    fn what_a_sender_does_not_sign_is_no_secret() {
        let weak = |preset: &Preset| {
            let protection = preset.protects().unwrap();
            (protection != Protection::Body).then(|| (preset.name.clone(), protection.word()))
        };
        let weak: Vec<_> = all().iter().filter_map(weak).collect();
        let weak: Vec<(&str, &str)> = weak.iter().map(|(name, word)| (name.as_str(), *word)).collect();
        assert_eq!(
            weak,
            [
                ("gitlab", "token only"),
                ("paypal", "checksum of the body"),
                ("braintree", "parts of the body"),
                ("adyen", "parts of the body"),
                ("telegram", "token only"),
                ("mailgun", "no payload"),
                ("sns", "parts of the body"),
                ("pubsub-push", "token only"),
                ("figma", "token only"),
                ("msgraph", "token only"),
                ("okta", "token only"),
            ]
        );
    }
}
