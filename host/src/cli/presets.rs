//! `hookpack presets`: the senders that are built in.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use super::{Output, output};
use crate::{
    pack::presets::{self, Preset},
    verify::protection::Protection,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show this one, as what stands under a trigger's `webhook`.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match (&args.name, args.output) {
        (None, Output::Json) => {
            let rows: Vec<_> = presets::all().iter().map(as_json).collect();
            output::line(&json!({ "data": rows }).to_string());
        }
        (None, Output::Text) => {
            let row = |preset: &Preset| {
                let protects = preset.protects().map_or("", Protection::word).to_owned();
                vec![preset.name.clone(), preset.title.clone(), protects, preset.docs.clone()]
            };
            output::table(&["PRESET", "SENDER", "PROTECTS", "DOCUMENTATION"], presets::all().iter().map(row));
        }
        (Some(name), kind) => {
            let Some(preset) = presets::get(name) else {
                bail!("there is no preset `{name}`; {}", presets::suggest(name));
            };
            match kind {
                Output::Json => output::line(&as_json(preset).to_string()),
                Output::Text => show(preset),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(preset: &Preset) -> serde_json::Value {
    json!({
        "name": preset.name,
        "title": preset.title,
        "docs": preset.docs,
        "type": preset.kind,
        "senders": preset.senders,
        "notes": preset.notes,
        "duplicates": preset.duplicates,
        "protects": preset.protects().map(Protection::word),
        "webhook": preset.webhook.to_json(),
    })
}

fn show(preset: &Preset) {
    output::line(&format!("# {}\n# {}", preset.title, preset.docs));
    if let Some(kind) = &preset.kind {
        output::line(&format!("# what happened: {kind}"));
    }
    if !preset.senders.is_empty() {
        output::line(&format!("# so do: {}", preset.senders.join(", ")));
    }
    if let Some(notes) = &preset.notes {
        output::line(&format!("# {notes}"));
    }
    if let Some(duplicates) = &preset.duplicates {
        output::line(&format!("# duplicates: {duplicates}"));
    }
    if let Some(protection) = preset.protects() {
        let more = protection.warning().map_or_else(String::new, |warning| format!(": {warning}"));
        output::line(&format!("# protected: {}{more}", protection.word()));
    }
    output::line("webhook:");
    // As it is written in the table of presets, comments and all.
    presets::text(&preset.name).lines().for_each(output::line);
}
