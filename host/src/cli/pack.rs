//! `hookpack pack`: check and test packs, without a host.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Output, Setup,
    compare::{self, Got, GotEvent},
    output,
};
use crate::{
    clock::Clock,
    config::Config,
    pack::{self, Loaded, Pack, cases, diagnostics::Report},
    receive::rehearse,
    registry::Target,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find every fault of a pack, or of every pack in a folder.
    Check(Args),
    /// Run a pack's test cases through the real pipeline, without a server or database.
    Test(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A pack, or a folder of packs.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    let config = setup.config([])?;
    match command {
        Command::Check(args) => check(&config, &args),
        Command::Test(args) => test(&config, &args),
    }
}

/// One pack, or every pack of a folder, named as on the command line.
fn load(folder: &Path, config: &Config) -> Result<Loaded> {
    let shown = folder.to_string_lossy();
    let shown = shown.trim_end_matches('/');
    let of_packs = || {
        std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.path().join("pack.yaml").exists()))
        })
    };
    if !folder.is_dir() {
        bail!("{shown}: there is no such folder");
    }
    if !folder.join("pack.yaml").exists() && of_packs() {
        return pack::load_all(folder, shown, config).map_err(anyhow::Error::msg);
    }
    Ok(match pack::load_one(folder, shown, config) {
        Ok((pack, warnings)) => Loaded { packs: vec![Arc::new(pack)], warnings, ..Loaded::default() },
        Err(refused) => Loaded { refused: vec![refused], ..Loaded::default() },
    })
}

/// What a pack's files are called in reports: as on the command line.
fn shown_name(folder: &Path) -> String {
    folder.to_string_lossy().trim_end_matches('/').to_owned()
}

fn check(config: &Config, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, config)?;
    let mut report = loaded.report();
    for pack in &loaded.packs {
        cases::read(pack, &shown_name(&pack.folder), config, &mut report);
    }
    for refused in &loaded.refused {
        cases::check(&refused.folder, &shown_name(&refused.folder), config, &mut report);
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

/// One case that was run.
struct Ran {
    name: String,
    at: String,
    differences: Vec<String>,
}

fn test(config: &Config, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, config)?;
    let mut report = loaded.report();
    let mut ran = Vec::new();
    for pack in &loaded.packs {
        let cases = cases::read(pack, &shown_name(&pack.folder), config, &mut report);
        ran.extend(cases.iter().map(|case| run_case(pack, case, config)));
    }
    let failed = ran.iter().filter(|ran| !ran.differences.is_empty()).count();
    match args.output {
        Output::Json => {
            let cases: Vec<Value> = ran
                .iter()
                .map(|ran| json!({"name": ran.name, "at": ran.at, "passed": ran.differences.is_empty(), "differences": ran.differences}))
                .collect();
            output::line(&json!({"cases": cases, "passed": ran.len() - failed, "failed": failed, "faults": report.faults}).to_string());
        }
        Output::Text => {
            for fault in &report.faults {
                output::line(&fault.to_string());
            }
            for ran in &ran {
                let mark = if ran.differences.is_empty() { "ok  " } else { "FAIL" };
                output::line(&format!("{mark} {}  ({})", ran.name, ran.at));
                ran.differences.iter().for_each(|difference| output::line(&format!("       {difference}")));
            }
            output::line(&format!(
                "{} passed, {failed} failed, {} faults",
                ran.len() - failed,
                report.faults.len()
            ));
        }
    }
    Ok(if failed == 0 && report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The URL that cases are signed for.
const PUBLIC_URL: &str = "http://127.0.0.1:8080";
const PATH: &str = "/api/v1/webhooks/wh_00000000000000000000000000000000";

fn run_case(pack: &Arc<Pack>, case: &cases::Case, config: &Config) -> Ran {
    let at = format!("{}:{}", case.at.source.name, case.at.line);
    let secrets = cases::secrets(pack);
    let now = Clock::System.now();
    let target = match pack.trigger(&case.target_ref) {
        Some(trigger) => Target::Trigger(trigger.clone()),
        None => Target::Pack(pack.clone()),
    };
    let differences = match case.outgoing(target.policy(), &secrets, PUBLIC_URL, PATH, now) {
        Err(reason) => vec![format!("the request can't be made: {reason}")],
        Ok(outgoing) => {
            let request = case.inbound(&outgoing, PATH, now);
            let rehearsed = rehearse::rehearse(&target, &request, &secrets, PUBLIC_URL, config, now);
            compare::differences(&case.expect, &got(rehearsed))
        }
    };
    Ran { name: case.name.clone(), at, differences }
}

fn got(rehearsed: rehearse::Rehearsed) -> Got {
    let event = |event: &crate::model::NewEvent| GotEvent {
        trigger: event.trigger_ref.clone(),
        payload: serde_json::from_str(&event.payload).unwrap_or_default(),
        key: rehearsed.key.clone(),
    };
    Got {
        status: rehearsed.status,
        outcome: Some(rehearsed.outcome),
        events: rehearsed.events.iter().map(event).collect(),
        detail: rehearsed.detail,
        body: rehearsed.answer,
    }
}
