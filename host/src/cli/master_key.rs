//! `hookpack master-key`: another key, and what it seals.

use std::process::ExitCode;

use anyhow::Result;
use http::Method;
use serde_json::Value;

use super::{
    Output, Setup,
    client::{Client, ClientArgs},
    output,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make another key in the host's key file, and seal everything with it.
    Rotate(Args),
    /// Seal everything with the first key of the file, or of the setting: after you put one in front.
    Reseal(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    client: ClientArgs,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(setup: &Setup, command: Command) -> Result<ExitCode> {
    let (action, args) = match command {
        Command::Rotate(args) => ("rotate", args),
        Command::Reseal(args) => ("reseal", args),
    };
    let client = Client::new(setup, args.client)?;
    let answer = client.call(Method::POST, &format!("/master-key/{action}"), &Value::Null).await?;
    if args.output == Output::Json {
        output::line(&answer.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let resealed = &answer["data"];
    output::line(&format!(
        "sealed anew: {} endpoint keys, {} versions of secrets",
        resealed["endpoint_keys"], resealed["secrets"]
    ));
    if resealed["unreadable"] != 0 {
        let left = &resealed["unreadable"];
        output::line(&format!("{left} were sealed with a key that this host has not, and stay as they are"));
    }
    Ok(ExitCode::SUCCESS)
}
