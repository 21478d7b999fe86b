//! `hookpack quarantine`: authentic requests that their pack could make nothing of, and their second chance.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::ValueEnum;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Output, Setup,
    client::{AskArgs, Client},
    list::{Rows, query, show, text},
    output,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List kept requests, the newest first.
    List(ListArgs),
    /// Show one in full: headers without credentials, body, what it failed on.
    Show(OneArgs),
    /// Send one, or all that wait, through the pack as it is now; each becomes an event once, however often it is asked for.
    Replay(ReplayArgs),
    /// Delete one.
    Rm(OneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// For this trigger only.
    #[arg(long, value_name = "REF")]
    trigger: Option<String>,
    /// For this reason only: `schema_violation`, `mapping_failed`
    #[arg(long)]
    cause: Option<String>,
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// Those that wait.
    Open,
    /// Those that have become events, or were stored already.
    Replayed,
}

#[derive(Debug, clap::Args)]
pub(super) struct OneArgs {
    /// As `list` shows it.
    id: Uuid,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// This one. Default: all that wait, and that the options allow.
    #[arg(conflicts_with_all = ["trigger", "cause", "since", "until"])]
    id: Option<Uuid>,
    /// For this trigger only.
    #[arg(long, value_name = "REF")]
    trigger: Option<String>,
    /// That failed for this reason only.
    #[arg(long)]
    cause: Option<String>,
    /// Received then or later, as RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before then, as RFC 3339.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Requests of one call, the most that the API takes. Each call is a line of the audit trail.
const CHUNK: u16 = 500;

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    match command {
        Command::List(args) => all(setup, args).await,
        Command::Show(OneArgs { id, ask }) => {
            let call = (Method::GET, &*format!("/quarantine/{id}"), Value::Null);
            ask.ask(setup, call, |answer| output::fields(&answer["data"])).await
        }
        Command::Replay(args) => match args.id {
            Some(id) => replay(setup, id, args).await,
            None => replay_all(setup, args).await,
        },
        Command::Rm(OneArgs { id, ask }) => {
            let call = (Method::DELETE, &*format!("/quarantine/{id}"), Value::Null);
            ask.ask(setup, call, |_| output::line("deleted")).await
        }
    }
}

async fn all(setup: &Setup, args: ListArgs) -> Result<ExitCode> {
    let state = args.state.map(|state| match state {
        State::Open => "open".to_owned(),
        State::Replayed => "replayed".to_owned(),
    });
    let query = query([("trigger", args.trigger), ("cause", args.cause), ("state", state)]);
    let row = |kept: &Value| {
        let [id, received, trigger, cause] =
            ["id", "received_at", "trigger_ref", "cause"].map(|name| text(&kept[name]));
        let became = match kept["state"].as_str() {
            Some("replayed") => format!("{} {}", text(&kept["outcome"]), text(&kept["event_id"])),
            _ => output::clipped(&text(&kept["detail"]), 100),
        };
        vec![received, trigger, id, cause, became]
    };
    show(setup, "/quarantine", query, args.rows, &["RECEIVED", "TRIGGER", "ID", "CAUSE", "DETAIL"], row).await
}

/// One; a failure when it is still in quarantine afterwards.
async fn replay(setup: &Setup, id: Uuid, args: ReplayArgs) -> Result<ExitCode> {
    let AskArgs { client, output } = args.ask;
    let client = Client::new(setup, client)?;
    let answer = client.call(Method::POST, &format!("/quarantine/{id}/replay"), &Value::Null).await?;
    let replayed = &answer["data"];
    match output {
        Output::Json => output::line(&answer.to_string()),
        Output::Text => {
            let became = replayed["event_id"].as_str().or(replayed["detail"].as_str()).unwrap_or_default();
            output::line(&format!("{}: {became}", text(&replayed["outcome"])));
        }
    }
    Ok(if replayed["state"] == "replayed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Chunk by chunk, until none is left; a failure when any is still in quarantine afterwards.
async fn replay_all(setup: &Setup, args: ReplayArgs) -> Result<ExitCode> {
    let ReplayArgs { trigger, cause, since, until, ask: AskArgs { client, output }, .. } = args;
    let client = Client::new(setup, client)?;
    let mut body =
        json!({"trigger": trigger, "cause": cause, "since": since, "until": until, "limit": CHUNK});
    let (began, mut total) = (Instant::now(), [0; 3]);
    loop {
        let answer = client.call(Method::POST, "/quarantine/replay", &body).await?;
        let chunk = &answer["data"];
        for (sum, name) in total.iter_mut().zip(["replayed", "duplicates", "still_failing"]) {
            *sum += chunk[name].as_u64().unwrap_or_default();
        }
        let [replayed, duplicates, failing] = total;
        match output {
            Output::Json => output::line(&answer.to_string()),
            Output::Text => output::line(&format!(
                "{replayed} replayed, {duplicates} stored before, {failing} still failing, {}",
                left(chunk["left"].as_u64().unwrap_or_default(), total.iter().sum(), began.elapsed())
            )),
        }
        if chunk["next_cursor"].is_null() {
            return Ok(if failing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        body["cursor"] = chunk["next_cursor"].clone();
    }
}

/// How many are left, and how long they take at the pace of those that are done.
fn left(left: u64, done: u64, took: Duration) -> String {
    if left == 0 || done == 0 {
        return format!("{left} left");
    }
    let seconds = u128::from(left) * took.as_millis() / u128::from(done) / 1000;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{left} left (about {seconds} s)"),
        (minutes, seconds) => format!("{left} left (about {minutes} min {seconds} s)"),
    }
}
