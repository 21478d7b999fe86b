//! `hookpack pack check`

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Result;
use serde_json::{Value, json};

use super::{explain, load, shown_name};
use crate::{
    cli::{Output, output},
    mapping::Mapping,
    pack::{Loaded, Reader, cases, diagnostics::Report},
    wasm::About,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A pack, or a folder of packs.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Say in words what each trigger demands of its sender, with a request that it accepts.
    #[arg(long, conflicts_with = "output")]
    explain: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, reader)?;
    let mut report = loaded.report();
    for pack in loaded.packs() {
        let cases = cases::read(pack, &shown_name(&pack.path), reader.limits, &mut report);
        if args.explain {
            explain::explain(pack, &cases);
        }
    }
    for refused in loaded.refused() {
        cases::check(&refused.path, &shown_name(&refused.path), reader.limits, &mut report);
    }
    report.sort();
    match args.output {
        Output::Json => {
            let Report { faults, warnings } = &report;
            let mappers: Vec<_> = mappers(&loaded).map(|mapper| shown(&mapper)).collect();
            let report = json!({"faults": faults, "warnings": warnings, "mappers": mappers});
            output::line(&report.to_string());
        }
        Output::Text => told(&loaded, &report),
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A mapper's file, as people know it, and what it is.
struct Found<'a> {
    file: String,
    about: &'a About,
}

/// Every mapper once, however many triggers use it.
fn mappers(loaded: &Loaded) -> impl Iterator<Item = Found<'_>> {
    let mut found = BTreeMap::new();
    for pack in loaded.packs() {
        for trigger in &pack.triggers {
            if let Mapping::Wasm(mapper) = &trigger.mapping {
                let file = format!("{}/{}", shown_name(&pack.path), mapper.file);
                found.insert(file, &mapper.program.about);
            }
        }
    }
    found.into_iter().map(|(file, about)| Found { file, about })
}

fn shown(Found { file, about }: &Found<'_>) -> Value {
    json!({
        "file": file,
        "bytes": about.bytes,
        "sha256": hex::encode(about.sha256),
        // None, or it would not have loaded.
        "imports": [],
        "interface": about.interface,
        "producers": about.producers,
        "compile_ms": about.compiled.map(|took| took.as_millis()),
    })
}

fn told(loaded: &Loaded, report: &Report) {
    for Found { file, about } in mappers(loaded) {
        let compiled =
            about.compiled.map_or_else(String::new, |took| format!(", compiled in {} ms", took.as_millis()));
        let (bytes, interface) = (about.bytes, &about.interface);
        output::line(&format!("{file}: {bytes} bytes, no imports, hookpack:mapper {interface}{compiled}"));
    }
    for fault in &report.faults {
        output::line(&fault.to_string());
    }
    for warning in &report.warnings {
        output::line(&format!("warning: {warning}"));
    }
    let (packs, faults) = (loaded.standings.len(), report.faults.len());
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    output::line(&format!(
        "{}, {}, {}",
        count(packs, "pack"),
        count(faults, "fault"),
        count(report.warnings.len(), "warning")
    ));
}
