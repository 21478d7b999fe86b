//! `hookpack pack test`

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Args, load, shown_name};
use crate::{
    cli::{
        Output,
        compare::{self, Got, GotEvent},
        output,
    },
    clock::Clock,
    config::Config,
    pack::{Pack, Reader, cases},
    receive::rehearse,
    registry::Target,
};

/// One case that was run.
struct Ran {
    name: String,
    at: String,
    differences: Vec<String>,
}

pub(super) async fn run(reader: Reader<'_>, args: &Args) -> Result<ExitCode> {
    let loaded = load(&args.folder, reader)?;
    let mut report = loaded.report();
    let mut ran = Vec::new();
    for pack in &loaded.packs {
        let cases = cases::read(pack, &shown_name(&pack.folder), reader.limits, &mut report);
        for case in &cases {
            ran.push(run_case(pack, case, reader.limits).await);
        }
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

async fn run_case(pack: &Arc<Pack>, case: &cases::Case, config: &Config) -> Ran {
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
            let rehearsed = rehearse::rehearse(&target, &request, &secrets, PUBLIC_URL, config, now).await;
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
