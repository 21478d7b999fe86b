//! `hookpack audit`: what operators changed.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::{
    Setup,
    list::{Rows, query, show, text},
    output,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Done to this only: a ref, a name, an id.
    #[arg(long)]
    subject: Option<String>,
    /// Of this kind only: `secret.set`, `webhook.pause`, …
    #[arg(long)]
    action: Option<String>,
    #[command(flatten)]
    rows: Rows,
}

pub(super) async fn run(setup: &Setup, args: Args) -> Result<ExitCode> {
    let query = query([("subject", args.subject), ("action", args.action)]);
    let row = |entry: &Value| {
        let detail = output::clipped(&entry["detail"].to_string(), 100);
        let told = ["at", "actor", "source_ip", "action", "subject"].map(|name| text(&entry[name]));
        told.into_iter().chain([detail]).collect()
    };
    let head = ["AT", "BY", "FROM", "ACTION", "SUBJECT", "DETAIL"];
    show(setup, "/audit", query, args.rows, &head, row).await
}
