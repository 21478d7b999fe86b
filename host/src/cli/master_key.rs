//! `hookpack master-key`: another key, and what it seals.

use std::process::ExitCode;

use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::{Setup, client::AskArgs, output};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make another key in the host's key file, and seal everything with it.
    Rotate(AskArgs),
    /// Seal everything with the first key of the file, or of the setting: after you put one in front.
    Reseal(AskArgs),
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    let (action, ask) = match command {
        Command::Rotate(ask) => ("rotate", ask),
        Command::Reseal(ask) => ("reseal", ask),
    };
    ask.ask(setup, (Method::POST, &format!("/master-key/{action}"), Value::Null), tell).await
}

fn tell(answer: &Value) {
    let resealed = &answer["data"];
    output::line(&format!(
        "sealed anew: {} endpoint keys, {} versions of secrets",
        resealed["endpoint_keys"], resealed["secrets"]
    ));
    if resealed["unreadable"] != 0 {
        let left = &resealed["unreadable"];
        output::line(&format!("{left} were sealed with a key that this host has not, and stay as they are"));
    }
}
