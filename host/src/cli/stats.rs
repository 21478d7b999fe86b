//! `hookpack stats`: how many requests came, how they ended, how long they took.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::{
    Output, Setup,
    client::{AskArgs, Client},
    list::{query, text},
    output,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of this trigger (or pack endpoint) only.
    #[arg(long, value_name = "REF")]
    trigger: Option<String>,
    /// From this day on, as RFC 3339. Default: 30 days ago.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn run(setup: &Setup, args: Args) -> Result<ExitCode> {
    let Args { trigger, since, ask: AskArgs { client, output } } = args;
    let query = query([("trigger", trigger), ("since", since)]);
    let answer = Client::new(setup, client)?.get("/stats", &query).await?;
    match output {
        Output::Json => output::line(&answer.to_string()),
        Output::Text => tell(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(answer: &Value) {
    let stats = &answer["data"];
    let owners = stats["triggers"].as_array().into_iter().flatten();
    let rows = owners.map(|own| row(text(&own["ref"]), own));
    let head = ["TRIGGER", "REQUESTS", "BYTES", "P50 MS", "P95 MS", "P99 MS", "LAST EVENT", "OUTCOMES"];
    output::table(&head, rows.chain([row("all".to_owned(), &stats["total"])]));
    output::line(&format!("since {}", text(&stats["since"])));
}

fn row(name: String, counts: &Value) -> Vec<String> {
    let ms = |quantile: &str| {
        let us = counts["duration_us"][quantile].as_u64().unwrap_or_default();
        format!("{}.{:02}", us / 1000, us % 1000 / 10)
    };
    let outcomes = counts["outcomes"].as_object().into_iter().flatten();
    // What a replay turned into events counts as quarantined, too.
    let replayed =
        counts["replayed"].as_u64().filter(|count| *count > 0).map(|count| format!("replayed {count}"));
    let outcomes = outcomes.map(|(outcome, count)| format!("{outcome} {count}")).chain(replayed);
    let outcomes: Vec<_> = outcomes.collect();
    let [requests, bytes, last] =
        ["requests", "body_bytes", "last_event_at"].map(|field| text(&counts[field]));
    vec![name, requests, bytes, ms("p50"), ms("p95"), ms("p99"), last, outcomes.join(", ")]
}
