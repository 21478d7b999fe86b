//! `hookpack pack test`

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
};

use anstyle::AnsiColor;
use anyhow::Result;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::{bless, build, load, shown_name};
use crate::{
    cli::{
        Output,
        compare::{self, Difference, Got, GotEvent},
        output,
    },
    config::{Config, Environment},
    mapping::Mapping,
    pack::{Pack, Reader, cases, diagnostics::Report},
    receive::rehearse,
    registry::Target,
    request::Inbound,
    watch::Tree,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A pack, or a folder of packs.
    #[arg(value_name = "DIR")]
    folder: std::path::PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// The same as `--output json`.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Write what came into the cases that failed: read the change before you keep it.
    #[arg(long)]
    bless: bool,
    /// Run again whenever a file of the pack is saved; a Rust mapper is built first.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// One case that was run.
struct Ran {
    pack: Arc<Pack>,
    case: cases::Case,
    got: Option<Got>,
    differences: Vec<Difference>,
}

impl Ran {
    fn passed(&self) -> bool {
        self.differences.is_empty()
    }

    fn at(&self) -> String {
        format!("{}:{}", self.case.at.source.name, self.case.at.line)
    }
}

/// All cases of all packs, once.
struct Round {
    ran: Vec<Ran>,
    report: Report,
}

pub(super) async fn run(environment: &Environment, reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    if args.watch {
        return watch(environment, reader, args).await;
    }
    let round = settled(reader, args).await?;
    Ok(if round.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Round after round, each as soon as something was saved; ends when the author does.
async fn watch(environment: &Environment, reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    let watch = Tree::start(&args.folder)?;
    settled(reader, args).await?;
    loop {
        if args.bless {
            // What was just written here is no news.
            watch.so_far();
        }
        output::line(&format!("watching {} (Ctrl-C ends)", args.folder.display()));
        let changed = watch.changed()?;
        for source in build::rust_sources(&changed) {
            if let Err(error) = build::rust(environment, &source) {
                output::error(&format!("{error:#}"));
            }
        }
        output::line("");
        if let Err(error) = settled(reader, args).await {
            output::error(&format!("{error:#}"));
        }
    }
}

/// A round, shown; with `--bless` the one after what failed was written down.
async fn settled(reader: Reader<'_>, args: &Args) -> Result<Round> {
    let mut round = round(reader, &args.folder).await?;
    if args.bless {
        let failed = round.ran.iter().filter(|ran| !ran.passed());
        let failed: Vec<_> =
            failed.filter_map(|ran| Some((&*ran.pack, &ran.case, ran.got.as_ref()?))).collect();
        for file in bless::write(&failed)? {
            output::line(&format!("wrote {}", file.display()));
        }
        round = self::round(reader, &args.folder).await?;
    }
    if args.json || args.output == Output::Json {
        output::line(&as_json(&round).to_string());
    } else {
        show(&round);
    }
    Ok(round)
}

async fn round(reader: Reader<'_>, folder: &Path) -> Result<Round> {
    let loaded = load(folder, reader)?;
    let mut report = loaded.report();
    let mut ran = Vec::new();
    for pack in loaded.packs() {
        for case in cases::read(pack, &shown_name(&pack.path), reader.limits, &mut report) {
            ran.push(run_case(pack, case, reader.limits).await);
        }
    }
    Ok(Round { ran, report })
}

impl Round {
    fn failed(&self) -> usize {
        self.ran.iter().filter(|ran| !ran.passed()).count()
    }

    fn passed(&self) -> bool {
        self.failed() == 0 && self.report.faults.is_empty()
    }
}

fn as_json(round: &Round) -> Value {
    let case = |ran: &Ran| {
        json!({
            "name": ran.case.name,
            "at": ran.at(),
            "passed": ran.passed(),
            "differences": ran.differences.iter().flat_map(Difference::lines).collect::<Vec<_>>(),
            "fuel": ran.got.as_ref().and_then(|got| got.fuel),
        })
    };
    json!({
        "cases": round.ran.iter().map(case).collect::<Vec<_>>(),
        "passed": round.ran.len() - round.failed(),
        "failed": round.failed(),
        "faults": round.report.faults,
    })
}

fn show(round: &Round) {
    for fault in &round.report.faults {
        output::line(&fault.to_string());
    }
    for ran in &round.ran {
        let (mark, color) = if ran.passed() { ("ok  ", AnsiColor::Green) } else { ("FAIL", AnsiColor::Red) };
        let fuel = ran
            .got
            .as_ref()
            .and_then(|got| got.fuel)
            .map_or_else(String::new, |fuel| format!("  {fuel} fuel"));
        output::marked(mark, color, &format!(" {}  ({}){fuel}", ran.case.name, ran.at()));
        for line in ran.differences.iter().flat_map(Difference::shown) {
            output::line(&format!("       {line}"));
        }
    }
    let (passed, failed) = (round.ran.len() - round.failed(), round.failed());
    output::line(&format!("{passed} passed, {failed} failed, {} faults", round.report.faults.len()));
}

/// When every case is received: what a mapper sees and what it costs is the same each time.
const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
/// The URL that cases are signed for.
const PUBLIC_URL: &str = "http://127.0.0.1:8080";
const PATH: &str = "/api/v1/webhooks/wh_00000000000000000000000000000000";

async fn run_case(pack: &Arc<Pack>, case: cases::Case, config: &Config) -> Ran {
    let secrets = cases::secrets(pack);
    let target = match pack.trigger(&case.target_ref) {
        Some(trigger) => Target::Trigger(trigger.clone()),
        None => Target::Pack(pack.clone()),
    };
    match case.outgoing(target.policy(), &secrets, PUBLIC_URL, PATH, NOW) {
        Err(reason) => {
            let differences = vec![Difference::Line(format!("the request can't be made: {reason}"))];
            Ran { pack: pack.clone(), case, got: None, differences }
        }
        Ok(outgoing) => {
            let request = Inbound { id: Uuid::nil(), ..case.inbound(&outgoing, PATH, NOW) };
            let before = fuel(&target);
            let rehearsed = rehearse::rehearse(&target, &request, &secrets, PUBLIC_URL, config, NOW).await;
            let used =
                fuel(&target).zip(before).map(|(after, before)| after - before).filter(|used| *used > 0);
            let got = Got { fuel: used, ..got(rehearsed) };
            let differences = compare::differences(&case.expect, &got);
            Ran { pack: pack.clone(), case, got: Some(got), differences }
        }
    }
}

/// What the mappers behind a URL have used so far; `None` when there are none.
fn fuel(target: &Target) -> Option<u64> {
    let mappers = target.triggers().iter().filter_map(|trigger| match &trigger.mapping {
        Mapping::Wasm(mapper) => Some(mapper.record.fuel.load(Ordering::Relaxed)),
        Mapping::Nothing | Mapping::Fields(_) | Mapping::Template(_) => None,
    });
    mappers.reduce(|all, one| all + one)
}

fn got(rehearsed: rehearse::Rehearsed) -> Got {
    let event = |event: &crate::model::NewEvent| GotEvent {
        trigger: event.trigger_ref.clone(),
        payload: serde_json::from_str(&event.payload).unwrap_or_default(),
        key: event.key.clone().or_else(|| rehearsed.key.clone()),
    };
    Got {
        status: rehearsed.status,
        outcome: Some(rehearsed.outcome),
        events: rehearsed.events.iter().map(event).collect(),
        detail: rehearsed.detail,
        body: rehearsed.answer,
        fuel: None,
    }
}
