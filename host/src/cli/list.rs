//! `hookpack packs`, `triggers`, `events`, `requests`: what a running host has.

use std::{collections::VecDeque, process::ExitCode, time::Duration};

use anyhow::Result;
use http::Method;
use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Output, Setup,
    client::{AskArgs, Client, Unreachable},
    delete_events, output,
};
use crate::pack::diagnostics::Fault;

#[derive(Debug, clap::Args)]
pub(super) struct PacksArgs {
    /// Go on showing what changes.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct TriggersArgs {
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    /// Show this one in full.
    #[arg(value_name = "ID", conflicts_with_all = ["trigger", "key", "follow"])]
    id: Option<Uuid>,
    /// Show what its delivery would become now, and where that differs; nothing is stored.
    #[arg(long, requires = "id")]
    remap: bool,
    /// Of this trigger only.
    #[arg(long, value_name = "REF")]
    trigger: Option<String>,
    /// With this idempotency key only.
    #[arg(long)]
    key: Option<String>,
    /// Whose payload contains this JSON document only: `{"status": "paid"}`
    #[arg(long, value_name = "JSON", conflicts_with = "follow")]
    contains: Option<String>,
    #[command(flatten)]
    period: Period,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, clap::Subcommand)]
enum EventsCommand {
    /// Delete events for good, with the requests that are kept of them: one, or all that the options select.
    Rm(delete_events::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct RequestsArgs {
    /// Show this one in full: senders hear the id as `X-Request-Id`.
    #[arg(value_name = "ID", conflicts_with_all = ["trigger", "status", "outcome", "follow"])]
    id: Option<Uuid>,
    /// To this trigger (or pack endpoint) only.
    #[arg(long, value_name = "REF")]
    trigger: Option<String>,
    /// Answered with this status only.
    #[arg(long)]
    status: Option<u16>,
    /// Ended so only: accepted, `bad_signature`, …
    #[arg(long)]
    outcome: Option<String>,
    #[command(flatten)]
    period: Period,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, clap::Args)]
struct Period {
    /// Received then or later, as RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before then, as RFC 3339.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rows {
    /// How many to show (at most 500).
    #[arg(long, default_value_t = 20)]
    limit: u16,
    /// The next page: the `next_cursor` of the page before (in its JSON).
    #[arg(long, value_name = "CURSOR", conflicts_with = "follow")]
    cursor: Option<String>,
    /// Go on showing new ones, the newest last.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn packs(setup: &Setup, args: PacksArgs) -> Result<ExitCode> {
    let PacksArgs { follow, ask: AskArgs { client, output } } = args;
    let client = Client::new(setup, client)?;
    let mut answer = client.get("/packs", &[]).await?;
    match output {
        Output::Json if follow => list(&answer).iter().for_each(|pack| output::line(&pack.to_string())),
        Output::Json => output::line(&answer.to_string()),
        Output::Text => show_packs(&answer),
    }
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        sleep(Duration::from_secs(1)).await;
        // A host that restarts has as much to tell as one that reloads.
        let Ok(now) = client.get("/packs", &[]).await else { continue };
        for pack in changed(&answer, &now) {
            match output {
                Output::Json => output::line(&pack.to_string()),
                Output::Text => {
                    output::row(&pack_row(&pack));
                    faults(&pack).for_each(|fault| output::line(&fault));
                }
            }
        }
        answer = now;
    }
}

fn show_packs(answer: &Value) {
    let packs = list(answer);
    output::table(&["PACK", "VERSION", "STATE", "LOADED", "TRIGGERS", "FOLDER"], packs.iter().map(pack_row));
    packs.iter().flat_map(faults).for_each(|fault| output::line(&fault));
    let watch = &answer["watch"];
    if let Some(fault) = watch["folder_fault"].as_str() {
        output::line(&format!("{fault}; what runs keeps running"));
    }
    if let Some(fault) = watch["fault"].as_str() {
        output::line(&format!("the host polls for changes: {fault}"));
    }
}

fn pack_row(pack: &Value) -> Vec<String> {
    let state = match pack["state"].as_str() {
        Some("live_newer_refused") => match pack["refused"]["version"].as_str() {
            Some(version) if pack["version"] != version => format!("live, {version} refused"),
            _ => "live, newer refused".to_owned(),
        },
        _ => text(&pack["state"]),
    };
    let state = if pack["changing"] == true { format!("{state}, changing") } else { state };
    let since = if pack["state"] == "removed" { &pack["removed_at"] } else { &pack["loaded_at"] };
    let triggers = pack["triggers"].as_array().map_or(0, Vec::len);
    let (reference, version, folder) = (text(&pack["ref"]), text(&pack["version"]), text(&pack["folder"]));
    vec![reference, version, state, text(since), triggers.to_string(), folder]
}

fn faults(pack: &Value) -> impl Iterator<Item = String> {
    let read = |fault: &Value| serde_json::from_value::<Fault>(fault.clone()).ok();
    list_of(&pack["faults"]).iter().filter_map(read).map(|fault| fault.to_string())
}

/// What of the packs is not as it was. What ran and went is among the removed; what never ran is just gone.
fn changed(before: &Value, now: &Value) -> Vec<Value> {
    let fresh = list(now).iter().filter(|pack| !list(before).contains(pack)).cloned();
    let is_there = |folder: &Value| list(now).iter().any(|pack| pack["folder"] == *folder);
    let gone = list(before).iter().filter(|pack| pack["state"] == "refused" && !is_there(&pack["folder"]));
    let gone = gone.map(|pack| {
        let mut pack = pack.clone();
        pack["state"] = "gone".into();
        pack["faults"] = Value::Array(Vec::new());
        pack
    });
    fresh.chain(gone).collect()
}

