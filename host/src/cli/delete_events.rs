//! `hookpack events rm`: deletes events for good, one or all that a filter selects.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::{Result, bail};
use http::Method;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Output, Setup,
    client::{AskArgs, Client},
    list::{query, text},
    output,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// These events. Without ids, the options say which, and at least one option is needed.
    #[arg(value_name = "ID", conflicts_with_all = ["trigger", "key", "contains", "since", "until"])]
    ids: Vec<Uuid>,
    /// Of this trigger only.
    #[arg(long, value_name = "REF")]
    trigger: Option<String>,
    /// With this idempotency key only.
    #[arg(long)]
    key: Option<String>,
    /// Whose payload contains this JSON document: {"email": "ada@example.com"}
    #[arg(long, value_name = "JSON")]
    contains: Option<String>,
    /// Received then or later, as RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before then, as RFC 3339.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Delete without asking.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Events listed in one call, the most that the API gives.
const PAGE: &str = "500";

pub(super) async fn run(setup: &Setup, args: Args) -> Result<ExitCode> {
    let Args { ids, trigger, key, contains, since, until, yes, ask: AskArgs { client, output } } = args;
    let client = Client::new(setup, client)?;
    let filter = query([
        ("trigger", trigger),
        ("key", key),
        ("contains", contains),
        ("since", since),
        ("until", until),
    ]);
    let ids = match (ids.is_empty(), filter.is_empty()) {
        (false, _) => ids.iter().map(Uuid::to_string).collect(),
        (true, false) => selected(&client, filter).await?,
        (true, true) => {
            bail!("name the events to delete, or an option that selects them, such as --contains")
        }
    };
    if !ids.is_empty() && !yes && !confirmed(ids.len())? {
        return Ok(ExitCode::FAILURE);
    }
    for id in &ids {
        client.call(Method::DELETE, &format!("/events/{id}"), &Value::Null).await?;
    }
    match output {
        Output::Json => output::line(&serde_json::json!({"deleted": ids}).to_string()),
        Output::Text => output::line(&format!("{} deleted", counted(ids.len()))),
    }
    Ok(ExitCode::SUCCESS)
}

/// The ids of all events that the filter selects, page by page.
async fn selected(client: &Client, mut filter: Vec<(&'static str, String)>) -> Result<Vec<String>> {
    filter.push(("limit", PAGE.to_owned()));
    let mut ids = Vec::new();
    loop {
        let page = client.get("/events", &filter).await?;
        ids.extend(page["data"].as_array().into_iter().flatten().map(|event| text(&event["id"])));
        filter.retain(|(name, _)| *name != "cursor");
        match page["next_cursor"].as_str() {
            Some(cursor) => filter.push(("cursor", cursor.to_owned())),
            None => return Ok(ids),
        }
    }
}

fn counted(events: usize) -> String {
    format!("{events} event{}", if events == 1 { "" } else { "s" })
}

/// Asks a person; a script has to say `--yes`.
fn confirmed(events: usize) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{} would be deleted for good: add --yes", counted(events));
    }
    output::prompt(&format!("Delete {} for good? [y/N] ", counted(events)));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
