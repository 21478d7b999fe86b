//! `hookpack pack check`

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{Args, load, shown_name};
use crate::{
    cli::{Output, output},
    pack::{Loaded, Reader, cases, diagnostics::Report},
};

pub(super) fn run(reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, reader)?;
    let mut report = loaded.report();
    for pack in &loaded.packs {
        cases::read(pack, &shown_name(&pack.folder), reader.limits, &mut report);
    }
    for refused in &loaded.refused {
        cases::check(&refused.folder, &shown_name(&refused.folder), reader.limits, &mut report);
    }
    report.sort();
    match args.output {
        Output::Json => output::line(&json!(report).to_string()),
        Output::Text => told(&loaded, &report),
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(loaded: &Loaded, report: &Report) {
    for fault in &report.faults {
        output::line(&fault.to_string());
    }
    for warning in &report.warnings {
        output::line(&format!("warning: {warning}"));
    }
    let (packs, faults) = (loaded.packs.len() + loaded.refused.len(), report.faults.len());
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    output::line(&format!(
        "{}, {}, {}",
        count(packs, "pack"),
        count(faults, "fault"),
        count(report.warnings.len(), "warning")
    ));
}