pub(super) async fn triggers(setup: &Setup, TriggersArgs { ask }: TriggersArgs) -> Result<ExitCode> {
    ask.ask(setup, (Method::GET, "/triggers", Value::Null), show_triggers).await
}

fn show_triggers(answer: &Value) {
    let row = |trigger: &Value| {
        let state = if trigger["webhook_enabled"] == true { "enabled" } else { "disabled" };
        vec![
            text(&trigger["ref"]),
            text(&trigger["pack_version"]),
            state.to_owned(),
            text(&trigger["protects"]),
            text(&trigger["webhook_url"]),
        ]
    };
    output::table(&["TRIGGER", "PACK", "WEBHOOK", "PROTECTS", "URL"], list(answer).iter().map(row));
}

pub(super) async fn events(setup: &Setup, args: EventsArgs) -> Result<ExitCode> {
    if let Some(EventsCommand::Rm(args)) = args.command {
        return delete_events::run(setup, args).await;
    }
    if let Some(id) = args.id.filter(|_| args.remap) {
        let call = (Method::POST, &*format!("/events/{id}/remap"), Value::Null);
        return args.rows.ask.ask(setup, call, |answer| output::fields(&answer["data"])).await;
    }
    if let Some(id) = args.id {
        return one(setup, &format!("/events/{id}"), args.rows).await;
    }
    let query = query([
        ("trigger", args.trigger),
        ("key", args.key),
        ("contains", args.contains),
        ("since", args.period.since),
        ("until", args.period.until),
    ]);
    let row = |event: &Value| {
        let payload = output::clipped(&event["payload"].to_string(), 100);
        vec![
            text(&event["received_at"]),
            text(&event["trigger_ref"]),
            text(&event["id"]),
            text(&event["idempotency_key"]),
            payload,
        ]
    };
    let head = ["RECEIVED", "TRIGGER", "ID", "KEY", "PAYLOAD"];
    show(setup, "/events", query, args.rows, &head, row).await
}

pub(super) async fn requests(setup: &Setup, args: RequestsArgs) -> Result<ExitCode> {
    if let Some(id) = args.id {
        return one(setup, &format!("/requests/{id}"), args.rows).await;
    }
    let status = args.status.map(|status| status.to_string());
    let query = query([
        ("trigger", args.trigger),
        ("status", status),
        ("outcome", args.outcome),
        ("since", args.period.since),
        ("until", args.period.until),
    ]);
    let row = |request: &Value| {
        vec![
            text(&request["received_at"]),
            text(&request["id"]),
            text(&request["trigger_ref"]),
            text(&request["source_ip"]),
            text(&request["status"]),
            text(&request["outcome"]),
            output::clipped(&text(&request["detail"]), 100),
        ]
    };
    let head = ["RECEIVED", "ID", "TRIGGER", "FROM", "STATUS", "OUTCOME", "DETAIL"];
    show(setup, "/requests", query, args.rows, &head, row).await
}

async fn one(setup: &Setup, path: &str, Rows { ask, .. }: Rows) -> Result<ExitCode> {
    ask.ask(setup, (Method::GET, path, Value::Null), |answer| output::fields(&answer["data"])).await
}

pub(super) async fn show(
    setup: &Setup,
    path: &str,
    filter: Vec<(&str, String)>,
    rows: Rows,
    head: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<ExitCode> {
    let Rows { limit, cursor, follow, ask: AskArgs { client, output } } = rows;
    let client = Client::new(setup, client)?;
    let first = |limit: u16| [filter.clone(), vec![("limit", limit.to_string())]].concat();
    let page = [first(limit), query([("cursor", cursor)])].concat();
    let answer = client.get(path, &page).await?;
    if !follow {
        match output {
            Output::Json => output::line(&answer.to_string()),
            Output::Text => output::listing(head, list(&answer).iter().map(row).collect()),
        }
        return Ok(ExitCode::SUCCESS);
    }
    // A row may be committed a little after one that is newer: what was shown is remembered, not only the last.
    let mut seen: VecDeque<String> = VecDeque::new();
    let mut answer = answer;
    loop {
        for item in list(&answer).iter().rev() {
            let id = text(&item["id"]);
            if seen.contains(&id) {
                continue;
            }
            match output {
                Output::Json => output::line(&item.to_string()),
                Output::Text => output::row(&row(item)),
            }
            seen.push_back(id);
            if seen.len() > 2000 {
                seen.pop_front();
            }
        }
        sleep(Duration::from_secs(1)).await;
        // A host that restarts is waited for.
        let mut told = false;
        answer = loop {
            match client.get(path, &first(500)).await {
                Ok(answer) => break answer,
                Err(error) if error.downcast_ref::<Unreachable>().is_some() => {
                    if !told {
                        output::note(&format!("{error}; waiting for it"));
                    }
                    told = true;
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        };
    }
}

pub(super) fn query<const N: usize>(
    pairs: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

pub(super) fn list(answer: &Value) -> &[Value] {
    list_of(&answer["data"])
}

fn list_of(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A string without its quotes; nothing for null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
